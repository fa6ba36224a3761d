"""`birthmark factory`: make what a work order asks for, and see how far it is."""

import typer

from birthmark_server.cli.factory_run import run
from birthmark_server.cli.factory_status import status

app = typer.Typer(no_args_is_help=True, help="The factory line: make the devices of a work order at this station.")

app.command()(run)
app.command()(status)
