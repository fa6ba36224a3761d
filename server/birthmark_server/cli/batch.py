"""`birthmark batch`: windows in which a factory's station lets devices in that no manifest lists."""

from typing import Annotated

import typer

from birthmark_server.cli.output import Column, Json, Limit, moment, parts, say, show, who
from birthmark_server.cli.spans import seconds
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.web.api.bodies import NewBatch
from birthmark_server.web.api.views import BatchView
from birthmark_wire import ids

app = typer.Typer(no_args_is_help=True, help="Batches: windows in which stations relay devices that no manifest lists.")


def _state(batch: BatchView) -> str:
    if batch.closed_at is not None:
        return "closed"
    if batch.closes_at <= now():
        return "over"
    return "full" if batch.used >= batch.quota else "open"


_COLUMNS = (
    Column[BatchView]("batch", lambda batch: batch.name),
    Column[BatchView]("model", lambda batch: batch.model),
    Column[BatchView]("used", lambda batch: f"{batch.used} of {batch.quota}"),
    Column[BatchView]("state", _state, lambda batch: "green" if _state(batch) == "open" else "dim"),
    Column[BatchView]("closes", lambda batch: batch.closes_at),
    Column[BatchView]("opened by", lambda batch: batch.opened_by),
    Column[BatchView](
        "closed by", lambda batch: f"{who(batch.closed_by)}, {moment(batch.closed_at)}" if batch.closed_at else "-"
    ),
)


@app.command("open")
def open_batch(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name that the stations give, as 2026-W14.")],
    model: Annotated[str, typer.Option(help="The model of every device in it.")],
    quota: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many devices may be let in.")],
    duration: Annotated[
        str, typer.Option("--for", metavar="8h", help="How long it is open: minutes m, hours h, days d.")
    ],
    operator: OperatorFile = None,
) -> None:
    """Open a batch window.

    It admits only what an authenticated station relays, up to the quota, until its time is over.

    Example:  birthmark batch open 2026-W14 --model EDGE-7 --quota 500 --for 10h
    """
    new = NewBatch(
        name=ids.printable_name(name, field="batch"),
        model=ids.printable_name(model, field="model"),
        quota=quota,
        open_for_s=seconds(duration),
    )
    with workplace(context).desk(operator) as desk:
        batch = desk.open_batch(new)
    say(f"batch {batch.name} is open for {quota} devices of model {model} until {batch.closes_at:%Y-%m-%d %H:%M}Z")


@app.command()
def close(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The batch's name.")],
    operator: OperatorFile = None,
) -> None:
    """Close a batch now. Closing a closed one changes nothing.

    Example:  birthmark batch close 2026-W14
    """
    with workplace(context).desk(operator) as desk:
        batch = desk.close_batch(name)
    say(f"batch {batch.name} is closed; it let {batch.used} of {batch.quota} devices in")


@app.command("list")
def list_batches(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the batches, by name.

    Example:  birthmark batch list
    """
    with workplace(context).desk() as desk:
        batches = list(parts(lambda after, size: desk.batches(after=after, limit=size), limit=limit))
    show(batches, _COLUMNS, as_json=as_json, empty="no batches yet; open one with: birthmark batch open NAME")
