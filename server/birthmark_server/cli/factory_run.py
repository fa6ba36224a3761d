"""`birthmark factory run`: put a station's slots to work on a work order, and show how it goes."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from birthmark_server.cli.exits import Exit
from birthmark_server.cli.factory_station import Station, image_of, open_station, order_of, slots_of
from birthmark_server.cli.output import end_drawing, say
from birthmark_server.factory.desk import Desk
from birthmark_server.factory.out.sheet import LABELS, label_of, write_label
from birthmark_server.factory.serials import SerialPool
from birthmark_server.factory.station.attempt import Bench
from birthmark_server.factory.station.board import PlainBoard, draw, json_line, summary
from birthmark_server.factory.station.known import Known, KnownUnit
from birthmark_server.factory.station.line import Line, Order
from birthmark_server.factory.station.outbox import Outbox
from birthmark_server.factory.station.record import RECORD_FILE
from birthmark_server.factory.station.runner import Runner
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.targets import make_slot
from birthmark_server.factory.station.view import LineView, Slots

PATIENCE_S: Final = 30.0
"""How long phases may take to end after Ctrl-C or SIGTERM, until targets are let go of."""

StationFolder = Annotated[Path, typer.Option("--station", metavar="FOLDER", help="The station's folder.")]


def run(
    workorder: Annotated[str, typer.Option(metavar="NAME", help="The work order to make.")],
    operator: Annotated[Path, typer.Option(metavar="FILE", help="Your certificate and key: who is at the station.")],
    station: StationFolder = Path(),
    slots: Annotated[int, typer.Option(min=0, help="How many slots to use; 0 for all.")] = 0,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What to flash; else what station.toml says.")
    ] = None,
    again: Annotated[list[str] | None, typer.Option(metavar="SERIAL", help="Do this one again, or first.")] = None,
    metrics: Annotated[str, typer.Option(metavar="WHERE", help="Prometheus: ADDRESS:PORT, or a file.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON for each event.")] = False,
) -> None:
    """Flash, identify, attest, test, lock and label devices until the work order is made.

    Interrupted, by Ctrl-C or a power cut, it goes on where it stood when it is run again. Without the server it goes
    on alone, and brings what it signed when the server answers.

    Example:  birthmark factory run --workorder W-7 --operator alice.pem --slots 4
    """
    here = open_station(station, operator, workorder, now=datetime.now(UTC))
    if not here.online:
        say("the server does not answer: devices are flashed and signed for, and await their birth")
    desk = station_desk(here)
    with closing(desk):
        runner = open_runner(here, desk, workorder, count=slots, image=image, again=again or [])
        try:
            with stopped_by_signals(runner.bench.stopping) as look:
                _work(runner, metrics, as_json=as_json, look=look)
        finally:
            runner.bench.line.close()
    _end(runner)


def station_desk(here: Station) -> Desk:
    """Open the way to the server, in the station's own name."""
    from birthmark_server.cli.station_desk import open_desk  # not for every command's start

    return open_desk(here.settings)


def open_runner(
    here: Station, desk: Desk, workorder: str, *, count: int, image: Path | None, again: list[str]
) -> Runner:
    """Open the record and make the slots. Raise what keeps the line from starting."""
    settings, known = here.settings, Known()
    chosen = slots_of(settings, count)
    flashed, image_sha256 = image_of(settings, image)
    slots = [
        make_slot(number, slot, settings, folder=here.folder, desk=desk) for number, slot in enumerate(chosen, start=1)
    ]
    order = Order(
        workorder=workorder,
        model="",
        quantity=0,
        serial_of=str,
        image_sha256=image_sha256,
        operator=here.operator.name,
        tries=settings.tries,
        again=again,
        block=settings.block,
        addressed=all(slot.is_addressed for slot in chosen),
    )
    line = Line.open(here.folder / RECORD_FILE, order, desk, station=here.badge.name, now=_now, known=known)
    try:
        wanted, is_news = order_of(desk, known, workorder)
        line.order = order.of(wanted, SerialPool.parse(wanted.serials).serial)
        if is_news:
            line.append(wanted)
    except BaseException:
        line.close()
        raise
    bench = Bench(
        line=line,
        outbox=Outbox(line),
        key=here.key,
        station=here.badge.name,
        image=flashed,
        label=print_labels(here.folder / LABELS),
        slots=Slots(len(slots)),
        stopping=Stopping(),
        now=_now,
    )
    return Runner(bench, slots)


def print_labels(folder: Path) -> Callable[[KnownUnit], dict[str, str]]:
    """Return who draws a unit's label."""

    def write(unit: KnownUnit) -> dict[str, str]:
        label = label_of(unit)
        return {"label": str(write_label(folder, label)), "payload": label.payload()}

    return write


def _now() -> datetime:
    return datetime.now(UTC)


def _work(runner: Runner, where: str, *, as_json: bool, look: Callable[[], None]) -> None:
    """Run, and show it."""
    from birthmark_server.factory.station.metrics import LineMetrics, exported  # not for every command's start

    numbers = LineMetrics(runner.view)
    watchers = runner.bench.line.watchers
    watchers.append(numbers.told)
    console = Console(highlight=False)
    with exported(numbers, where) as write:
        if as_json:
            watchers.append(lambda line: print(json_line(line), file=sys.stdout, flush=True))
            runner.run(watch=_all(look, write))
        elif console.is_terminal:
            _live(runner, console, _all(look, write))
        else:
            board = PlainBoard(console)
            watchers.append(board.told)
            runner.run(watch=_all(look, write, lambda: board.look(runner.view())))


def _all(*acts: Callable[[], None]) -> Callable[[], None]:
    def act() -> None:
        for each in acts:
            each()

    return act


def _live(runner: Runner, console: Console, look: Callable[[], None]) -> None:
    with Live(console=console, refresh_per_second=5) as live:

        def watch() -> None:
            look()
            live.update(draw(runner.view(), now_s=time.monotonic()))

        runner.run(watch=watch)
    end_drawing(console)


@contextmanager
def stopped_by_signals(stopping: Stopping) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C and SIGTERM stop the line: the first lets phases end, the second lets go. Call what is yielded now and
    then: it lets go where phases do not end."""
    asked_s: list[float] = []

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked_s.append(time.monotonic())
        stopping.ask()

    def look() -> None:
        if asked_s and not stopping.now and time.monotonic() - asked_s[0] > PATIENCE_S:
            stopping.break_off()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield look
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(runner: Runner) -> None:
    """Say what the run came to, and end with the status that says it too."""
    view = runner.view()
    say(summary(view))
    for slot in view.slots:
        if slot.state == "stopped":
            say(f"slot {slot.number}: {slot.detail}. {slot.next_step}".rstrip())
    if runner.bench.stopping.asked:
        say("stopped; the same command goes on where it stood")
        raise typer.Exit(Exit.INTERRUPTED)
    if _is_wanting(view):
        raise typer.Exit(Exit.NO)


def _is_wanting(view: LineView) -> bool:
    return view.failed > 0 or (view.made < view.quantity and any(slot.state == "stopped" for slot in view.slots))
