"""Jobs: what devices are told to do, and how far each has come, as a table. What the table does not name is illegal.

A job is for one device. While it is open it is that device's only one. What a campaign is made of are jobs; an operator
can give a device one of its own too.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class JobState(StrEnum):
    """How far a job has come. The last five are its end: exactly one of them is its outcome."""

    WAITING = "waiting"
    """The command is sent, or is about to be; the device has not accepted it."""
    ACCEPTED = "accepted"
    """The device has accepted, and has a nonce for its evidence."""
    ISSUED = "issued"
    """The new certificate is on record and was sent."""
    ACTIVE = "active"
    """The device says that it uses it. Nobody believes that before the broker shows it."""
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class JobEvent(StrEnum):
    """What can happen to a job."""

    ACCEPTS = "the device accepts"
    DEFERS = "the device says later"
    REFUSES = "the device refuses"
    FAILS = "the device fails, or may be issued nothing"
    ISSUED = "a certificate is issued"
    ACTIVE = "the device says active"
    SEEN_LIVE = "the broker shows the new certificate"
    TIMED_OUT = "the deadline passes"
    CANCELLED = "an operator cancels"


_S, _E = JobState, JobEvent

TRANSITIONS: Final = MappingProxyType(
    {
        (_S.WAITING, _E.ACCEPTS): _S.ACCEPTED,
        (_S.WAITING, _E.DEFERS): _S.WAITING,
        (_S.WAITING, _E.REFUSES): _S.REFUSED,
        (_S.WAITING, _E.FAILS): _S.FAILED,
        (_S.WAITING, _E.ISSUED): _S.ISSUED,  # over EST, where the broker is out of the device's reach
        (_S.WAITING, _E.TIMED_OUT): _S.EXPIRED,
        (_S.WAITING, _E.CANCELLED): _S.CANCELLED,
        (_S.ACCEPTED, _E.ACCEPTS): _S.ACCEPTED,
        (_S.ACCEPTED, _E.DEFERS): _S.ACCEPTED,
        (_S.ACCEPTED, _E.REFUSES): _S.REFUSED,
        (_S.ACCEPTED, _E.FAILS): _S.FAILED,
        (_S.ACCEPTED, _E.ISSUED): _S.ISSUED,
        (_S.ACCEPTED, _E.ACTIVE): _S.ACTIVE,  # asked for a second certificate, and uses the first
        (_S.ACCEPTED, _E.TIMED_OUT): _S.EXPIRED,
        (_S.ACCEPTED, _E.CANCELLED): _S.CANCELLED,
        (_S.ISSUED, _E.ACCEPTS): _S.ACCEPTED,  # the power failed before the certificate came: it has another key
        (_S.ISSUED, _E.DEFERS): _S.ISSUED,
        (_S.ISSUED, _E.REFUSES): _S.REFUSED,
        (_S.ISSUED, _E.FAILS): _S.FAILED,
        (_S.ISSUED, _E.ACTIVE): _S.ACTIVE,
        (_S.ISSUED, _E.TIMED_OUT): _S.EXPIRED,
        (_S.ACTIVE, _E.SEEN_LIVE): _S.DONE,
        (_S.ACTIVE, _E.TIMED_OUT): _S.EXPIRED,
    }
)
"""What is absent is illegal, and changes nothing. A job whose certificate is out is not cancelled: the device is about
to use it. The diagram in docs/campaigns.md is drawn from this table."""

ENDED: Final = frozenset({_S.DONE, _S.REFUSED, _S.FAILED, _S.EXPIRED, _S.CANCELLED})


def after(state: JobState, event: JobEvent) -> JobState | None:
    """Return the state after `event`, None where it changes nothing."""
    return TRANSITIONS.get((state, event))


@dataclass(frozen=True, slots=True)
class Job:
    """One job as it is on record.

    sequence: rises with each job of the device. campaign_id: empty for a job of its own. send_at: when the command is
    to be sent (again) if nothing happens, None where there is no use. sends: how often it was. request_sha256: of the
    last CSR that was answered, certificate_sha256: what it was issued; empty before. code, detail: why it stands where
    it stands, of the last thing that went wrong; empty where nothing did. revision: rises with each change.
    """

    job_id: str
    device_id: str
    campaign_id: str
    sequence: int
    state: JobState
    created_by: str
    created_at: datetime
    deadline: datetime
    send_at: datetime | None
    sends: int = 0
    nonce: bytes = b""
    nonce_expires_at: datetime | None = None
    request_sha256: str = ""
    certificate_sha256: str = ""
    code: str = ""
    detail: str = ""
    ended_at: datetime | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be opened; the store gives it its sequence."""

    job_id: str
    device_id: str
    created_by: str
    created_at: datetime
    deadline: datetime
    campaign_id: str = ""


@dataclass(frozen=True, slots=True)
class Retirement:
    """A device says that it uses this certificate; the older ones go when the broker shows it. look_at: when next."""

    device_id: str
    certificate_sha256: str
    serial_number: str
    asked_at: datetime
    look_at: datetime
    looks: int = 0
