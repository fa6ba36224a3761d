"""`birthmark factory labels`: draw labels again, and a sheet of them."""

from pathlib import Path
from typing import Annotated, Final

import typer

from birthmark_server.ca import files
from birthmark_server.cli.factory_run import StationFolder
from birthmark_server.cli.output import counted, say
from birthmark_server.factory.out.errors import NothingMade
from birthmark_server.factory.out.folder import StationFolder as Folder
from birthmark_server.factory.out.folder import read_folder
from birthmark_server.factory.out.sheet import LABELS, draw_sheet, file_name, label_of, write_label
from birthmark_server.factory.station.known import KnownUnit

SHEET_SUFFIX: Final = ".labels.html"


def labels(
    workorder: Annotated[str, typer.Option(metavar="NAME", help="The work order.")],
    station: StationFolder = Path(),
    serial: Annotated[list[str] | None, typer.Option(help="Only this one; may be repeated.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where they go; else `labels` in the station's folder.")
    ] = None,
) -> None:
    """Draw the labels of what this station labelled: a PNG and an SVG for each, and a sheet to print on A4.

    Labels are 50 x 25 mm; print the sheet at 100 %. The QR code says serial number, model and device id
    (docs/factory.md). With --serial there is no sheet. Reads the record alone; needs no server.

    Example:  birthmark factory labels --workorder W-7 --serial SN-001000-U
    """
    drawn = [label_of(unit) for unit in _labelled(read_folder(station), workorder, serial)]
    folder = out or station / LABELS
    for label in drawn:
        path = write_label(folder, label)
    if not serial:
        path = folder / f"{file_name(workorder)}{SHEET_SUFFIX}"
        files.replace(path, draw_sheet(drawn, title=f"Labels of work order {workorder}").encode("utf-8"))
    say(f"{path}: {counted(len(drawn), 'label')}; each as PNG and SVG in {folder}")


def _labelled(folder: Folder, workorder: str, serials: list[str] | None) -> list[KnownUnit]:
    units = [unit for unit in folder.units(workorder) if unit.labelled and not unit.quarantine]
    missing = set(serials or ()) - {unit.serial for unit in units}
    if missing:
        raise NothingMade(f"station {folder.station} has labelled no {', '.join(sorted(missing))} for {workorder}")
    if not units:
        orders = ", ".join(folder.workorders) or "none"
        raise NothingMade(
            f"station {folder.station} has labelled nothing for work order {workorder!r}; it knows: {orders}"
        )
    return [unit for unit in units if not serials or unit.serial in serials]
