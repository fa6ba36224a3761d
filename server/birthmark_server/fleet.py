"""What operators ask of the fleet: which devices, in which groups, and how each one is.

Values only. A `DeviceFilter` is a selection at one moment: relative times ("in 7 days") are made absolute by whoever
builds it. Several filters together select the devices that match all of them.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeAlias

from birthmark_server.domain import DeviceState
from birthmark_wire.errors import DecodeError

MOST_TAGS: Final = 32
"""How many tags one device may have."""

OVERDUE_AT: Final = Fraction(3, 4)
"""At which part of a certificate's life every agent with the usual settings has renewed it (web/api/health.py)."""

_TAG: Final = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}", re.ASCII)
_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)


class NextAction(StrEnum):
    """What comes next. Who acts: the agent by itself, unless it says operator."""

    NONE = "none"
    """It is out for good."""
    READMIT = "operator-readmits"
    """It is revoked: an operator readmits it, or leaves it."""
    RESTORE = "operator-restores"
    """It is in quarantine: an operator restores it, or revokes it."""
    FIRST_CERTIFICATE = "first-certificate"
    """It has its birth certificate, and fetches its first operational one."""
    RENEWAL = "renewal"
    """It renews its certificate at that time."""
    RENEWAL_DUE = "renewal-due"
    """It should have renewed its certificate by now: is it switched on?"""
    RECOVERY = "recovery"
    """Its certificate has expired: it comes back by its birth certificate when it is switched on."""


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices. What is empty or None says nothing; the rest must all hold.

    device_ids: one of these. tags: all of them. issued_by: SHA-256 of CA certificates, one of which issued the
    operational certificate in use. expiring_before: that certificate ends before then (a device without one does not
    match). last_seen_before: no sign of life since then; one that was never seen counts from its enrollment.
    never_rotated: it had one operational certificate at most. next_action: what comes next, as it was at `at`.
    """

    device_ids: tuple[str, ...] = ()
    state: DeviceState | None = None
    model: str = ""
    batch: str = ""
    tags: tuple[str, ...] = ()
    issued_by: tuple[str, ...] = ()
    expiring_before: datetime | None = None
    last_seen_before: datetime | None = None
    never_rotated: bool = False
    next_action: NextAction | None = None
    at: datetime | None = None

    def __post_init__(self) -> None:
        if (self.next_action is None) != (self.at is None):
            raise ValueError("what comes next depends on the time")


Selector: TypeAlias = tuple[DeviceFilter, ...]
"""The devices that all of the filters match; without any, every device. A list and a campaign select by one: what was
asked for, and what a group that was named says at that moment."""


@dataclass(frozen=True, slots=True)
class OperationalCertificate:
    """The certificate that a device lives by: of its unrevoked operational ones, the one that ends last."""

    sha256: str
    issuer_sha256: str
    serial_number: str
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What is known of one device beside its record. agent: as its last hello said; empty if it never said so."""

    tags: tuple[str, ...] = ()
    certificate: OperationalCertificate | None = None
    agent: str = ""
    agent_heard_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A saved query, asked anew each time: who is in it follows from the devices. query: JSON, as it was validated."""

    name: str
    query: str
    saved_by: str
    saved_at: datetime


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What a request with an idempotency key was answered; status 0 while it is still being worked on."""

    request_sha256: str
    status: int
    media_type: str
    body: bytes


def tag(value: str) -> str:
    """Return `value` if it can be a tag; raise DecodeError otherwise."""
    if not _TAG.fullmatch(value):
        raise DecodeError(f"want 1 to 64 of a-z, 0-9, '.', '_', ':' and '-', got {value[:80]!r}", field="tag")
    return value


def group_name(value: str) -> str:
    """Return `value` if it can name a group; raise DecodeError otherwise."""
    if not _GROUP.fullmatch(value):
        raise DecodeError(f"want 1 to 64 of a-z, 0-9 and '-', got {value[:80]!r}", field="group")
    return value


@dataclass(frozen=True, slots=True)
class DaysLeft:
    """Active devices by how long the operational certificate that they live by has left.

    counts: one for each class that was asked for, and one for what is beyond the last. without: have none that stands.
    """

    counts: tuple[int, ...]
    without: int
