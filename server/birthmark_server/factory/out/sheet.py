"""Labels as files: one PNG and one SVG for each unit, and a page of many to print on A4."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from birthmark_server.admission import device_id_for
from birthmark_server.ca import files
from birthmark_server.factory.out.label import HEIGHT_MM, WIDTH_MM, Label, draw_png, draw_svg, lay_out
from birthmark_server.factory.station.known import KnownUnit

LABELS: Final = "labels"
"""Where in a station's folder they lie."""
_ACROSS: Final = 3
_DOWN: Final = 10

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
@page {{ size: A4; margin: 8mm 15mm }}
body {{ margin: 0; background: #fff }}
.sheet {{ display: grid; grid-template-columns: repeat({across}, {width}mm); grid-auto-rows: {height}mm;
  gap: 2mm 15mm; width: 180mm; break-after: page; break-inside: avoid }}
.sheet:last-child {{ break-after: auto }}
svg {{ display: block; outline: .1mm dashed #ccc }}
@media screen {{ body {{ padding: 8mm 15mm; background: #eee }}
  .sheet {{ margin: 0 auto 8mm; padding: 8mm 15mm; background: #fff }} }}
</style></head><body>
{sheets}</body></html>
"""


def label_of(unit: KnownUnit) -> Label:
    """Return what a unit's label says. Without the server its device id is the one that it will have."""
    return Label(unit.serial, unit.model, unit.device_id or device_id_for(unit.serial))


def file_name(serial: str) -> str:
    """Return a name for a unit's files: its serial number, unless that is no file's name."""
    return serial if re.fullmatch(r"[A-Za-z0-9+-][A-Za-z0-9 .+-]*", serial, re.ASCII) else device_id_for(serial)


def write_label(folder: Path, label: Label) -> Path:
    """Write a label's PNG and SVG; return the PNG's path. Raise OSError, or FactoryExtraMissing."""
    folder.mkdir(parents=True, exist_ok=True)
    layout = lay_out(label)
    path = folder / f"{file_name(label.serial)}.png"
    files.replace(path.with_name(f"{file_name(label.serial)}.svg"), draw_svg(layout).encode("utf-8"))
    files.replace(path, draw_png(layout))
    return path


def draw_sheet(labels: Iterable[Label], *, title: str) -> str:
    """Return a page with all labels, 3 x 10 on each A4 sheet, at their size where it is printed at 100 %."""
    drawn = [draw_svg(lay_out(label)) for label in labels]
    each = _ACROSS * _DOWN
    sheets = "".join(
        f'<div class="sheet">\n{"".join(drawn[start : start + each])}</div>\n' for start in range(0, len(drawn), each)
    )
    return _PAGE.format(title=title, across=_ACROSS, width=WIDTH_MM, height=HEIGHT_MM, sheets=sheets)
