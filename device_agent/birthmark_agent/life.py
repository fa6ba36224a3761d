"""A connection that is open with one identity, and its take-over by the next one: make before break.

The successor connects with the same client id; the broker hands it the session and ends the old connection. Until its
CONNACK the old one is untouched, so whatever fails before that fails for the successor alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from birthmark_agent.errors import AgentError
from birthmark_agent.mqtt import Session, SessionState, drive_until, wait_live
from birthmark_agent.slots import Identity, Slot
from birthmark_agent.waitable import Waitable

LIVE_WITHIN_S: Final = 15.0
_FAREWELL_S: Final = 2.0


@dataclass
class Life:
    """slot: what the session was opened with. promoted: False while the disk did not take it as the current one."""

    slot: Slot
    session: Session
    promoted: bool = True


def take_over(
    life: Life, slot: Slot, *, open_session: Callable[[Identity], Session], others: Sequence[Waitable] = ()
) -> None:
    """Let the identity of `slot` take the session of `life` over; then that is what `life` is, not promoted yet.

    open_session: makes a session, not open yet. others: what else is to be served meanwhile. Raise what the new
    connection failed with: then `life` is as it was.
    """
    successor = open_session(slot.identity)
    try:
        successor.open()
        wait_live(successor, timeout_s=LIVE_WITHIN_S, beside=[life.session], others=others)
    except AgentError:
        successor.close(announce=False)
        raise
    pair = [life.session, successor]
    drive_until(pair, lambda: life.session.state is SessionState.CLOSED, timeout_s=_FAREWELL_S, others=others)
    life.session.close(announce=False)  # the broker cut it when the successor took over
    life.slot, life.session, life.promoted = slot, successor, False
