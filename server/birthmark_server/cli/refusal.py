"""`birthmark refusal`: who was sent away, and why."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from birthmark_server.cli.output import Column, Json, Limit, parts, print_json, show
from birthmark_server.cli.workplace import workplace
from birthmark_server.web.api.queries import RefusalQuery
from birthmark_server.web.api.views import RefusalView
from birthmark_wire import ids

app = typer.Typer(no_args_is_help=True, help="Refusals: who was sent away, and why.")

_COLUMNS = (
    Column[RefusalView]("at", lambda refusal: refusal.at, "dim"),
    Column[RefusalView]("code", lambda refusal: refusal.code, "yellow"),
    Column[RefusalView]("door", lambda refusal: refusal.door),
    Column[RefusalView]("from", lambda refusal: refusal.source),
    Column[RefusalView]("device", lambda refusal: refusal.device_id),
    Column[RefusalView]("EK", lambda refusal: (refusal.ek_sha256, *refusal.other_ek_sha256)),
    Column[RefusalView]("request", lambda refusal: refusal.request_id, "dim"),
    Column[RefusalView]("detail", lambda refusal: refusal.detail),
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

    The request id is the one that the client got, and the one in the server's log. Of the EKs that the
    device showed, the one that was proven comes first, or RSA 2048's where it has one: what a manifest's column
    ek_sha256 wants is the one of the model's template.

    Example:  birthmark refusal list --device edge-000042 --limit 5
    """
    query = RefusalQuery(
        code=code,
        device_id=ids.device_id(device, field="--device") if device else None,
        since=utc(since),
        evidence=evidence and as_json,
    )
    with workplace(context).desk() as desk:
        refusals = list(parts(lambda after, size: desk.refusals(query, after=after, limit=size), limit=limit))
    if as_json:
        print_json([_fields(refusal, evidence=evidence) for refusal in refusals])
        return
    show(refusals, _COLUMNS, as_json=as_json, empty="nobody was refused")


def _fields(refusal: RefusalView, *, evidence: bool) -> dict[str, object]:
    return refusal.model_dump(mode="json", exclude={"evidence_bytes" if evidence else "evidence"})


def utc(value: datetime | None) -> datetime | None:
    """Return a time as typed, which is UTC, with its zone."""
    return None if value is None else value.replace(tzinfo=UTC)
