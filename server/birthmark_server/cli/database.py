"""`birthmark database`: the store's schema."""

from pathlib import Path

import typer

from birthmark_server.cli.output import say
from birthmark_server.cli.workplace import open_database, workplace

app = typer.Typer(no_args_is_help=True, help="The database: make it, or bring it up to this version.")


@app.command()
def upgrade(context: typer.Context) -> None:
    """Make the database, or bring an older one up to this version. Doing it twice changes nothing.

    Stop the servers first, and make a backup: sqlite3 FILE ".backup COPY", or pg_dump.

    Example:  birthmark database upgrade
    """
    settings = workplace(context).settings()
    with open_database(settings.database.url, journal=Path(settings.database.journal), create=True) as store:
        faults = store.check()
    for fault in faults:
        say(fault)
    if faults:
        raise typer.Exit(1)
    say("the database is up to date")
