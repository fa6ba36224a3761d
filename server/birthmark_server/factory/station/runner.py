"""All slots of a run: a thread for each, one attempt after the other; and a courier for what waits for the server.

A slot that fails never stops another one. What stops them all: the record can't be kept, the server will not have this
station, or somebody says so.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from birthmark_server.errors import BirthmarkError
from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.station.attempt import Attempt, Bench, Followed
from birthmark_server.factory.station.courier import Courier
from birthmark_server.factory.station.errors import LineStopped, RecordNotWritten, SlotFault
from birthmark_server.factory.station.events import RunBegun
from birthmark_server.factory.station.line import Task
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.view import LineView, counted
from birthmark_server.factory.station.words import words
from birthmark_server.factory.target import Target
from birthmark_server.factory.values import Outcome, Phase

MOST_IN_A_ROW: Final = 5
"""So many attempts that did not pass, one after another, and a slot stops: it is probably the slot."""
_LOOK_S: Final = 0.2


Ready = Callable[[Stopping], bool]
"""Waits for the next device of a slot: True when it is there, False where none will come, or the line stops. Raises
FactoryError."""

OpenTarget = Callable[[str], Target]
"""Opens the device of a slot for the unit of this serial number. Raises FactoryError, or Misconfigured."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One place for a device. ready: waits for the next device; without it a slot makes one device in a run, unless its
    devices are found by their serial numbers (`feeds`). proves_itself_later: its devices can be born at their first
    boot, without the station."""

    number: int
    open: OpenTarget
    limits: Mapping[Phase, timedelta]
    proves_itself_later: bool = False
    feeds: bool = False
    ready: Ready | None = None


@dataclass(slots=True)
class Runner:
    """One run. courier_s: how often it looks whether the server answers again; 0 for never."""

    bench: Bench
    slots: Sequence[Slot]
    courier_s: float = 2.0
    clock_s: Callable[[], float] = time.monotonic
    _stopped_by: list[FactoryError] = field(default_factory=list)
    _began_s: float = 0.0
    _made_before: int = 0

    def run(self, *, watch: Callable[[], None] = lambda: None) -> None:
        """Work until nothing is left to do or the line is stopped; `watch` is called several times a second.

        Raise what stopped all slots. What failed at one slot is on record, and no error here.
        """
        line = self.bench.line
        self._began_s = self.clock_s()
        self._made_before = self.view().made
        line.append(RunBegun(line.order.workorder, line.order.operator, len(self.slots)))
        courier = Courier(line, self.bench.outbox, self.bench.stopping, every_s=self.courier_s)
        threads = [threading.Thread(target=self._slot, args=(slot,), name=f"slot {slot.number}") for slot in self.slots]
        if self.courier_s:
            courier.start()
        try:
            for thread in threads:
                thread.start()
            self._wait(threads, watch)
        finally:
            if any(thread.is_alive() for thread in threads):
                self.bench.stopping.ask()
            for thread in threads:
                thread.join()
            courier.stop()
        watch()
        if self._stopped_by:
            raise self._stopped_by[0]

    def _wait(self, threads: Sequence[threading.Thread], watch: Callable[[], None]) -> None:
        while alive := [thread for thread in threads if thread.is_alive()]:
            alive[0].join(_LOOK_S)
            watch()

    def view(self) -> LineView:
        """Return what can be seen at this moment."""
        line, order = self.bench.line, self.bench.line.order
        view = LineView(order.workorder, order.quantity, self.bench.slots.all())
        view = counted(view, line.units(), rejected=line.rejected())
        took_s = self.clock_s() - self._began_s if self._began_s else 0.0
        return view.in_this_run(made=view.made - self._made_before, took_s=took_s, online=self.bench.outbox.is_online)

    # -- one slot

    def _slot(self, slot: Slot) -> None:
        try:
            self.work_at(slot)
        except (RecordNotWritten, LineStopped) as error:
            self._stopped_by.append(error)
            self.bench.stopping.ask()
            self.bench.slots.say(slot.number, "stopped", words(error), error.next_step)
        except Exception as error:  # noqa: BLE001 - this slot is out; the others go on
            told = error if isinstance(error, FactoryError) else SlotFault(words(error))
            self.bench.slots.say(slot.number, "stopped", words(told), told.next_step)

    def work_at(self, slot: Slot) -> None:
        """Make one device after the other in one slot, in this thread."""
        serial, first, in_a_row = "", True, 0
        while not self.bench.stopping.asked:
            task = self._next(slot, serial, first=first)
            if task is None:
                return
            first = False
            followed = self._attempt(slot, task)
            serial = followed.next_serial
            in_a_row = in_a_row + 1 if followed.stumbled else 0
            if in_a_row == MOST_IN_A_ROW:
                message = f"{MOST_IN_A_ROW} attempts in a row did not pass here"
                self.bench.slots.say(slot.number, "stopped", message, "Look at this slot before it is used again.")
                return

    def _next(self, slot: Slot, serial: str, *, first: bool) -> Task | None:
        """serial: of the unit that the device in the slot turned out to be."""
        line, slots = self.bench.line, self.bench.slots
        if serial:
            return line.begin(serial, slot.number, start=Phase.FLASH)
        if not first and not slot.feeds and not slot.ready and not line.is_unfinished_at(slot.number):
            slots.say(slot.number, "done", "one device in a run: this slot has no `ready` command")
            return None
        if slot.ready and not line.is_unfinished_at(slot.number):
            slots.say(slot.number, "waiting", "for the next device")
            if not slot.ready(self.bench.stopping):
                slots.say(slot.number, "done", "no more devices")
                return None
        try:
            task = line.next_task(slot.number, must_start=slot.proves_itself_later)
        except ServerUnreachable as error:
            slots.say(slot.number, "stopped", f"no serial numbers at hand, and {words(error)}", _WANTED)
            return None
        except FactoryRefused as refused:
            raise LineStopped(f"{refused.server_code}: {refused}") from None
        if task is None:
            slots.say(slot.number, "done", "the work order has no serial numbers left")
        return task

    def _attempt(self, slot: Slot, task: Task) -> Followed:
        try:
            target = slot.open(task.serial)
        except (BirthmarkError, OSError) as error:
            told = error if isinstance(error, FactoryError) else SlotFault(words(error))
            self.bench.line.end(task, Outcome.FAIL if told.fails else Outcome.ERROR, told.code, aside=True)
            self.bench.slots.end(task.slot, Outcome.ERROR, told.code, words(told), told.next_step)
            raise
        attempt = Attempt(self.bench, task, target, slot.limits, slot.proves_itself_later)
        return attempt.run()


_WANTED: Final = "See that the server answers (birthmark doctor), then run the work order again."
