"""`birthmark group`: saved queries. Who is in a group is asked anew each time."""

from typing import Annotated

import typer

from birthmark_server.cli.device_options import Which
from birthmark_server.cli.option_groups import grouped
from birthmark_server.cli.output import Column, Json, Limit, parts, print_json, say, show, show_one, who
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.web.api.bodies import NewGroup
from birthmark_server.web.api.queries import Selection
from birthmark_server.web.api.views import GroupView

app = typer.Typer(no_args_is_help=True, help="Groups: saved queries for devices, asked anew each time.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The group's name: a-z, 0-9 and '-'.")]

_COLUMNS = (
    Column[GroupView]("group", lambda group: group.name),
    Column[GroupView]("query", lambda group: _words(group.query)),
    Column[GroupView]("saved by", lambda group: who(group.saved_by)),
    Column[GroupView]("at", lambda group: group.saved_at, "dim"),
)


def _words(query: Selection) -> str:
    asked = query.model_dump(mode="json", exclude_defaults=True)
    return (
        ", ".join(f"{name} {' '.join(v) if isinstance(v, list) else v}" for name, v in asked.items()) or "all devices"
    )


@app.command()
@grouped
def save(context: typer.Context, name: Name, which: Which, operator: OperatorFile = None) -> None:
    """Save a query as a group; what is given must all hold. Spans count from when the group is asked.

    Example:  birthmark group save plant-7-late --tag plant-7 --expiring-before 7d
    """
    query = which.selection()
    with workplace(context).desk(operator) as desk:
        group = desk.save_group(NewGroup(name=name, query=query))
    say(f"group {group.name}: {_words(group.query)}; who is in it: birthmark device list --group {group.name}")


@app.command("list")
def list_groups(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the groups, by name.

    Example:  birthmark group list
    """
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.groups(after=after, limit=size), limit=limit))
    show(found, _COLUMNS, as_json=as_json, empty="no groups yet; birthmark group save NAME --tag TAG")


@app.command("show")
def show_group(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Show a group's query.

    Example:  birthmark group show plant-7-late
    """
    with workplace(context).desk() as desk:
        group = desk.group(name)
    if as_json:
        print_json(group.model_dump(mode="json", exclude_defaults=True))
    else:
        show_one({**group.model_dump(exclude={"query"}), "query": _words(group.query)}, as_json=False)


@app.command()
def remove(context: typer.Context, name: Name, operator: OperatorFile = None) -> None:
    """Remove a group; its devices stay as they are.

    Example:  birthmark group remove plant-7-late
    """
    with workplace(context).desk(operator) as desk:
        desk.remove_group(name)
    say(f"group {name} is removed")
