"""What can be seen of a line at one moment: each slot, and how far the work order is. The board draws it, metrics count
it."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from birthmark_server.factory.station.known import EntryStanding, KnownUnit
from birthmark_server.factory.values import Outcome, Phase


@dataclass(frozen=True, slots=True)
class SlotView:
    """One slot. since_s, phase_since_s: of the monotonic clock. done, total: bytes of a flash. outcome, code, detail,
    next_step: of the last attempt that ended here."""

    number: int
    serial: str = ""
    phase: Phase | None = None
    since_s: float = 0.0
    phase_since_s: float = 0.0
    done: int = 0
    total: int = 0
    attempts: int = 0
    outcome: Outcome | None = None
    last_serial: str = ""
    code: str = ""
    detail: str = ""
    next_step: str = ""
    state: str = "idle"


@dataclass(frozen=True, slots=True)
class LineView:
    """made: units that passed; first_pass: those among them that never stumbled. failed: units whose last attempt did
    not pass and is not repeated by itself; awaiting: entry signed, birth outstanding; quantity: of the work order.
    made_here: in this run; took_s: since this run began."""

    workorder: str
    quantity: int
    slots: tuple[SlotView, ...]
    made: int = 0
    first_pass: int = 0
    failed: int = 0
    awaiting: int = 0
    quarantined: int = 0
    entries_waiting: int = 0
    made_here: int = 0
    took_s: float = 0.0
    online: bool = True

    def in_this_run(self, *, made: int, took_s: float, online: bool) -> "LineView":
        """Return it with what this run came to so far."""
        return replace(self, made_here=made, took_s=took_s, online=online)

    @property
    def per_minute(self) -> float:
        """Units made in a minute of this run; 0 before the first."""
        return self.made_here * 60 / self.took_s if self.made_here and self.took_s > 0 else 0.0

    @property
    def first_pass_yield(self) -> float | None:
        """Of the units that are made or failed, the part that passed without a stumble; None before the first."""
        ended = self.made + self.failed
        return self.first_pass / ended if ended else None

    @property
    def left_s(self) -> float | None:
        """How long it will take, at this pace; None while nobody can say."""
        left = self.quantity - self.made
        return left * 60 / self.per_minute if self.per_minute else None


def counted(view: LineView, units: list[KnownUnit], *, rejected: int) -> LineView:
    """Return the view with what the record says of the work order's units. rejected: devices that failed unknown."""
    made = [unit for unit in units if unit.is_made]
    return replace(
        view,
        made=len(made),
        first_pass=sum(unit.stumbles == 0 for unit in made),
        failed=sum(unit.outcome is Outcome.FAIL or bool(unit.quarantine) for unit in units) + rejected,
        awaiting=sum(unit.awaits_birth for unit in units),
        quarantined=sum(bool(unit.quarantine) for unit in units),
        entries_waiting=sum(unit.entry is EntryStanding.WAITING for unit in units),
    )


@dataclass(slots=True)
class Slots:
    """The slots' states, written by their threads."""

    count: int
    clock_s: Callable[[], float] = time.monotonic
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _slots: dict[int, SlotView] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._slots = {number: SlotView(number) for number in range(1, self.count + 1)}

    def all(self) -> tuple[SlotView, ...]:
        """Return them as they are now."""
        with self._turn:
            return tuple(self._slots.values())

    def begin(self, number: int, serial: str) -> None:
        """An attempt begins."""
        self._change(number, serial=serial, since_s=self.clock_s(), phase=None, done=0, total=0, state="working")

    def phase(self, number: int, phase: Phase) -> None:
        """A phase begins."""
        self._change(number, phase=phase, phase_since_s=self.clock_s(), done=0, total=0)

    def progress(self, number: int, done: int, total: int) -> None:
        """So many bytes of so many."""
        self._change(number, done=done, total=total)

    def end(self, number: int, outcome: Outcome, code: str, detail: str, next_step: str) -> None:
        """The attempt ended."""
        with self._turn:
            slot = self._slots[number]
            self._slots[number] = replace(
                slot,
                serial="",
                last_serial=slot.serial,
                phase=None,
                attempts=slot.attempts + 1,
                outcome=outcome,
                code=code,
                detail=detail,
                next_step=next_step,
                state="idle",
            )

    def say(self, number: int, state: str, detail: str = "", next_step: str = "") -> None:
        """The slot waits, or has stopped; detail says why."""
        self._change(number, state=state, detail=detail, next_step=next_step)

    def _change(self, number: int, **values: object) -> None:
        with self._turn:
            self._slots[number] = replace(self._slots[number], **values)  # type: ignore[arg-type]  # names of its own
