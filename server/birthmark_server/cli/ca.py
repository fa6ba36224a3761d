"""`birthmark ca`: replace a certificate authority, or the root, without stranding a device (docs/rollover.md)."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.text import Text

from birthmark_server.authorities import AuthorityState
from birthmark_server.cli.ca_drawing import drawn, facts
from birthmark_server.cli.output import (
    Column,
    Json,
    Limit,
    end_drawing,
    heading,
    moment,
    parts,
    plain,
    print_json,
    say,
    show,
)
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.web.api.authority_views import Activation, AuthorityMoved, AuthorityStatus, AuthorityView

app = typer.Typer(no_args_is_help=True, help="Authorities: replace a CA, or the root, and strand no device.")

Look = Callable[[], AuthorityStatus]
Name = Annotated[str, typer.Argument(metavar="CA", help="The authority's name, as in birthmark ca list.")]

_LOOK_S: Final = 1.0
_ALL: Final = 10**9
_STYLES: Final = {
    AuthorityState.NEW: "",
    AuthorityState.STAGED: "yellow",
    AuthorityState.ACTIVE: "green",
    AuthorityState.SUPERSEDED: "dim",
    AuthorityState.RETIRED: "red",
}
_COLUMNS: Final = (
    Column[AuthorityView]("CA", lambda one: one.name),
    Column[AuthorityView]("kind", lambda one: one.kind.value),
    Column[AuthorityView]("state", lambda one: one.state.value, lambda one: _STYLES[one.state]),
    Column[AuthorityView]("below", lambda one: "" if one.root == one.name else one.root),
    Column[AuthorityView]("since bundle", lambda one: one.since or ""),
    Column[AuthorityView]("here", lambda one: one.here),
    Column[AuthorityView]("until", lambda one: one.not_after),
    Column[AuthorityView]("changed", lambda one: one.changed_at, "dim"),
    Column[AuthorityView]("by", lambda one: one.changed_by, "dim"),
    Column[AuthorityView]("SHA-256", lambda one: one.sha256, "dim"),
)


@app.command("list")
def list_authorities(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List all authorities: which of each kind issues, which is staged, which is on its way out.

    here: its certificate is in the CA folder of the server that answers, and its root has not revoked it.

    Example:  birthmark ca list
    """
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.authorities.authorities(after=after, limit=size), limit=limit))
    show(found, _COLUMNS, as_json=as_json, empty="no authorities yet; birthmark init")


