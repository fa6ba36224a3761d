"""What the agent says about itself: a file that `run` writes, and what anybody can read from the disk beside it.

`run` writes status.json when something changes, never per message (flash memory wears), and goes on when the disk is
full. `status` needs neither the TPM nor the network, and works while `run` runs or not.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from birthmark_agent.errors import AgentError, StorageFailed
from birthmark_agent.identity import Identities
from birthmark_agent.job import Job, read_job
from birthmark_agent.schedule import renew_at
from birthmark_agent.slots import Slot

STATUS_FILE: Final = "status.json"
LOCK_FILE: Final = "agent.lock"


class AlreadyRunning(AgentError):
    """The state folder is another agent's just now."""

    code = "already-running"
    advice = "`birthmark-agent status` shows what it does; stop it first, or leave the work to it"


class Phase(StrEnum):
    """What `run` is doing."""

    STARTING = "starting"
    IDENTIFYING = "identifying"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    RENEWING = "renewing"
    WAITING = "waiting"
    STOPPED = "stopped"


@dataclass
class Report:
    """What `run` last said. Times are RFC 3339, UTC; empty where there is none.

    wait_until: when WAITING ends. failure_*: the last failure since the start; current: until the next connection.
    renewal_*: the last attempt; result is `renewed` or the failure's code; serial: of the certificate in use after it,
    empty where that is not on disk yet. renewals: how many of renewal_attempts succeeded since the start. applications:
    who is connected. hook_failure: how the last run of the hook failed.
    """

    phase: str = Phase.STARTING
    since: str = ""
    pid: int = 0
    device_id: str = ""
    broker: str = ""
    session_present: bool = False
    wait_until: str = ""
    failure_at: str = ""
    failure_code: str = ""
    failure_reason: str = ""
    failure_current: bool = False
    renewal_at: str = ""
    renewal_result: str = ""
    renewal_reason: str = ""
    renewal_serial: str = ""
    renewals: int = 0
    renewal_attempts: int = 0
    applications: list[str] = field(default_factory=list)
    hook_failure: str = ""

    @property
    def connected(self) -> bool:
        """Whether the session with the broker was open."""
        return self.phase in {Phase.CONNECTED, Phase.RENEWING}


class StatusBoard:
    """The report of a running agent. Each change is written at once: whole, but without fsync, for after a power cut it
    would be worth nothing anyway."""

    def __init__(self, state: Path) -> None:
        self._path = state / STATUS_FILE
        self.report = Report(pid=os.getpid())

    def phase(self, phase: Phase, now: datetime, **changes: object) -> None:
        """Enter a phase; changes: fields of Report. Once connected, what failed before is overcome."""
        if phase is Phase.CONNECTED:
            changes["failure_current"] = False
        self._change({"phase": phase.value, "since": stamp(now), "wait_until": "", **changes})

    def beside(self, *, applications: list[str], hook_failure: str) -> None:
        """Note what goes on beside the connection, where it differs from what is noted."""
        seen = {"applications": applications, "hook_failure": hook_failure}
        if any(getattr(self.report, name) != value for name, value in seen.items()):
            self._change(seen)

    def failed(self, error: AgentError, now: datetime) -> None:
        """Note a failure."""
        failure = {"failure_at": stamp(now), "failure_code": error.code, "failure_reason": str(error)}
        self._change({**failure, "failure_current": True})

    def renewed(self, now: datetime, *, serial: str) -> None:
        """Note a rotation that is done; serial: the new certificate's."""
        self._renewal(now, "renewed", "", serial=serial, renewals=self.report.renewals + 1)

    def renewal_failed(self, error: AgentError, now: datetime, *, serial: str) -> None:
        """Note a rotation that came to nothing; serial: of the certificate that stays in use."""
        self._renewal(now, error.code, str(error), serial=serial, renewals=self.report.renewals)

    def _renewal(self, now: datetime, result: str, reason: str, *, serial: str, renewals: int) -> None:
        attempts = self.report.renewal_attempts + 1
        changes = {"renewal_at": stamp(now), "renewal_result": result, "renewal_reason": reason}
        self._change({**changes, "renewal_serial": serial, "renewals": renewals, "renewal_attempts": attempts})

    def _change(self, changes: Mapping[str, object]) -> None:
        for name, value in changes.items():
            setattr(self.report, name, value)
        temporary = self._path.with_suffix(".new")
        with suppress(OSError):  # a device whose disk is full goes on; its log has all of it too
            temporary.write_text(json.dumps(asdict(self.report)))
            temporary.replace(self._path)


