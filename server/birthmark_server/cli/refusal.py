"""`birthmark refusal`: who was sent away, and why."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from birthmark_server.cli.output import Column, Json, Limit, plain, print_json, show
from birthmark_server.cli.workplace import workplace
from birthmark_server.domain import Refusal

app = typer.Typer(no_args_is_help=True, help="Refusals: who was sent away, and why.")

_COLUMNS = (
    Column[Refusal]("at", lambda refusal: refusal.at, "dim"),
    Column[Refusal]("code", lambda refusal: refusal.code, "yellow"),
    Column[Refusal]("door", lambda refusal: refusal.door),
    Column[Refusal]("from", lambda refusal: refusal.source),
    Column[Refusal]("device", lambda refusal: refusal.device_id),
    Column[Refusal]("EK", lambda refusal: refusal.ek_sha256),
    Column[Refusal]("request", lambda refusal: refusal.request_id, "dim"),
    Column[Refusal]("detail", lambda refusal: refusal.detail),
)


@app.command("list")
def list_refusals(
    context: typer.Context,
    code: Annotated[str, typer.Option(help="Only those with this code, as ek-untrusted.")] = "",
    device: Annotated[str, typer.Option(metavar="ID", help="Only those of this device.")] = "",
    since: Annotated[datetime | None, typer.Option(help="Only those since then, UTC.")] = None,
    limit: Limit = 50,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="With --json: what was sent, in hex; else only how many bytes.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List refused requests, newest first.

    The request id is the one that the client got, and the one in the server's log. The EK is what a manifest's column
    ek_sha256 wants, where the device showed one.

    Example:  birthmark refusal list --device edge-000042 --limit 5
    """
    with workplace(context).store() as store:
        refusals = store.list_refusals(code=code, device_id=device, since=utc(since), limit=limit)
    if as_json and not evidence:
        print_json([_without_evidence(refusal) for refusal in refusals])
        return
    show(refusals, _COLUMNS, as_json=as_json, empty="nobody was refused")


def _without_evidence(refusal: Refusal) -> dict[str, object]:
    fields: dict[str, object] = plain(refusal)
    del fields["evidence"]
    return {**fields, "evidence_bytes": len(refusal.evidence)}


def utc(value: datetime | None) -> datetime | None:
    """Return a time as typed, which is UTC, with its zone."""
    return None if value is None else value.replace(tzinfo=UTC)