@app.command()
def status(
    context: typer.Context,
    name: Name,
    watch: Annotated[
        bool, typer.Option("--watch", help="Draw it live, until it may go on. With --json: one line for each change.")
    ] = False,
    everyone: Annotated[
        bool, typer.Option("--all", help="Name every device that lags and every certificate below it, not the first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how far an authority is: who knows it, who does not yet, what stands below it, and what to do next.

    Example:  birthmark ca status root-2030 --watch
    """
    with workplace(context).desk() as desk:
        seen = desk.authorities.authority(name)
        if watch and as_json:
            _print_changes(lambda: desk.authorities.authority(name), seen)
            return
        if watch:
            _draw_live(lambda: desk.authorities.authority(name), seen)
            return
        laggards, leaves = None, None
        if everyone:
            leaves = list(parts(lambda a, n: desk.authorities.leaves(name, after=a, limit=n), limit=_ALL))
            if seen.devices:
                laggards = list(parts(lambda a, n: desk.authorities.laggards(name, after=a, limit=n), limit=_ALL))
    if as_json:
        more = {"all_laggards": laggards, "all_leaves": leaves}
        print_json(plain(seen) | {title: plain(found) for title, found in more.items() if found is not None})
        return
    console = Console(highlight=False, soft_wrap=True)
    for line in drawn(seen, laggards=laggards, leaves=leaves):
        console.print(line)
    if seen.happenings:
        heading("what happened")
        for one in seen.happenings:
            console.print(Text(f"{moment(one.at)}  {facts(one)}"))


@app.command()
def stage(context: typer.Context, name: Name, operator: OperatorFile = None, as_json: Json = False) -> None:
    """Have an authority of the CA folder believed, by servers, brokers and devices. It issues nothing yet.

    Undone by: birthmark ca withdraw.

    Example:  birthmark ca stage fleet-2027 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        moved = desk.authorities.stage(name)
    _told(moved, f"see who knows it: birthmark ca status {name} --watch", as_json=as_json)


@app.command()
def withdraw(context: typer.Context, name: Name, operator: OperatorFile = None, as_json: Json = False) -> None:
    """Undo the staging of an authority.

    Example:  birthmark ca withdraw fleet-2027
    """
    with workplace(context).desk(operator) as desk:
        moved = desk.authorities.withdraw(name)
    _told(moved, "nobody believes it any more", as_json=as_json)


@app.command()
def activate(
    context: typer.Context,
    name: Name,
    quorum: Annotated[
        float, typer.Option(min=0.01, max=100, help="Percent of the devices that must know it; for a root.")
    ] = 100.0,
    force: Annotated[bool, typer.Option("--force", help="Go on all the same: who was named would break.")] = False,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Let a staged authority issue, or a superseded one again; the one that issues is superseded by it.

    Refused while brokers, servers or (for a root) devices do not know it, naming them. Undone by activating the one
    before. Then move what stands below the old one: birthmark ca status OLD says how.

    Example:  birthmark ca activate fleet-2027 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        moved = desk.authorities.activate(name, Activation(quorum=quorum, force=force))
    lacking = f"{moved.act.missing} did not know it; " if moved.act.missing else ""
    what_next = "every server issues from it within two seconds; what is left of the old one: birthmark ca status OLD"
    _told(moved, f"{lacking}{what_next}", as_json=as_json)


@app.command()
def retire(context: typer.Context, name: Name, operator: OperatorFile = None, as_json: Json = False) -> None:
    """Have a superseded authority believed no more. Refused while anything stands below it, naming that.

    Undone by birthmark ca restore, for as long as its certificate and key are in the CA folder.

    Example:  birthmark ca retire fleet-2026 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        moved = desk.authorities.retire(name)
    _told(moved, f"undo: birthmark ca restore {name}", as_json=as_json)


@app.command()
def restore(context: typer.Context, name: Name, operator: OperatorFile = None, as_json: Json = False) -> None:
    """Undo the retirement of an authority: it is believed again, and issues nothing.

    Example:  birthmark ca restore fleet-2026
    """
    with workplace(context).desk(operator) as desk:
        moved = desk.authorities.restore(name)
    _told(moved, f"let it issue again: birthmark ca activate {name}", as_json=as_json)


def _told(moved: AuthorityMoved, what_next: str, *, as_json: bool) -> None:
    if as_json:
        print_json(plain(moved))
    say(f"{moved.authority.name} is {moved.authority.state}, by {moved.act.by}; {what_next}")


def _settled(seen: AuthorityStatus) -> bool:
    """Whether there is nothing to wait for: who must know it does; or nothing stands below it any more."""
    match seen.authority.state:
        case AuthorityState.STAGED:
            return seen.ready
        case AuthorityState.SUPERSEDED:
            return not seen.leaves and not seen.below
    return True


def _draw_live(look: Look, seen: AuthorityStatus) -> None:
    with Live(Text("\n").join(drawn(seen)), console=Console(highlight=False), refresh_per_second=4) as live:
        while not _settled(seen):
            time.sleep(_LOOK_S)
            seen = look()
            live.update(Text("\n").join(drawn(seen)))
    end_drawing(live.console)


def _print_changes(look: Look, seen: AuthorityStatus) -> None:
    said = None
    while True:
        now = plain(seen)
        changing = {**now, "brokers": [], "servers": []}, [one.missing for one in (*seen.brokers, *seen.servers)]
        if changing != said:
            typer.echo(json.dumps(now))
            said = changing
        if _settled(seen):
            return
        time.sleep(_LOOK_S)
        seen = look()
