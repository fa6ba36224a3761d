"""`birthmark factory report`: yield, failures and cycle times of one station, or of all."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.ca import files
from birthmark_server.cli.output import counted, print_json, say


def report(
    station: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="A station's folder; repeat it for several. [default: .]"),
    ] = None,
    workorder: Annotated[str, typer.Option(metavar="NAME", help="Only this work order.")] = "",
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where report.html and report.json go.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print the JSON instead, and write nothing.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON's schema instead.")] = False,
) -> None:
    """Draw the yield report: report.html, one page that needs nothing else, and report.json with the same figures.

    Reads the stations' records, verifies their chains, and needs no server. A station that runs may go on meanwhile.

    Example:  birthmark factory report --station /srv/line-1 --station /srv/line-2 --workorder W-7 --out /srv/reports
    """
    from birthmark_server.factory.out.folder import read_folder  # with pydantic's models: not for every command's start
    from birthmark_server.factory.out.report import draw_report
    from birthmark_server.factory.out.yields import make_report, report_schema

    if schema:
        print_json(report_schema())
        return
    folders = [read_folder(folder) for folder in station or [Path()]]
    made = make_report(folders, now=datetime.now(UTC), workorder=workorder)
    text = made.model_dump_json(indent=2) + "\n"
    if as_json:
        sys.stdout.write(text)
        return
    out.mkdir(parents=True, exist_ok=True)
    files.replace(out / "report.json", text.encode("utf-8"))
    files.replace(out / "report.html", draw_report(made).encode("utf-8"))
    share = made.total.first_pass_yield
    first = "" if share is None else f", first-pass yield {share:.1%}"
    say(f"{out / 'report.html'}: {counted(made.total.made, 'unit')} made at {counted(len(folders), 'station')}{first}")
