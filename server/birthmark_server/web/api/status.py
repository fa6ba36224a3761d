"""Which server this is, and how many devices stand where."""

from datetime import datetime
from importlib.metadata import version

from birthmark_server.store.protocol import Store
from birthmark_server.web.api import views
from birthmark_wire import PROTOCOL


def status_of(store: Store, *, now: datetime, started_at: datetime | None) -> views.StatusView:
    """Return it. started_at: of the server; None where none answers."""
    return views.StatusView(
        protocol=PROTOCOL,
        version=version("birthmark"),
        now=now,
        started_at=started_at,
        devices=store.count_devices(),
    )
