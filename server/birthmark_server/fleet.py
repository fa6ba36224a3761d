"""What operators ask of the fleet: which devices, in which groups, and how each one is.

Values only. A `DeviceFilter` is a selection at one moment: relative times ("in 7 days") are made absolute by whoever
builds it. Several filters together select the devices that match all of them.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from birthmark_server.domain import DeviceState
from birthmark_wire.errors import DecodeError

MOST_TAGS: Final = 32
"""How many tags one device may have."""

_TAG: Final = re.compile(r"[a-z0-9][a-z0-9._:-]{0,63}", re.ASCII)
_GROUP: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class DeviceFilter:
    """Which devices. What is empty or None says nothing; the rest must all hold.

    device_ids: one of these. tags: all of them. issued_by: SHA-256 of CA certificates, one of which issued the
    operational certificate in use. expiring_before: that certificate ends before then (a device without one does not
    match). last_seen_before: no sign of life since then; one that was never seen counts from its enrollment.
    never_rotated: it had one operational certificate at most.
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
