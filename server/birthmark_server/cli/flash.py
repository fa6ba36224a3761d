"""`birthmark flash`: one device, without a station: for the bench, and for a board that came back."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich import progress as bars
from rich.console import Console

from birthmark_server.cli.output import Json, end_drawing, print_json, say
from birthmark_server.factory.station.settings import SlotSettings, StationSettings
from birthmark_server.factory.station.targets import Place, open_target
from birthmark_server.factory.target import Flashed, Progress
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError
from birthmark_wire.factory import ProvisionRecord


def _name(text: str) -> str:
    try:
        return ids.printable_name(text, field="name")
    except DecodeError as error:
        raise typer.BadParameter(str(error)) from None


def flash(
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="disk:PATH, smp:/dev/NAME, smp:tcp:HOST:PORT or smp:unix:PATH.")
    ],
    image: Annotated[Path, typer.Option(metavar="FILE", help="What to flash.")],
    serial: Annotated[str, typer.Option(callback=_name, help="The device's serial number.")],
    model: Annotated[str, typer.Option(callback=_name, help="Its model, as in birthmark model list.")],
    workorder: Annotated[str, typer.Option(callback=_name, help="Its work order, for its record.")] = "none",
    image_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="smp: only: the public key that firmware is signed by, PEM.")
    ] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Have it wait for a station at its first boot.")] = False,
    as_json: Json = False,
) -> None:
    """Write an image and the device's record, read both back and compare. Nothing is asked of a server.

    A work order's devices are flashed by birthmark factory run, which does this and all that follows.

    Example:  birthmark flash smp:/dev/ttyACM0 --image fw.bin --image-key image.pem --serial A-1 --model node-1
    """
    record = ProvisionRecord(serial=serial, model=model, workorder=workorder, station="bench", hold=hold)
    settings = StationSettings(server="", certificate=Path(), key=Path(), root=Path(), image_key=image_key)
    with tempfile.TemporaryDirectory() as folder:
        device = open_target(Place(SlotSettings(target=target), settings, serial, Path(folder), None))
        try:
            flashed = _with_a_bar(lambda progress: device.flash(image, record, progress), serial)
        finally:
            device.close()
    if as_json:
        print_json({"serial": serial, "image_sha256": flashed.image_sha256, "written": flashed.written})
        return
    took_s = flashed.took.total_seconds()
    did = f"{flashed.written} bytes" if flashed.written else "nothing to write, it has this image already"
    say(f"{serial}: {image.name} ({flashed.image_sha256[:16]}) is on {target}, read back: {did}, {took_s:.1f} s")


def _with_a_bar(work: Callable[[Progress], Flashed], name: str) -> Flashed:
    console = Console(stderr=True)
    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.DownloadColumn())
    more = (bars.TransferSpeedColumn(), bars.TimeRemainingColumn())
    with bars.Progress(*columns, *more, console=console) as bar:
        task = bar.add_task(name, total=None)
        flashed = work(lambda done, total: bar.update(task, completed=done, total=total))
    end_drawing(console)
    return flashed
