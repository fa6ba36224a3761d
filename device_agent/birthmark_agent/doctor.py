"""`birthmark-agent doctor`: look at everything that this device needs, and say what to do about what is wrong.

Changes nothing and takes no session over: while the agent runs, the broker is seen through its eyes; else it gets a
real CONNECT, as its gate judges nothing before (guest.py). Each check stands alone, so one that fails hides none of the
others; they come in the order in which a person would mend them. A TPM that is not there is one finding, not five.
"""

import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from birthmark_agent.clock import ClockState
from birthmark_agent.enrollment import verify_birth_chain
from birthmark_agent.errors import AgentError, TpmError, TpmUnavailable
from birthmark_agent.guest import knock
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.hook import HookFailed
from birthmark_agent.identity import Identities
from birthmark_agent.status import Report, is_running, read_report, stamp
from birthmark_agent.tls import shake_hands_with_itself
from birthmark_agent.tpm.signer import TpmSigner
from birthmark_wire.tpm_templates import STORAGE_KEY_HANDLE

_LEAST_FREE_BYTES: Final = 1 << 20
_LEAST_FREE_FILES: Final = 16
_SOON: Final = timedelta(days=2)


class Level(StrEnum):
    """How a check ended. WARNING: works today."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome. seen: what is. advice: what to do, empty where nothing needs to be done."""

    check: str
    level: Level
    seen: str
    advice: str = ""


def examine(identities: Identities) -> list[Finding]:
    """Run every check."""
    checks: list[tuple[str, Callable[[Identities], Iterator[Finding]]]] = [
        ("state folder", _state_folder),
        ("disk", _disk),
        ("trust anchor", _trust_anchor),
        ("clock", _clock),
        ("TPM", _tpm),
        ("birth certificate", _birth),
        ("certificate", _slots),
        ("server", _server),
        ("broker", _broker),
        ("applications", _applications),
        ("hook", _hook),
        ("agent", _agent),
    ]
    found: list[Finding] = []
    for name, check in checks:
        try:
            found += check(identities)
        except AgentError as error:
            lacks_tpm = isinstance(error, TpmUnavailable) or isinstance(error.__cause__, TpmUnavailable)
            if lacks_tpm and name != "TPM":
                found.append(Finding(name, Level.WARNING, "not looked at without the TPM"))
            else:
                found.append(Finding(name, Level.WRONG, str(error), error.advice))
    return found


def well(found: Sequence[Finding]) -> bool:
    """Return whether nothing is wrong; warnings are not."""
    return all(finding.level is not Level.WRONG for finding in found)


def as_json(found: Sequence[Finding]) -> dict[str, object]:
    """Return what --json prints."""
    checks = [{"check": one.check, "level": one.level.value, "seen": one.seen, "advice": one.advice} for one in found]
    return {"ok": well(found), "checks": checks}


def lines(found: Sequence[Finding]) -> list[str]:
    """Return what a person sees."""
    shown = []
    for one in found:
        shown.append(f"{one.level.value:8} {one.check:18} {one.seen}")
        if one.advice:
            shown.append(f"{'':27} -> {one.advice}")
    wrong = sum(one.level is Level.WRONG for one in found)
    return [*shown, "", "all is well" if not wrong else f"{wrong} thing{'s' if wrong > 1 else ''} to mend"]


# -- the checks


def _state_folder(identities: Identities) -> Iterator[Finding]:
    folder = identities.settings.state
    loose = [path for path in (folder, *sorted(folder.iterdir())) if _mode(path) & 0o077]
    if loose:
        names = " ".join(str(path) for path in loose)
        yield Finding("state folder", Level.WRONG, f"others may read {names}", f"chmod go= {names}")
    owner = folder.stat().st_uid
    if owner != os.geteuid():
        advice = f"run the agent and its commands as that user, or chown -R it to uid {os.geteuid()}"
        yield Finding("state folder", Level.WARNING, f"{folder} belongs to uid {owner}, we are {os.geteuid()}", advice)
    if not loose:
        yield Finding("state folder", Level.OK, f"{folder}, private")


def _disk(identities: Identities) -> Iterator[Finding]:
    space = os.statvfs(identities.settings.state)
    free = space.f_bavail * space.f_frsize
    if free < _LEAST_FREE_BYTES or (space.f_files and space.f_favail < _LEAST_FREE_FILES):
        seen = f"{free // 1024} KiB and {space.f_favail} files free"
        yield Finding("disk", Level.WRONG, seen, "free space: without it no certificate can be renewed")
        return
    identities.probe_disk()
    yield Finding("disk", Level.OK, f"{free >> 20} MiB free, writable")


