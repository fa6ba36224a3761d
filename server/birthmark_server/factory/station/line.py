"""The line: the record, what it comes to, and which slot works on what. One for each run; safe for all slots' threads.

Whatever a slot learns becomes a line of the record first, and then true: nothing is known that was not written down.
"""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Self

from birthmark_server.factory.desk import Desk, FactoryRefused
from birthmark_server.factory.station.events import (
    AttemptBegun,
    AttemptEnded,
    BlockTaken,
    Event,
    Moved,
    OrderLearned,
)
from birthmark_server.factory.station.known import Known, KnownUnit
from birthmark_server.factory.station.plan import Whose, begin_with, waits_for_its_slot, whose
from birthmark_server.factory.station.record import Line as RecordLine
from birthmark_server.factory.station.record import Record
from birthmark_server.factory.values import Outcome, Phase, WorkOrder

Watcher = Callable[[RecordLine], None]
"""Told of each line as it is appended, one at a time; must be quick. One that raises is not told again."""

NONE_LEFT: Final = "serials-exhausted"
"""The server's code for a work order whose serial numbers are all given away."""


@dataclass(frozen=True, slots=True)
class Task:
    """One attempt to be made. number: of the unit's attempts; start: where it begins."""

    serial: str
    model: str
    workorder: str
    number: int
    slot: int
    start: Phase
    again: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """What is being made. serial_of: a place's serial number. image_sha256: of what is flashed. tries: how often a slot
    tries a device that errs. again: serial numbers to do again, or first. block: how many serial numbers to take at
    once. addressed: a device is found by its serial number, so any slot may go on with it."""

    workorder: str
    model: str
    quantity: int
    serial_of: Callable[[int], str]
    image_sha256: str
    operator: str
    tries: int = 2
    again: Sequence[str] = ()
    block: int = 10
    addressed: bool = False

    def of(self, learned: OrderLearned, serial_of: Callable[[int], str]) -> "Order":
        """Return it for this work order."""
        return replace(self, model=learned.model, quantity=learned.quantity, serial_of=serial_of)


@dataclass(slots=True)
class _Places:
    """How far a block is used: the place that comes next."""

    next: int
    end: int


