"""One station's folder as what leaves the line is made from: the record's lines, and the attempts they tell of.

Reading verifies the chain (station/record.py). What the line knew comes from station/known.py, so that a report and the
board agree.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from birthmark_server.factory.station.events import (
    AttemptBegun,
    AttemptEnded,
    Begun,
    PhaseEnded,
    RunBegun,
)
from birthmark_server.factory.station.known import Known, KnownUnit
from birthmark_server.factory.station.record import RECORD_FILE, Line, read_record
from birthmark_server.factory.values import Outcome, Phase, PhaseResult

CUT_OFF: Final = "cut-off"
"""The code of an attempt that has no end on record: a power cut, or the process was killed."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to make one unit in one slot. start: the phase it began with. outcome None, ended_at None: it is under
    way, as far as the record says."""

    station: str
    workorder: str
    serial: str
    number: int
    slot: int
    operator: str
    start: Phase
    began_at: datetime
    phases: tuple[PhaseResult, ...] = ()
    ended_at: datetime | None = None
    outcome: Outcome | None = None
    code: str = ""

    @property
    def failed_phase(self) -> Phase | None:
        """The phase that did not pass, where one did not."""
        return next((result.phase for result in reversed(self.phases) if result.outcome is not Outcome.PASS), None)

    def fact(self, name: str) -> str:
        """What a phase of it found out under this name; empty where none did."""
        return next((dict(result.facts)[name] for result in self.phases if name in dict(result.facts)), "")


@dataclass(frozen=True, slots=True)
class StationFolder:
    """What one station did. name: random, the record's own; path: where it was read."""

    path: Path
    station: str
    name: str
    known: Known
    attempts: tuple[Attempt, ...]

    @property
    def workorders(self) -> list[str]:
        """The work orders that it has worked on, or learned of, in their order."""
        worked = (attempt.workorder for attempt in self.attempts)
        return list(dict.fromkeys([*self.known.orders, *worked]))

    def units(self, workorder: str) -> list[KnownUnit]:
        """The units of a work order, by serial number."""
        mine = (unit for unit in self.known.units.values() if unit.workorder == workorder)
        return sorted(mine, key=lambda unit: unit.serial)

    def attempts_at(self, serial: str) -> list[Attempt]:
        """The attempts at one unit, the first one first."""
        return [attempt for attempt in self.attempts if attempt.serial == serial]


def read_folder(path: Path) -> StationFolder:
    """Read a station's folder. Raise RecordDamaged by the line, or OSError."""
    return of_lines(path, read_record(path / RECORD_FILE))


def of_lines(path: Path, lines: Iterable[Line]) -> StationFolder:
    """Return what these lines come to."""
    known, story, begun = Known(), _Story(), Begun("", "")
    for line in lines:
        known.take(line)
        story.take(line)
        if isinstance(line.event, Begun):
            begun = line.event
    return StationFolder(path, begun.station, begun.name, known, tuple(story.all(begun.station)))


@dataclass(slots=True)
class _Open:
    begun: AttemptBegun
    at: datetime
    last: datetime
    phases: list[PhaseResult] = field(default_factory=list)
    ended: tuple[datetime, Outcome, str] | None = None


@dataclass(slots=True)
class _Story:
    """Attempts, in the order of their beginning; at most one of each unit is under way."""

    _all: list[_Open] = field(default_factory=list)
    _open: dict[str, _Open] = field(default_factory=dict)

    def take(self, line: Line) -> None:
        match line.event:
            case RunBegun():  # one process at a time has the record: whatever is open was cut off
                for each in self._open.values():
                    each.ended = each.last, Outcome.ABORTED, CUT_OFF
                self._open.clear()
            case AttemptBegun() as begun:
                if cut := self._open.pop(begun.serial, None):
                    cut.ended = cut.last, Outcome.ABORTED, CUT_OFF
                self._open[begun.serial] = _Open(begun, line.at, line.at)
                self._all.append(self._open[begun.serial])
            case PhaseEnded(serial, _, result) if serial in self._open:
                self._open[serial].phases.append(result)
                self._open[serial].last = line.at
            case AttemptEnded(serial, _, outcome, code) if serial in self._open:
                self._open.pop(serial).ended = line.at, outcome, code

    def all(self, station: str) -> Iterator[Attempt]:
        for each in self._all:
            ended_at, outcome, code = each.ended or (None, None, "")
            yield Attempt(
                station=station,
                workorder=each.begun.workorder,
                serial=each.begun.serial,
                number=each.begun.number,
                slot=each.begun.slot,
                operator=each.begun.operator,
                start=each.begun.start,
                began_at=each.at,
                phases=tuple(each.phases),
                ended_at=ended_at,
                outcome=outcome,
                code=code,
            )
