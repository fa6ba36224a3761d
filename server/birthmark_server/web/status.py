"""Is it up, and how much is in it? `/healthz` for load balancers, `/v1/status` for operators."""

from collections.abc import Callable, Sequence
from datetime import datetime
from importlib.metadata import version

from birthmark_server.domain import Caller
from birthmark_server.store.protocol import Store
from birthmark_server.web.doors import OPERATORS, PUBLIC, Answer, Call, Route
from birthmark_wire import PROTOCOL
from birthmark_wire.encoding import write_json
from birthmark_wire.enrollment import JSON_MIME


def status_routes(
    store: Store, *, troubles: Callable[[], Sequence[str]], started_at: datetime, now: Callable[[], datetime]
) -> list[Route]:
    """Return both routes. troubles: what is not well though requests are answered, a sentence each; public, quick."""

    def health(_call: Call, _caller: Caller) -> Answer:
        lines = ["ok", *troubles()]
        return Answer(200, "".join(f"{line}\n" for line in lines).encode(), "text/plain; charset=utf-8")

    def status(_call: Call, _caller: Caller) -> Answer:
        body = write_json(
            {
                "protocol": PROTOCOL,
                "version": version("birthmark"),
                "now": f"{now():%Y-%m-%dT%H:%M:%SZ}",
                "started_at": f"{started_at:%Y-%m-%dT%H:%M:%SZ}",
                "devices": {state.value: count for state, count in store.count_devices().items()},
            }
        )
        return Answer(200, body, JSON_MIME)

    return [
        Route("GET", "/healthz", PUBLIC, health, cheap=True),
        Route("GET", "/v1/status", OPERATORS, status),
    ]
