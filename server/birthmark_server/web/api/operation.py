"""From a request to the desk and back: what every route of operators does alike.

In this order: the path's argument, the query and the body are read and validated; the desk is opened in the caller's
name and role; an idempotency key is looked up; the act is done, and its answer kept under the key.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, unquote

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from birthmark_server.ca.record import common_name
from birthmark_server.domain import Caller
from birthmark_server.roles import ROLE_OF, Role
from birthmark_server.web.api.cursor import make_cursor, read_cursor
from birthmark_server.web.api.desk import Desk
from birthmark_server.web.api.idempotency import AnswerBook
from birthmark_server.web.api.queries import PageQuery
from birthmark_server.web.contract import JSON_MIME, Contract
from birthmark_server.web.doors import Answer, Call, Route, for_roles
from birthmark_server.web.errors import BadQuery, CertificateRequired, WrongMediaType
from birthmark_wire.errors import DecodeError

MOST_PARAMETERS: Final = 32
_PAGING: Final = {"cursor", "limit"}

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read. argument: what stands for `{id}`, decoded; after: behind which item a listing goes on."""

    desk: Desk
    argument: str
    query: Any
    body: Any
    after: str
    limit: int


Act = Callable[[Asked], BaseModel | None]
OpenDesk = Callable[[str, Role], Desk]
"""Opens the desk in this operator's name and role."""
Entry = tuple[str, str, frozenset[Role], Contract, Act]
"""An operation: its method, its path, who may ask for it, what goes in and comes out, and what it asks of the desk."""


@dataclass(frozen=True, slots=True)
class Operations:
    """Makes routes. answers: kept for idempotency keys."""

    open_desk: OpenDesk
    answers: AnswerBook

    def route(self, method: str, path: str, roles: frozenset[Role], contract: Contract, act: Act) -> Route:
        """Return the route of one operation, whose door is for these roles."""

        def handle(call: Call, caller: Caller) -> Answer:
            who, role = _operator(caller)
            argument = read_argument(call.argument)
            query = read_query(contract.query, call.query)
            body = read_body(contract.body, call)
            after, limit = _place(path, query)
            asked = Asked(self.open_desk(who, role), argument, query, body, after, limit)

            def answer() -> Answer:
                return _answer(path, contract, query, act(asked))

            if not contract.creates:
                return answer()
            return self.answers.once(who, call, f"{method} {path}", answer)

        return Route(
            method,
            path,
            for_roles(roles),
            handle,
            contract=contract,
            most_body_bytes=contract.most_body_bytes,
            alone=contract.alone,
        )


def _operator(caller: Caller) -> tuple[str, Role]:
    if caller.certificate is None:
        raise CertificateRequired("this resource needs a client certificate, and none was sent")
    return common_name(caller.certificate.subject), ROLE_OF[caller.certificate.profile]


def read_argument(raw: str) -> str:
    """Return what stands for `{id}`; raise DecodeError."""
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        raise DecodeError("the path is not UTF-8, percent-encoded") from None


def read_query(model: type[M] | None, raw: str) -> M | None:
    """Return what stands behind the `?`; raise BadQuery naming the parameter."""
    try:
        pairs = parse_qsl(
            raw, keep_blank_values=True, strict_parsing=bool(raw), max_num_fields=MOST_PARAMETERS, errors="strict"
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise BadQuery(f"want NAME=VALUE pairs with & between: {error}") from None
    values: dict[str, Any] = {}
    lists = {name for name, field in model.model_fields.items() if field.default == ()} if model else set()
    for name, value in pairs:
        if name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise BadQuery("stands there twice", field=name[:64])
        else:
            values[name] = value
    if model is None:
        if values:
            raise BadQuery("no parameter is known here", field=next(iter(values))[:64])
        return None
    try:
        return model.model_validate(values)
    except ValidationError as errors:
        first = _first(errors)
        raise BadQuery(_sentence(first), field=_path(first)) from None


def read_body(model: type[M] | None, call: Call) -> M | None:
    """Return the body; raise DecodeError naming the member, WrongMediaType."""
    if model is None:
        if call.body:
            raise DecodeError("want no body")
        return None
    if call.media_type != JSON_MIME:
        raise WrongMediaType(f"want {JSON_MIME}, got {call.media_type[:80] or 'none'}")
    try:
        json.loads(call.body, object_pairs_hook=_no_duplicates)
        return model.model_validate_json(call.body, strict=True)
    except ValidationError as errors:
        first = _first(errors)
        raise DecodeError(_sentence(first), field=_path(first)) from None
    except DecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"want JSON in UTF-8: {error}") from None


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise DecodeError("stands twice in one object", field=next(n for n in names if names.count(n) > 1)[:80])
    return members


def _first(errors: ValidationError) -> ErrorDetails:
    return errors.errors(include_url=False, include_context=False)[0]


def _path(error: ErrorDetails) -> str:
    return ".".join(str(part) for part in error["loc"])[:128]


def _sentence(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return "is not known here"
    if error["type"] == "missing":
        return "is missing"
    message = error["msg"].removeprefix("Value error, ")
    return message if "got " in message else f"{message}, got {str(error['input'])[:80]!r}"


def _place(path: str, query: BaseModel | None) -> tuple[str, int]:
    """Return behind which item the listing goes on, and how many are wanted."""
    if not isinstance(query, PageQuery):
        return "", 0
    return (read_cursor(path, _filters(query), query.cursor) if query.cursor else ""), query.limit


def _filters(query: PageQuery) -> str:
    return query.model_dump_json(exclude=_PAGING, exclude_defaults=True)


def _answer(path: str, contract: Contract, query: BaseModel | None, value: BaseModel | None) -> Answer:
    if value is None:
        return Answer(204, b"", JSON_MIME)
    if isinstance(query, PageQuery):
        following = getattr(value, "next", None)
        if following is not None:
            value = value.model_copy(update={"next": make_cursor(path, _filters(query), following)})
    return Answer(contract.status, value.model_dump_json().encode(), JSON_MIME)
