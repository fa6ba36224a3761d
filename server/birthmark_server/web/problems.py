"""What HTTP makes of each error: one table, RFC 9457 problem documents, and plain text for EST.

The most derived class in the table decides. `code` comes from the error's own class and is stable; `type` is that code
as a URN. Trouble of our own (5xx) tells the client nothing but the request id under which the log has it.
"""

from typing import Final

from birthmark_server.campaigns import BadCampaign, NotNow
from birthmark_server.enrollment_states import ChallengeExpired
from birthmark_server.errors import BirthmarkError, Busy, Malformed, Misconfigured, Refused
from birthmark_server.roles import RoleNotAllowed
from birthmark_server.store import errors as store
from birthmark_server.web import errors as web
from birthmark_server.web.doors import Answer
from birthmark_server.web.errors import BadQuery
from birthmark_wire.encoding import write_json
from birthmark_wire.errors import DecodeError

PROBLEM_MIME: Final = "application/problem+json"
PLAIN_MIME: Final = "text/plain; charset=utf-8"

TABLE: Final[dict[type[Exception], tuple[int, str]]] = {
    BirthmarkError: (500, "Something went wrong in the server"),
    Misconfigured: (500, "The server is misconfigured"),
    Malformed: (400, "The request can't be read"),
    DecodeError: (400, "The request can't be read"),
    web.NoSuchResource: (404, "There is nothing here"),
    web.MethodNotAllowed: (405, "This resource has other methods"),
    web.BodyTooSlow: (408, "The request took too long to arrive"),
    web.BodyTooLarge: (413, "The request is too large"),
    web.WrongMediaType: (415, "The request has another content type"),
    Refused: (403, "The request is refused"),
    web.NotYourDoor: (403, "This client may not use this resource"),
    web.BadQuery: (400, "The query can't be read"),
    web.KeyReused: (422, "The idempotency key was used for another request"),
    web.KeyInUse: (409, "The first request with this idempotency key is still being worked on"),
    RoleNotAllowed: (403, "This role may not do it"),
    BadCampaign: (422, "The campaign can't be as asked for"),
    NotNow: (409, "The campaign is in no state for it"),
    ChallengeExpired: (410, "The enrollment's time is over"),
    store.NotFound: (404, "There is nothing of that name"),
    store.NonceUnknown: (403, "The nonce can't be used"),
    store.Conflict: (409, "It contradicts what is on record"),
    Busy: (429, "Too many requests"),
    store.StoreBusy: (503, "The database is busy"),
    store.IssuerSuperseded: (503, "Another authority issues by now"),
    store.StoreFailed: (503, "The database can't be used"),
}


def status_of(error: Exception) -> tuple[int, str]:
    """Return HTTP status and title of `error`: 500 for one that nobody foresaw."""
    for ancestor in type(error).__mro__:
        if ancestor in TABLE:
            return TABLE[ancestor]
    return TABLE[BirthmarkError]


def code_of(error: Exception) -> str:
    """Return the stable code of `error`."""
    if isinstance(error, DecodeError):
        return Malformed.code
    return error.code if isinstance(error, BirthmarkError) else BirthmarkError.code


def answer_for(error: Exception, *, request_id: str, est: bool = False, accept: str = "") -> Answer:
    """Return the response to a request that ended in `error`.

    est: RFC 7030 §4.2.3 asks for a plain-text explanation; a client that accepts problem documents gets one instead.
    """
    status, title = status_of(error)
    ours = status >= 500 and not isinstance(error, Busy)
    detail = "the server's log has it under this request id" if ours else _told(error)
    headers = [("Retry-After", str(error.retry_after_s))] if isinstance(error, Busy) else []
    if status in (405, 413, 408):
        headers.append(("Connection", "close"))  # what follows on this connection may be the rest of this request
    code = code_of(error)
    if est and PROBLEM_MIME not in accept:
        text = f"{title}: {detail} (code {code}, request {request_id})\n"
        return Answer(status, text.encode(), PLAIN_MIME, tuple(headers))
    members: dict[str, object] = {
        "type": f"urn:birthmark:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
    }
    if isinstance(error, DecodeError | BadQuery) and error.field:
        members["field"] = error.field
    return Answer(status, write_json(members), PROBLEM_MIME, tuple(headers))


def _told(error: Exception) -> str:
    """Return what a client may hear of `error`; the log and the book of refusals have the whole message."""
    return (error.told if isinstance(error, BirthmarkError) else "") or str(error)
