"""Messages of applications on their way to the broker: in order, kept until the broker has them.

Each is handed to the session that is open, at most _IN_FLIGHT at a time. When another session takes its place (a new
certificate, a new connection), all that were not acknowledged are handed to that one again, in the same order: at least
once, and nobody's first arrival is ever out of turn.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from birthmark_agent.mqtt import Session, SessionState

_IN_FLIGHT: Final = 20  # Mosquitto's own default: more would only wait in paho


@dataclass(slots=True, eq=False)
class Message:
    """leaf: the topic below `devices/ID/up/`. settled: called once, with whether the broker took it.

    mid: of its PUBLISH in the session that is open, 0 before.
    """

    leaf: str
    payload: bytes
    settled: Callable[[bool], None]
    mid: int = 0


class Outbox:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._session: Session | None = None

    @property
    def empty(self) -> bool:
        """Whether the broker has all of it."""
        return not self._messages

    def put(self, message: Message) -> None:
        """Take a message; pump() sends it."""
        self._messages.append(message)

    def attach(self, session: Session | None) -> None:
        """Send through this session from now on, what the last one left unacknowledged first; None: wait."""
        self._session = session
        for message in self._messages:
            message.mid = 0
        self.pump()

    def pump(self) -> None:
        """Hand over what the session has room for."""
        session = self._session
        if session is None or session.state is not SessionState.LIVE:
            return
        for message in list(islice(self._messages, _IN_FLIGHT)):
            if not message.mid:
                message.mid = session.publish(message.leaf, message.payload).mid

    def published(self, session: Session, mid: int, taken: bool) -> None:
        """Note the broker's word on one PUBLISH; others' are none of ours."""
        if session is not self._session:
            return
        for message in islice(self._messages, _IN_FLIGHT):
            if message.mid == mid:
                self._messages.remove(message)
                message.settled(taken)
                return