def _trust_anchor(identities: Identities) -> Iterator[Finding]:
    path, trust, roots = identities.settings.server.anchors, identities.trust, identities.anchors
    if path.exists() and _mode(path) & 0o022:
        yield Finding("trust anchor", Level.WRONG, f"others may write {path}", f"chmod go-w {path}")
    now = identities.clock.now()
    ended = [root for root in roots if root.not_valid_after_utc <= now]
    seen = f"{trust.title}: " + "; ".join(_root_title(root) for root in roots)
    if len(ended) == len(roots):
        yield Finding("trust anchor", Level.WRONG, f"{seen}: expired", "install the root that replaces it")
    elif ended:
        yield Finding("trust anchor", Level.WARNING, f"{seen}: {len(ended)} of them expired")
    else:
        yield Finding("trust anchor", Level.OK, seen)


def _root_title(root: x509.Certificate) -> str:
    """Return name, fingerprint and end: roots that follow each other have one name."""
    fingerprint = root.fingerprint(SHA256()).hex()[:16]
    return f"{root.subject.rfc4514_string()}, SHA-256 {fingerprint}..., until {stamp(root.not_valid_after_utc)}"


def _clock(identities: Identities) -> Iterator[Finding]:
    clock, state = identities.clock, identities.clock.state()
    if state is ClockState.WRONG:
        advice = "set the clock or start NTP; until then the agent asks the server for the time"
        yield Finding("clock", Level.WARNING, f"before {stamp(clock.floor())}, which has certainly passed", advice)
    elif state is ClockState.UNSURE:
        seen = f"{stamp(clock.now())}, but nothing vouches for it"
        yield Finding("clock", Level.OK, f"{seen} (no NTP); at or after {stamp(clock.floor())}")
    else:
        yield Finding("clock", Level.OK, stamp(clock.now()))


def _tpm(identities: Identities) -> Iterator[Finding]:
    with identities.open_tpm() as tpm:
        health, certificates = tpm.health(), tpm.endorsement_certificates()
        seen = f"{health.manufacturer} {health.vendor}, firmware {health.firmware}, TPM {health.revision}"
        yield Finding("TPM", Level.OK, f"{seen}, at {identities.settings.tcti}")
        if health.lockout.active:
            seen = f"in lockout after {health.lockout.failures} failures; our own keys work on"
            advice = f"ends in {health.lockout.recovery_s} s, or: tpm2_dictionarylockout --clear-lockout"
            yield Finding("TPM lockout", Level.WARNING, seen, advice)
        if health.owner_password or health.endorsement_password:
            which = "owner" if health.owner_password else "endorsement"
            yield Finding("TPM hierarchy", Level.WRONG, f"the {which} hierarchy has a password", "tpm2_changeauth")
        if certificates:
            indices = ", ".join(f"0x{index:08x}" for index, _der in certificates)
            yield Finding("EK certificate", Level.OK, f"at {indices}")
        elif identities.settings.ek_template:
            yield Finding("EK certificate", Level.OK, f"none; the manifest lists {identities.settings.ek_template}")
        else:
            advice = "set tpm.ek_template, and have the EK's hash on the server's manifest"
            yield Finding("EK certificate", Level.WRONG, "none in the TPM", advice)
        yield from _storage_key(identities)


def _storage_key(identities: Identities) -> Iterator[Finding]:
    slot = identities.slots.best()
    if slot is None:
        return
    try:
        with identities.open_tpm() as tpm, tpm.load(slot.identity.key_pem):
            yield Finding("storage key", Level.OK, f"0x{STORAGE_KEY_HANDLE:08x} serves")
    except TpmError as error:
        yield Finding("storage key", Level.WRONG, str(error), error.advice)


def _birth(identities: Identities) -> Iterator[Finding]:
    record = identities.birth_record()
    if record is None:
        yield Finding("birth certificate", Level.WRONG, "none", "birthmark-agent enroll")
        return
    verify_birth_chain(
        record.chain,
        spki=TpmSigner.birth(identities.settings.tcti).spki,
        anchors=identities.anchors,
        links=identities.trust.links,
    )
    kept = "on disk and" if identities.birth_record_on_disk() else "not on disk, but"
    with identities.open_tpm() as tpm:
        in_nv = bool(tpm.read_birth_certificate())
    where = f"{kept} in the TPM's NV" if in_nv else "on disk, not in the TPM's NV"
    yield Finding("birth certificate", Level.OK, f"{record.device_id}, for this TPM's birth key; {where}")