@dataclass(frozen=True)
class Certificate:
    """A certificate as `status` shows it."""

    serial: str
    not_before: str
    not_after: str
    expired: bool
    slot: str
    renew_at: str


@dataclass(frozen=True)
class LastCommand:
    """The last command that was taken. state: taken, done or failed; code, detail: why it failed. reported: the broker
    has the device's last word on it."""

    job_id: str
    sequence: int
    state: str
    code: str
    detail: str
    reported: bool


@dataclass(frozen=True)
class Status:
    """Everything `status` knows. next_action, next_at: what happens next, and when (empty: now, or never by itself)."""

    device_id: str
    running: bool
    certificate: Certificate | None
    spare: Certificate | None
    born: bool
    clock: str
    now: str
    next_action: str
    next_at: str
    report: Report = field(default_factory=Report)
    command: LastCommand | None = None


def read_status(identities: Identities) -> Status:
    """Read what the disk says. Raise StorageFailed."""
    now = identities.clock.now()
    report, running = read_report(identities), is_running(identities.settings.state)
    certificates = [_certificate(identities, slot, now) for slot in identities.slots.candidates()]
    record = identities.birth_record_on_disk()
    current = certificates[0] if certificates else None
    next_action, next_at = _next(report, running=running, current=current)
    device_id = record.device_id if record else report.device_id
    return Status(
        device_id=device_id,
        running=running,
        certificate=current,
        spare=certificates[1] if len(certificates) > 1 else None,
        born=record is not None,
        clock=identities.clock.state().value,
        now=stamp(now),
        next_action=next_action,
        next_at=next_at,
        command=_last_command(read_job(identities.files, device_id)),
        report=report,
    )


def is_running(state: Path) -> bool:
    """Return whether an agent holds the state folder's lock."""
    try:
        with (state / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


@contextmanager
def hold_lock(state: Path) -> Iterator[None]:
    """Be the one agent of this state folder, for the length of a with block. Raise AlreadyRunning, StorageFailed.

    The lock is the kernel's and dies with the process: no stale one is ever in the way.
    """
    path = state / LOCK_FILE
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(f"another agent works with {state}: process {_pid_in(path) or 'unknown'}") from None
        with suppress(OSError):  # a full disk: `renew` will not find us, all else works
            os.ftruncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode())
        yield
    finally:
        os.close(descriptor)


def running_pid(state: Path) -> int | None:
    """Return the process id of the agent that holds the lock, None where none does."""
    return _pid_in(state / LOCK_FILE) if is_running(state) else None


def stamp(at: datetime) -> str:
    """Return a moment as RFC 3339, UTC, whole seconds."""
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"


def _pid_in(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def read_report(identities: Identities) -> Report:
    """Return the last report; an unreadable one, or another version's, is none."""
    try:
        members = json.loads(identities.files.read(STATUS_FILE) or b"{}")
        return Report(**{item.name: members[item.name] for item in fields(Report) if item.name in members})
    except (ValueError, TypeError):
        return Report()


def _certificate(identities: Identities, slot: Slot, now: datetime) -> Certificate:
    identity = slot.identity
    due = renew_at(
        identity.chain[0],
        not_before=identity.not_before,
        not_after=identity.not_after,
        renewal=identities.settings.renewal,
    )
    return Certificate(
        serial=identity.serial_number,
        not_before=stamp(identity.not_before),
        not_after=stamp(identity.not_after),
        expired=identity.not_after <= now,
        slot=slot.name,
        renew_at=stamp(due),
    )


def _last_command(job: Job | None) -> LastCommand | None:
    if job is None:
        return None
    return LastCommand(job.job_id, job.sequence, job.state.value, job.code, job.detail, job.reported)


def _next(report: Report, *, running: bool, current: Certificate | None) -> tuple[str, str]:
    """Return what happens next, and when."""
    usable = current is not None and not current.expired
    if not running:
        return ("connect when started" if usable else "enroll when started"), ""
    if report.phase == Phase.WAITING:
        return ("connect" if usable else "get a certificate"), report.wait_until
    if report.phase == Phase.CONNECTED and current is not None:
        return "renew", current.renew_at
    return report.phase, ""
