"""`birthmark doctor`: what is wrong with this installation, and what to do about it."""

from typing import Final

import typer

from birthmark_server.cli.checks import Finding, State, examine
from birthmark_server.cli.output import Column, Json, say, show
from birthmark_server.cli.workplace import now, workplace

_STYLES: Final = {State.WELL: "green", State.SOON: "yellow", State.WRONG: "red bold"}

_COLUMNS = (
    Column[Finding]("", lambda finding: finding.state.value, lambda finding: _STYLES[finding.state]),
    Column[Finding]("what", lambda finding: finding.what),
    Column[Finding]("seen", lambda finding: finding.seen),
    Column[Finding]("to do", lambda finding: finding.advice, "bold"),
)


def doctor(context: typer.Context, as_json: Json = False) -> None:
    """Look at everything this server needs: settings, file modes, database, journal, certificates, clock, TPM roots,
    broker; and say what to do about what is wrong.

    Ends with 1 if something is wrong, with 0 if all is well or only due soon. Changes nothing.

    Example:  birthmark doctor --json
    """
    place = workplace(context)
    findings = list(examine(place.settings(), config=place.config_path, now=now()))
    show(findings, _COLUMNS, as_json=as_json, empty="")
    wrong = sum(finding.state is State.WRONG for finding in findings)
    if wrong:
        if not as_json:
            say(f"{wrong} of {len(findings)} checks say no")
        raise typer.Exit(1)
