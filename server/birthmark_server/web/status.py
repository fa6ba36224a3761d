"""Is it up? `/healthz`, for load balancers."""

from birthmark_server.domain import Caller
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route


def status_routes() -> list[Route]:
    """Return the route."""

    def health(_call: Call, _caller: Caller) -> Answer:
        return Answer(200, b"ok\n", "text/plain; charset=utf-8")

    return [Route("GET", "/healthz", PUBLIC, health, cheap=True)]
