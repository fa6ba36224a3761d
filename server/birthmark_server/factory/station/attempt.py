"""One attempt to make one unit in one slot: phase by phase, each within its limit, each with its outcome on record.

    FLASH      write image and record, read back
    IDENTIFY   the device says who it is; the station decides whose serial number it has, and signs an entry for it
    ATTEST     bring the entry (and all that are older), have the device prove itself, check what it was born with
    SELF_TEST  a real message over the broker
    LOCK       factory mode ends
    LABEL      print

Without the server a device that can prove itself at its first boot goes on to LOCK and LABEL; another one waits. Both
await their birth, and no attempt of theirs has passed yet.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from birthmark_server.errors import BirthmarkError
from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable
from birthmark_server.factory.entry import Entry
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.station.errors import (
    BornAsAnother,
    IdentityGarbled,
    LineStopped,
    PhaseTooLong,
    RecordNotWritten,
    SlotFault,
    Stopped,
    WrongDevice,
)
from birthmark_server.factory.station.events import MOST_JWS, EntrySigned, PhaseEnded, Quarantined, UnitBorn
from birthmark_server.factory.station.identity import read_identity
from birthmark_server.factory.station.known import EntryStanding, KnownUnit
from birthmark_server.factory.station.line import Line, Task
from birthmark_server.factory.station.outbox import Outbox
from birthmark_server.factory.station.plan import IsOf, IsRefused, Stays, TakesNew
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.view import Slots
from birthmark_server.factory.station.words import words
from birthmark_server.factory.target import Born, Target
from birthmark_server.factory.values import PHASES, Outcome, Phase, PhaseResult
from birthmark_wire.encoding import b64, printable
from birthmark_wire.factory import DeviceIdentity, ProvisionRecord

GRACE_S: Final = 5.0
"""How long a target may overrun its limit before it is let go of."""

Facts = Mapping[str, str]


_MOST_FACT: Final = 1000
"""Characters that are kept of one."""

Labeller = Callable[[KnownUnit], Facts]
"""Makes a unit's label, and returns what was made. Blocks; raises FactoryError."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What all attempts of a run share. station: its name. now: for the record and the entries."""

    line: Line
    outbox: Outbox
    key: StationKey
    station: str
    image: Path
    label: Labeller
    slots: Slots
    stopping: Stopping
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Followed:
    """How an attempt ended. next_serial: the device stays, and goes on as that unit, from FLASH. stumbled: it failed or
    erred, and not for want of the server."""

    outcome: Outcome
    next_serial: str = ""
    stumbled: bool = False


