"""The enrollment door: `/v1/enrollments`, JSON in, JSON out. What it means is enrollment.py's."""

from birthmark_server.domain import Caller
from birthmark_server.enrollment import EnrollmentService
from birthmark_server.web.doors import ENROLLMENT, Answer, Call, Route
from birthmark_server.web.errors import WrongMediaType
from birthmark_wire.enrollment import ACTIVATION_SUFFIX, ENROLLMENTS_PATH, JSON_MIME


def enrollment_routes(service: EnrollmentService) -> list[Route]:
    """Return the two routes of an enrollment."""

    def begin(call: Call, caller: Caller) -> Answer:
        require_media_type(call, JSON_MIME)
        return Answer(201, service.begin(call.body, caller), JSON_MIME)

    def finish(call: Call, caller: Caller) -> Answer:
        require_media_type(call, JSON_MIME)
        return Answer(200, service.finish(call.argument, call.body, caller), JSON_MIME)

    return [
        Route("POST", ENROLLMENTS_PATH, ENROLLMENT, begin),
        Route("POST", f"{ENROLLMENTS_PATH}/{{id}}{ACTIVATION_SUFFIX}", ENROLLMENT, finish),
    ]


def require_media_type(call: Call, wanted: str) -> None:
    """Raise WrongMediaType unless the body is said to be `wanted`."""
    if call.media_type != wanted:
        raise WrongMediaType(f"want Content-Type {wanted}, got {call.media_type[:80] or 'none'}")
