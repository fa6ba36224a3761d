"""The courier: while slots work, it brings what waits as soon as the server answers, and hears of devices that left the
station unborn and proved themselves at their first boot."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Final

from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable, Standing
from birthmark_server.factory.station.attempt import check_born
from birthmark_server.factory.station.errors import BornAsAnother, LineStopped, RecordNotWritten
from birthmark_server.factory.station.events import PhaseEnded, Quarantined, UnitBorn
from birthmark_server.factory.station.known import EntryStanding, KnownUnit
from birthmark_server.factory.station.line import Line
from birthmark_server.factory.station.outbox import Outbox
from birthmark_server.factory.station.plan import Last, last_of
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.words import words
from birthmark_server.factory.target import Born
from birthmark_server.factory.values import Outcome, Phase, PhaseResult

FROM_AFAR: Final = 0
"""The slot of an attempt that ended without one."""


class Courier:
    """A thread of its own, or by hand: `go` once."""

    def __init__(self, line: Line, outbox: Outbox, stopping: Stopping, *, every_s: float) -> None:
        self._line = line
        self._outbox = outbox
        self._stopping = stopping
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="courier", daemon=True)

    def start(self) -> None:
        """Begin; `stop` ends it."""
        self._thread.start()

    def stop(self) -> None:
        """End it, when what it does at the moment is done."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            try:
                self.go()
            except ServerUnreachable:
                continue
            except (RecordNotWritten, LineStopped):
                self._stopping.ask()
                return

    def go(self) -> None:
        """Bring what waits, then ask after devices that left. Raise as Outbox.bring_all does."""
        busy = self._line.busy()
        if any(unit.serial not in busy for unit in self._line.waiting()):
            self._outbox.bring_all()
        for unit in self._line.units():
            if self._ended.is_set():
                return
            if unit.entry is EntryStanding.BROUGHT and unit.labelled and last_of(unit) is Last.WAITS:
                self._ask_after(unit)

    def _ask_after(self, unit: KnownUnit) -> None:
        try:
            standing = self._line.desk.device(unit.serial)
        except FactoryRefused:
            return
        if standing is None:
            return
        try:
            check_born(Born(standing.device_id, standing.idevid), serial=unit.serial, device_id=unit.device_id)
        except BornAsAnother as error:
            self._line.append(Quarantined(unit.serial, unit.ek_sha256, unit.mac, error.code, words(error)))
            return
        if not unit.certificate:
            self._line.append(UnitBorn(unit.serial, standing.device_id, standing.idevid))
        if standing.last_seen_at is not None:
            self._finish(unit, standing, standing.last_seen_at)

    def _finish(self, unit: KnownUnit, standing: Standing, seen_at: datetime) -> None:
        """It was born, and spoke over the broker: what was left of it has passed."""
        with self._line.alone():
            if unit.serial in self._line.busy() or last_of(self._line.unit(unit.serial)) is not Last.WAITS:
                return
            task = self._line.begin(unit.serial, FROM_AFAR, start=Phase.ATTEST)
            for phase, fact in ((Phase.ATTEST, ("device_id", standing.device_id)), (Phase.SELF_TEST, _seen(seen_at))):
                result = PhaseResult(phase, Outcome.PASS, datetime.now(UTC), timedelta(), facts=(fact,))
                self._line.append(PhaseEnded(unit.serial, task.number, result))
            self._line.end(task, Outcome.PASS)


def _seen(at: datetime) -> tuple[str, str]:
    return "last_seen_at", f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
