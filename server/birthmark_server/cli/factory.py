"""`birthmark factory`: make what a work order asks for, see how far it is, and what left the line."""

import typer

from birthmark_server.cli.factory_labels import labels
from birthmark_server.cli.factory_manifest import manifest, verify
from birthmark_server.cli.factory_report import report
from birthmark_server.cli.factory_run import run
from birthmark_server.cli.factory_status import status

_HELP = "The factory line: make the devices of a work order at this station; then manifest, labels and report."

app = typer.Typer(no_args_is_help=True, help=_HELP)

app.command()(run)
app.command()(status)
app.command()(labels)
app.command()(manifest)
app.command()(verify)
app.command()(report)