@dataclass(slots=True)
class Attempt:
    """One use of one target. limits: of each phase. proves_itself_later: it can be born at its first boot, alone."""

    bench: Bench
    task: Task
    target: Target
    limits: Mapping[Phase, timedelta]
    proves_itself_later: bool
    _identity: DeviceIdentity | None = None
    _follow: IsOf | TakesNew | None = None
    _failed: list[PhaseResult] = field(default_factory=list)

    def run(self) -> Followed:
        """Make it. Raise RecordNotWritten or LineStopped: then no slot may go on; whatever else goes wrong is on
        record, and said."""
        bench, task = self.bench, self.task
        bench.slots.begin(task.slot, task.serial)
        try:
            with bench.stopping.closing(self.target.close):
                result = self._phases()
        except LineStopped as error:
            self._end(Outcome.ERROR, error.code, words(error), error.next_step, aside=True)
            raise
        finally:
            self.target.close()
        return result

    def _phases(self) -> Followed:
        awaits = False
        for phase in PHASES[PHASES.index(self.task.start) :]:
            if self.bench.stopping.asked:
                return self._end(Outcome.ABORTED, Stopped.code, "the line was stopped", Stopped.next_step)
            if phase is Phase.SELF_TEST and awaits:
                continue
            result = self._phase(phase)
            if self._follow is not None:
                return self._hand_over(self._follow)
            if self._waits(result):
                self._failed.append(result)
                if not self.proves_itself_later:
                    break
                awaits = True
            elif result.outcome is not Outcome.PASS:
                aside = result.code == WrongDevice.code
                return self._end(result.outcome, result.code, result.detail, result.next_step, aside=aside)
        if self._failed:
            last = self._failed[-1]
            return self._end(Outcome.ERROR, last.code, last.detail, last.next_step)
        return self._end(Outcome.PASS)

    def _waits(self, result: PhaseResult) -> bool:
        return (result.phase, result.code) == (Phase.ATTEST, ServerUnreachable.code)

    def _end(
        self, outcome: Outcome, code: str = "", detail: str = "", next_step: str = "", *, aside: bool = False
    ) -> Followed:
        self.bench.line.end(self.task, outcome, code, aside=aside)
        self.bench.slots.end(self.task.slot, outcome, code, detail, next_step)
        stumbled = outcome in (Outcome.FAIL, Outcome.ERROR) and code != ServerUnreachable.code
        return Followed(outcome, stumbled=stumbled)

    def _hand_over(self, follow: IsOf | TakesNew) -> Followed:
        line, task = self.bench.line, self.task
        if isinstance(follow, IsOf):
            line.end(task, Outcome.ABORTED, "is-another-unit", moved_to=follow.serial)
            serial, detail = follow.serial, f"this device is {follow.serial}: it goes on as that"
        else:
            line.end(task, Outcome.ABORTED, "another-device", aside=True)
            serial, detail = line.new_serial(), f"this device is not the one that was begun as {task.serial}"
        self.bench.slots.end(task.slot, Outcome.ABORTED, "another-device", detail, "")
        return Followed(Outcome.ABORTED, next_serial=serial)

    # -- one phase

    def _phase(self, phase: Phase) -> PhaseResult:
        bench = self.bench
        bench.slots.phase(self.task.slot, phase)
        began_at, began_s = bench.now(), time.monotonic()
        outcome, code, detail, next_step, facts = Outcome.PASS, "", "", "", {}
        with self._watched(phase) as overran:
            try:
                facts = dict(self._work(phase))
            except (RecordNotWritten, LineStopped):
                raise
            except Exception as error:  # noqa: BLE001 - a slot never stops the others, whatever its device does
                told = self._told(phase, error, overran=overran.is_set())
                outcome = _outcome(told)
                code, detail, next_step = told.code, words(told), told.next_step
                if isinstance(told, FactoryRefused):
                    facts = {"server_code": told.server_code}
        result = PhaseResult(
            phase,
            outcome,
            began_at,
            timedelta(seconds=time.monotonic() - began_s),
            code,
            detail,
            next_step,
            tuple((printable(name), printable(value)[:_MOST_FACT]) for name, value in facts.items()),
        )
        bench.line.append(PhaseEnded(self.task.serial, self.task.number, result))
        return result

    def _told(self, phase: Phase, error: Exception, *, overran: bool) -> FactoryError:
        """Return what to say of whatever was raised."""
        if self.bench.stopping.now and not overran:
            return Stopped("the line was stopped")
        if overran:
            return PhaseTooLong(f"{phase} took longer than {self.limits[phase].total_seconds():g} s")
        if isinstance(error, FactoryError):
            return error
        if isinstance(error, BirthmarkError | OSError):
            return SlotFault(words(error))
        return SlotFault(f"{type(error).__name__}: {error}")

    @contextmanager
    def _watched(self, phase: Phase) -> Iterator[threading.Event]:
        """Let go of the target where it overruns the phase's limit; the event says that this was so."""
        overran = threading.Event()

        def let_go() -> None:
            overran.set()
            self.target.close()

        timer = threading.Timer(self.limits[phase].total_seconds() + GRACE_S, let_go)
        timer.daemon = True
        timer.start()
        try:
            yield overran
        finally:
            timer.cancel()

    def _work(self, phase: Phase) -> Facts:
        match phase:
            case Phase.FLASH:
                return self._flash()
            case Phase.IDENTIFY:
                return self._identify()
            case Phase.ATTEST:
                return self._attest()
            case Phase.SELF_TEST:
                return self.target.self_test(limit=self.limits[phase])
            case Phase.LOCK:
                return self.target.lock()
            case Phase.LABEL:
                return self.bench.label(self.bench.line.unit(self.task.serial))

    def _flash(self) -> Facts:
        task, bench = self.task, self.bench
        record = ProvisionRecord(task.serial, task.model, task.workorder, bench.station, hold=True)
        until_s = time.monotonic() + self.limits[Phase.FLASH].total_seconds()

        def progress(done: int, total: int) -> None:
            bench.slots.progress(task.slot, done, total)
            bench.stopping.check()
            if time.monotonic() > until_s:
                limit_s = self.limits[Phase.FLASH].total_seconds()
                raise PhaseTooLong(f"flash took longer than {limit_s:g} s: {done} of {total} bytes")

        flashed = self.target.flash(bench.image, record, progress)
        seconds = flashed.took.total_seconds()
        return {
            "image_sha256": flashed.image_sha256,
            "bytes": str(flashed.written),
            "seconds": f"{seconds:.3f}",
        }

    def _identify(self) -> Facts:
        identity = self.target.identify(limit=self.limits[Phase.IDENTIFY])
        ek_sha256, ak_sha256 = read_identity(identity, self.bench.line.order.ek_template)
        line, task = self.bench.line, self.task
        facts = {"ek_sha256": ek_sha256, "mac": identity.mac, "firmware": identity.firmware}
        facts |= {"ak_public": b64(identity.ak_public)}
        with line.alone():
            verdict = line.whose(task, ek_sha256=ek_sha256, mac=identity.mac)
            match verdict:
                case IsOf() | TakesNew():
                    self._follow = verdict
                case IsRefused(why, bad_ek, bad_mac):
                    if bad_ek or bad_mac:
                        line.append(Quarantined(task.serial, bad_ek, bad_mac, why.code, words(why)))
                    raise why
                case Stays():
                    self._sign(identity, ek_sha256, ak_sha256)
        return facts

    def _sign(self, identity: DeviceIdentity, ek_sha256: str, ak_sha256: str) -> None:
        """Sign an entry, unless one of this very device with this very image is there already."""
        bench, task = self.bench, self.task
        unit = bench.line.unit(task.serial)
        image_sha256 = unit.image_sha256 or bench.line.order.image_sha256
        if unit.entry in (EntryStanding.WAITING, EntryStanding.BROUGHT) and unit.ek_sha256 == ek_sha256:
            return
        entry = Entry(
            workorder=task.workorder,
            serial=task.serial,
            model=task.model,
            ek_sha256=ek_sha256,
            ek_certificates=identity.ek_certificates,
            ak_sha256=ak_sha256,
            csr=identity.csr,
            image_sha256=image_sha256,
            firmware=identity.firmware,
            mac=identity.mac,
            operator=bench.line.order.operator,
            made_at=bench.now().replace(microsecond=0),
        )
        jws = bench.key.sign(entry)
        if len(jws) > MOST_JWS:  # on record, it would be a line that nobody can read
            raise IdentityGarbled(f"its EK certificates make an entry of {len(jws)} bytes; want at most {MOST_JWS}")
        bench.line.append(EntrySigned(task.serial, ek_sha256, identity.mac, identity.firmware, image_sha256, jws))

    def _attest(self) -> Facts:
        bench, task = self.bench, self.task
        expected = bench.outbox.bring(task.serial)
        try:
            born = self.target.attest(limit=self.limits[Phase.ATTEST])
        except FactoryRefused as refused:
            unit = bench.line.unit(task.serial)
            reason = f"{refused.server_code}: {words(refused)}"
            bench.line.append(Quarantined(task.serial, unit.ek_sha256, unit.mac, refused.code, reason))
            raise
        check_born(born, serial=task.serial, device_id=expected)
        if bench.line.unit(task.serial).certificate != born.certificate:
            bench.line.append(UnitBorn(task.serial, born.device_id, born.certificate))
        return {"device_id": born.device_id, "idevid_sha256": sha256(born.certificate).hexdigest()}


def _outcome(error: FactoryError) -> Outcome:
    if isinstance(error, Stopped):
        return Outcome.ABORTED
    return Outcome.FAIL if error.fails else Outcome.ERROR


def check_born(born: Born, *, serial: str, device_id: str) -> None:
    """Refuse a certificate that is not this unit's; raise BornAsAnother. Who issued it is the server's and the agent's
    to prove: this finds devices that were mixed up."""
    if born.device_id != device_id:
        raise BornAsAnother(f"the server expects {serial} as {device_id}, and it was born as {born.device_id}")
    try:
        subject = x509.load_der_x509_certificate(born.certificate).subject
    except ValueError as error:
        raise BornAsAnother(f"its birth certificate can't be read: {error}") from None
    names = [str(name.value) for name in subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    if names != [serial]:
        raise BornAsAnother(f"want a birth certificate for {serial}, got one for {', '.join(names) or 'nobody'}")
