"""`/v1/trust`: the trust bundle, for who can't reach its broker (birthmark_wire.trust).

Public: it is signed, and all in it is. Whoever asks judges it as one that came over MQTT.
"""

from collections.abc import Callable

from birthmark_server.domain import Caller
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route
from birthmark_server.web.errors import NoSuchResource
from birthmark_wire.trust import TRUST_CONTENT_TYPE, TRUST_PATH


def trust_routes(current: Callable[[], bytes | None]) -> list[Route]:
    """Return the route. current: the bundle in force, a JWS; None while there is none."""

    def tell(_call: Call, _caller: Caller) -> Answer:
        bundle = current()
        if bundle is None:
            raise NoSuchResource("there is no trust bundle: no CA was ever replaced here")
        return Answer(200, bundle, TRUST_CONTENT_TYPE)

    return [Route("GET", TRUST_PATH, PUBLIC, tell, cheap=True)]