def _slots(identities: Identities) -> Iterator[Finding]:
    slots, now = identities.slots.candidates(), identities.clock.now()
    if not slots:
        yield Finding("certificate", Level.WRONG, "none", "birthmark-agent enroll")
        return
    identity = slots[0].identity
    ends = stamp(identity.not_after)
    if identity.not_after <= now:
        yield Finding("certificate", Level.WRONG, f"expired at {ends}", "birthmark-agent enroll, or start the agent")
        return
    shake_hands_with_itself(identity.chain, TpmSigner.operational(identities.settings.tcti, identity.key_pem))
    seen = f"{identity.serial_number} until {ends}, its key in this TPM signs"
    if identity.not_after - now < min(_SOON, (identity.not_after - identity.not_before) / 6):
        advice = "`birthmark-agent status` says why it was not renewed"
        yield Finding("certificate", Level.WARNING, f"{seen}; it should have been renewed", advice)
        return
    yield Finding("certificate", Level.OK, seen)


def _server(identities: Identities) -> Iterator[Finding]:
    with identities.to_server() as connection:
        connection.request("GET", "/healthz")
    url = identities.settings.server.url
    slot = identities.slots.best()
    if slot is None:
        yield Finding("server", Level.OK, f"{url} answers")
        return
    reason = Homecoming(identities).ask_why(slot.identity)
    if reason is None:
        yield Finding("server", Level.OK, f"{url} answers, and accepts our certificate")
    else:
        advice = "birthmark-agent enroll; if it is refused too, ask the operator"
        yield Finding("server", Level.WRONG, f"{url} refuses our certificate: {reason}", advice)


def _broker(identities: Identities) -> Iterator[Finding]:
    slot = identities.slots.best()
    if slot is None:
        yield Finding("broker", Level.WARNING, "not tried without a certificate", "birthmark-agent enroll")
        return
    if is_running(identities.settings.state):
        yield _seen_by_the_agent(read_report(identities))
    else:
        yield Finding("broker", Level.OK, f"{knock(identities, slot.identity)} lets us in")


def _seen_by_the_agent(report: Report) -> Finding:
    if report.connected:
        return Finding("broker", Level.OK, f"{report.broker}: the agent is connected, since {report.since}")
    if not report.failure_current:
        return Finding("broker", Level.WARNING, f"the agent is not connected: {report.phase}", "look again in a moment")
    again = f"; it tries again at {report.wait_until}" if report.wait_until else ""
    seen = f"the agent is not connected: {report.failure_code}: {report.failure_reason}{again}"
    return Finding("broker", Level.WRONG, seen, "`birthmark-agent trace` shows where it ends; an operator knows why")


def _applications(identities: Identities) -> Iterator[Finding]:
    applications = identities.settings.applications
    if applications.socket is None:
        return
    if not applications.users:
        advice = "name who may be which application in [applications.users]"
        yield Finding("applications", Level.WARNING, f"nobody may use {applications.socket}", advice)
        return
    if not is_running(identities.settings.state):
        yield Finding("applications", Level.WARNING, "not looked at: the agent does not run")
        return
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(str(applications.socket))
        except OSError as error:
            seen = f"{applications.socket} can't be reached: {error.strerror}"
            advice = (
                "restart the agent; its unit's RuntimeDirectory makes the folder, which others must be able to enter"
            )
            yield Finding("applications", Level.WRONG, seen, advice)
            return
    who = ", ".join(read_report(identities).applications) or "none"
    yield Finding("applications", Level.OK, f"{applications.socket} answers; connected: {who}")


def _hook(identities: Identities) -> Iterator[Finding]:
    command = identities.settings.hook.command
    if command is None:
        return
    if not command.is_file() or not os.access(command, os.X_OK):
        advice = "put an executable there, or empty hook.command"
        yield Finding("hook", Level.WRONG, f"{command} is no file that we may execute", advice)
    elif _mode(command) & 0o022:
        yield Finding("hook", Level.WRONG, f"others may write {command}", f"chmod go-w {command}")
    elif failure := read_report(identities).hook_failure:
        yield Finding("hook", Level.WARNING, f"{command}: {failure}", HookFailed.advice)
    else:
        yield Finding("hook", Level.OK, str(command))


def _agent(identities: Identities) -> Iterator[Finding]:
    if is_running(identities.settings.state):
        yield Finding("agent", Level.OK, "runs")
    else:
        yield Finding("agent", Level.WARNING, "does not run", "systemctl enable --now birthmark-agent")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
