"""`birthmark journal`: what was issued, revoked and set up, outside the database; after a restore it is told again."""

from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.cli.output import Json, print_json, say
from birthmark_server.cli.workplace import workplace
from birthmark_server.store import journal

app = typer.Typer(no_args_is_help=True, help="The journal: check it, and tell it again to a restored database.")


@app.command()
def replay(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Journals of all replicas that wrote to this database. [default: this server's]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Tell a restored database what was issued, revoked and set up since its backup: nothing is forgotten.

    Stop the servers, restore, replay, start. Replaying twice changes nothing.

    Example:  birthmark journal replay /var/lib/birthmark/journal
    """
    place = workplace(context)
    paths = files or [Path(place.settings().database.journal)]
    with place.store() as store:
        told = store.replay(entry for line in journal.merged(paths) for entry in line.entries)
    if as_json:
        print_json({"journals": [str(path) for path in paths], "applied": told})
        return
    say(f"{told} entries were not in the database yet; it knows them now")


@app.command()
def check(context: typer.Context, as_json: Json = False) -> None:
    """Read this server's whole journal and check that no line is missing or altered.

    Example:  birthmark journal check
    """
    path = Path(workplace(context).settings().database.journal)
    lines = sum(1 for _ in journal.read_journal(path))
    if as_json:
        print_json({"journal": str(path), "lines": lines})
        return
    say(f"{path}: {lines} lines, each following the one before")
