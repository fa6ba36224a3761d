"""Is it up? `/healthz`, for load balancers."""

from collections.abc import Callable, Sequence

from birthmark_server.domain import Caller
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route


def status_routes(*, troubles: Callable[[], Sequence[str]]) -> list[Route]:
    """Return the route. troubles: what is not well though requests are answered, a sentence each; public, quick."""

    def health(_call: Call, _caller: Caller) -> Answer:
        lines = ["ok", *troubles()]
        return Answer(200, "".join(f"{line}\n" for line in lines).encode(), "text/plain; charset=utf-8")

    return [Route("GET", "/healthz", PUBLIC, health, cheap=True)]