@dataclass(slots=True)
class Line:
    """Use `open`."""

    order: Order
    desk: Desk
    known: Known = field(default_factory=Known)
    watchers: list[Watcher] = field(default_factory=list)
    _turn: threading.RLock = field(default_factory=threading.RLock)
    _refill: threading.Lock = field(default_factory=threading.Lock)
    _record: Record | None = None
    _busy: dict[str, int] = field(default_factory=dict)
    _aside: set[str] = field(default_factory=set)
    _tried: dict[str, int] = field(default_factory=dict)
    _again: list[str] = field(default_factory=list)
    _places: list[_Places] = field(default_factory=list)
    _none_left: bool = False

    @classmethod
    def open(
        cls, path: Path, order: Order, desk: Desk, *, station: str, now: Callable[[], datetime], known: Known
    ) -> Self:
        """Open the record and go on where it stands. known: an empty one, to be filled."""
        line = cls(order, desk, known)
        line._record = Record.open(path, station=station, now=now, told=line._told)
        line._again = list(order.again)
        line._places = [
            _Places(block.first, block.first + block.count)
            for block in known.blocks
            if block.workorder == order.workorder
        ]
        return line

    def _told(self, line: RecordLine) -> None:
        self.known.take(line)
        for watcher in list(self.watchers):
            try:
                watcher(line)
            except Exception:  # noqa: BLE001 - who looks on stops no line: a board whose terminal is gone is told no more
                self.watchers.remove(watcher)

    def append(self, event: Event) -> None:
        """Write it down; it is true from then on. Raise RecordNotWritten."""
        if self._record is None:
            raise ValueError("the line is not open")
        with self._turn:
            self._record.append(event)

    def close(self) -> None:
        """Let go of the record."""
        if self._record is not None:
            self._record.close()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """For the length of a with block, no other slot decides or writes: what was read stays true."""
        with self._turn:
            yield

    def rejected(self) -> int:
        """Return how many devices of this work order failed while nobody knew them."""
        with self._turn:
            return self.known.rejected.get(self.order.workorder, 0)

    def unit(self, serial: str) -> KnownUnit:
        """Return what is known of a unit that was begun."""
        with self._turn:
            return self.known.units[serial]

    def units(self) -> list[KnownUnit]:
        """Return the units of this work order, in the order in which they were begun."""
        with self._turn:
            return [unit for unit in self.known.units.values() if unit.workorder == self.order.workorder]

    def waiting(self) -> list[KnownUnit]:
        """Return the units, of any work order, whose entries wait to be brought, oldest first."""
        with self._turn:
            return [self.known.units[serial] for serial in self.known.waiting]

    def busy(self) -> Collection[str]:
        """Return the serial numbers that slots work on."""
        with self._turn:
            return set(self._busy)

    # -- who does what

    def next_task(self, slot: int, *, must_start: bool = False) -> Task | None:
        """Begin the next attempt in a slot: on what was asked for again, on what it was interrupted with, on a new one.

        must_start: see plan.begin_with.
        None when nothing is left to do. Raise ServerUnreachable where serial numbers are wanted and none are at hand.
        """
        while True:
            with self._turn:
                serial, again = self._next_serial(slot)
                if serial:
                    return self.begin(serial, slot, again=again, must_start=must_start)
                if self._none_left:
                    return None
            self._take_block()

    def begin(
        self, serial: str, slot: int, *, again: bool = False, start: Phase | None = None, must_start: bool = False
    ) -> Task:
        """Begin an attempt. start: instead of where it stands."""
        with self._turn:
            unit = self.known.units.get(serial)
            unit = None if unit is not None and unit.is_free else unit
            phase = start or begin_with(unit, image_sha256=self.order.image_sha256, again=again, must_start=must_start)
            known = self.known.units.get(serial)
            number = 1 if known is None else known.attempts + 1
            task = Task(serial, self.order.model, self.order.workorder, number, slot, phase, again)
            self.append(AttemptBegun(task.workorder, serial, task.model, number, slot, self.order.operator, phase))
            self._busy[serial] = slot
            self._tried[serial] = self._tried.get(serial, 0) + 1
            return task

    def end(self, task: Task, outcome: Outcome, code: str = "", *, moved_to: str = "", aside: bool = False) -> None:
        """Write down how an attempt ended. moved_to: it goes on as that unit. aside: not again in this run."""
        with self._turn:
            if moved_to:
                self.append(Moved(task.serial, moved_to))
            self.append(AttemptEnded(task.serial, task.number, outcome, code))
            self._busy.pop(task.serial, None)
            comes_back = self.order.addressed and outcome is Outcome.FAIL  # its serial number finds the same device
            if aside or comes_back or outcome is Outcome.ABORTED:
                self._aside.add(task.serial)

    def whose(self, task: Task, *, ek_sha256: str, mac: str) -> Whose:
        """Say which unit the device is (plan.py)."""
        with self._turn:
            others = self._busy.keys() - {task.serial}
            return whose(self.known, task.serial, ek_sha256=ek_sha256, mac=mac, again=task.again, busy=others)

    def is_unfinished_at(self, slot: int) -> bool:
        """Tell whether the slot is to go on with the device that it has, or was asked to do one again."""
        with self._turn:
            return bool(self._again or self._interrupted(slot))

    def new_serial(self) -> str:
        """Return a serial number that nothing stands behind; empty where none is left."""
        while True:
            with self._turn:
                if serial := self._unused():
                    return serial
                if self._none_left:
                    return ""
            self._take_block()

    def _next_serial(self, slot: int) -> tuple[str, bool]:
        if self._again:
            return self._again.pop(0), True
        return self._interrupted(slot) or self._unused(), False

    def _interrupted(self, slot: int) -> str:
        for serial in self.known.unfinished:
            unit = self.known.units[serial]
            if unit.workorder != self.order.workorder or serial in self._busy or serial in self._aside:
                continue
            if unit.quarantine or unit.slot == 0:
                continue
            here = self.order.addressed or unit.slot == slot
            if here and waits_for_its_slot(unit, tries=self.order.tries, tried=self._tried.get(serial, 0)):
                return serial
        return ""

    def _unused(self) -> str:
        for serial in self.known.freed:
            is_ours = self.known.units[serial].workorder == self.order.workorder
            if is_ours and serial not in self._busy and serial not in self._aside:
                return serial
        while self._places:
            places = self._places[0]
            if places.next == places.end:
                self._places.pop(0)
                continue
            serial = self.order.serial_of(places.next)
            places.next += 1
            if serial not in self.known.units:
                return serial
        return ""

    def _take_block(self) -> None:
        with self._refill:
            with self._turn:
                if self._places or self._none_left:
                    return  # another slot was quicker
                request = self._request()
            try:
                block = self.desk.take_serials(self.order.workorder, self.order.block, request=request)
            except FactoryRefused as refused:
                if refused.server_code != NONE_LEFT:
                    raise
                self._none_left = True
                return
            with self._turn:
                self.append(BlockTaken(block.workorder, block.first, block.count))
                self._places.append(_Places(block.first, block.first + block.count))

    def _request(self) -> str:
        """Return the name of the next request for serial numbers: the same one until its answer is on record."""
        if self._record is None:
            raise ValueError("the line is not open")
        return f"{self._record.first_sha256[:32]}-{len(self.known.blocks)}-{self.order.block}"


def learned(order: WorkOrder) -> OrderLearned:
    """Return what is kept of a work order."""
    return OrderLearned(order.name, order.model, order.quantity, order.serials)
