"""The board: a line as people see it. A live table on a terminal, plain lines elsewhere, JSON for programs.

JSON lines are the record's own, one for each event, as they are written; plain lines say what ended, and what to do
next about it.
"""

import json
import time
from collections.abc import Callable
from typing import Final

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from birthmark_server.factory.station.events import (
    AttemptEnded,
    EntryRefused,
    EntryVoid,
    PhaseEnded,
    Quarantined,
    UnitBorn,
    event_members,
    write_moment,
)
from birthmark_server.factory.station.record import Line
from birthmark_server.factory.station.view import LineView, SlotView
from birthmark_server.factory.values import Outcome

_STYLES: Final = {Outcome.PASS: "green", Outcome.FAIL: "bold red", Outcome.ERROR: "yellow", Outcome.ABORTED: "dim"}
_BAR_CELLS: Final = 20
_LONG_S: Final = 1.0
"""What takes longer shows how long."""


def draw(view: LineView, *, now_s: float) -> Group:
    """Return the live table. now_s: of the clock that the slots' times are of."""
    table = Table(box=None, pad_edge=False, expand=False)
    for title in ("slot", "unit", "phase", "progress", "time", "last"):
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    for slot in view.slots:
        table.add_row(
            str(slot.number), slot.serial or "-", _phase(slot), _progress(slot), _time(slot, now_s), _last(slot)
        )
    words = [
        Text.assemble((f"slot {slot.number}: ", "bold"), slot.detail, "  ", (slot.next_step, "italic"))
        for slot in view.slots
        if slot.detail and slot.outcome is not Outcome.PASS
    ]
    return Group(_headline(view), table, *words)


def _headline(view: LineView) -> Text:
    first_pass = view.first_pass_yield
    parts = [
        f"{view.workorder}: {view.made} of {view.quantity} made",
        f"{view.failed} failed",
        f"{view.awaiting} awaiting birth",
        f"first pass {first_pass:.1%}" if first_pass is not None else "first pass -",
        f"{view.per_minute:.1f} a minute" if view.per_minute else "- a minute",
        f"{_span(view.left_s)} left" if view.left_s is not None else "- left",
    ]
    line = Text(" · ".join(parts), style="bold")
    if not view.online:
        line.append(f"  the server does not answer; {view.entries_waiting} entries wait", style="bold yellow")
    return line


def _phase(slot: SlotView) -> str:
    return slot.state if slot.phase is None else slot.phase.value


def _progress(slot: SlotView) -> Text:
    if not slot.total:
        return Text("")
    part = min(slot.done / slot.total, 1.0)
    cells = int(part * _BAR_CELLS)
    return Text.assemble(("━" * cells, "cyan"), ("─" * (_BAR_CELLS - cells), "dim"), f" {part:4.0%}")


def _time(slot: SlotView, now_s: float) -> str:
    if slot.phase is None or now_s - slot.phase_since_s < _LONG_S:
        return ""
    return f"{_span(now_s - slot.phase_since_s)} / {_span(now_s - slot.since_s)}"


def _last(slot: SlotView) -> Text:
    if slot.outcome is None:
        return Text("")
    return Text(f"{slot.last_serial} {slot.outcome} {slot.code}".rstrip(), style=_STYLES[slot.outcome])


def _span(seconds: float | None) -> str:
    whole = int(seconds or 0)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def json_line(line: Line) -> str:
    """Return one event for a program, as the record has it but for the hashes."""
    return json.dumps({"n": line.number, "at": write_moment(line.at)} | event_members(line.event), ensure_ascii=False)


def plain_line(line: Line) -> str:
    """Return one event in words; empty for what nobody needs to read."""
    match line.event:
        case PhaseEnded(serial, _, result) if result.outcome is not Outcome.PASS:
            return f"{serial}: {result.phase} {result.outcome} ({result.code}): {result.detail}. {result.next_step}"
        case PhaseEnded(serial, _, result):
            return f"{serial}: {result.phase} passed in {result.took.total_seconds():.1f} s"
        case AttemptEnded(serial, _, outcome, code):
            return f"{serial}: {outcome}{f' ({code})' if code else ''}"
        case UnitBorn(serial, device_id, _):
            return f"{serial}: born as {device_id}"
        case Quarantined(serial, _, _, code, reason):
            return f"{serial}: the device is in quarantine ({code}): {reason}"
        case EntryRefused(serial, code, detail):
            return f"{serial}: the server will not have it, it is in quarantine ({code}): {detail}"
        case EntryVoid(serial, code, detail):
            return f"{serial}: what was signed for it is void, put its device in again ({code}): {detail}"
        case _:
            return ""


def summary(view: LineView) -> str:
    """Return what a run came to, in one sentence."""
    first_pass = view.first_pass_yield
    words = (
        f"{view.workorder}: {view.made} of {view.quantity} made, {view.failed} failed, {view.awaiting} awaiting birth"
    )
    return words + (f", first-pass yield {first_pass:.1%}" if first_pass is not None else "")


class PlainBoard:
    """Prints a line for each event, and how far it is every half minute."""

    def __init__(self, console: Console, *, clock_s: Callable[[], float] = time.monotonic, every_s: float = 30) -> None:
        self._console = console
        self._clock_s = clock_s
        self._every_s = every_s
        self._said_s = clock_s()

    def told(self, line: Line) -> None:
        """An event."""
        if words := plain_line(line):
            self._console.print(Text(words), soft_wrap=True)

    def look(self, view: LineView) -> None:
        """Some time has passed."""
        if self._clock_s() - self._said_s >= self._every_s:
            self._said_s = self._clock_s()
            self._console.print(Text(summary(view)), soft_wrap=True)
