"""`birthmark status`: which server this is, and how many devices stand where."""

import typer

from birthmark_server.cli.output import Json, print_json, show_fields
from birthmark_server.cli.workplace import workplace


def status(context: typer.Context, as_json: Json = False) -> None:
    """Say which server answers, and how many devices are active, revoked, denied, retired.

    From afar it is the quickest way to see that a context works.

    Example:  birthmark --context plant-7 status
    """
    with workplace(context).desk() as desk:
        seen = desk.status()
    if as_json:
        print_json(seen.model_dump(mode="json"))
        return
    record = {name: getattr(seen, name) for name in ("protocol", "version", "now", "started_at")}
    show_fields((name.replace("_", " "), value) for name, value in record.items())
    show_fields((f"devices {state.value}", count) for state, count in seen.devices.items())
