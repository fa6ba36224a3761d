"""Where an enrollment stands between its two requests, as a table. Whatever the table does not name is illegal."""

from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from birthmark_server.domain import PendingEnrollment
from birthmark_server.errors import Refused
from birthmark_server.store.errors import AlreadyConsumed


class ChallengeExpired(Refused):
    """The challenge, or the stored answer, is too old. Begin again."""

    code = "challenge-expired"


class State(StrEnum):
    """Where an enrollment stands, as its record and the clock say."""

    CHALLENGED = "challenged"
    GRANTED = "granted"
    EXPIRED = "expired"


class Event(StrEnum):
    """What can happen to it."""

    PROVEN = "proven"
    DISPROVEN = "disproven"
    REPEATED = "repeated"
    TIMED_OUT = "timed out"


TRANSITIONS: Final = MappingProxyType(
    {
        (State.CHALLENGED, Event.PROVEN): State.GRANTED,
        (State.CHALLENGED, Event.DISPROVEN): State.CHALLENGED,
        (State.CHALLENGED, Event.TIMED_OUT): State.EXPIRED,
        (State.GRANTED, Event.REPEATED): State.GRANTED,
        (State.GRANTED, Event.TIMED_OUT): State.EXPIRED,
    }
)
"""What is absent is illegal. The diagram in docs/protocol.md is drawn from this table."""


def state_of(pending: PendingEnrollment, *, now: datetime) -> State:
    """Return where the enrollment stands at `now`."""
    if pending.answer_expires_at is not None:
        return State.GRANTED if now < pending.answer_expires_at else State.EXPIRED
    return State.CHALLENGED if now < pending.expires_at else State.EXPIRED


def require_legal(state: State, event: Event) -> State:
    """Return the state after `event`; raise what its absence from TRANSITIONS means."""
    after = TRANSITIONS.get((state, event))
    if after is not None:
        return after
    if state is State.GRANTED:
        raise AlreadyConsumed("this enrollment was finished by another request")
    raise ChallengeExpired("this challenge can't be answered any more: begin again")
