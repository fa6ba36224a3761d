"""Requests to the server's routes, and what comes back as the models that the server writes it from."""

import secrets
from typing import TypeVar
from urllib.parse import quote, urlencode

from pydantic import BaseModel, ValidationError

from birthmark_server.cli.https import OperatorConnection, ServerFailed

M = TypeVar("M", bound=BaseModel)


class RemoteRequests:
    """What each part of the remote desk is made of."""

    def __init__(self, connection: OperatorConnection) -> None:
        self._connection = connection

    def _get(self, path: str, answer: type[M]) -> M:
        return _read(answer, self._connection.ask("GET", path))

    def _delete(self, path: str) -> None:
        self._connection.ask("DELETE", path)

    def _remove(self, path: str, answer: type[M]) -> M:
        """A DELETE that says what was removed."""
        return _read(answer, self._connection.ask("DELETE", path))

    def _list(self, path: str, answer: type[M], after: str, limit: int, query: BaseModel | None = None) -> M:
        values = {} if query is None else query.model_dump(mode="json", exclude_defaults=True)
        values |= {"limit": limit, **({"cursor": after} if after else {})}
        words = {name: str(value).lower() if isinstance(value, bool) else value for name, value in values.items()}
        return self._get(f"{path}?{urlencode(words, doseq=True)}", answer)

    def _post(self, path: str, answer: type[M], body: BaseModel | None = None) -> M:
        return _read(answer, self._connection.ask("POST", path, _written(body)))

    def _think(self, path: str, answer: type[M], body: BaseModel) -> M:
        """A POST that changes nothing."""
        return _read(answer, self._connection.ask("POST", path, _written(body), reads=True))

    def _create(self, path: str, answer: type[M], body: BaseModel) -> M:
        return _read(answer, self._connection.ask("POST", path, _written(body), key=secrets.token_urlsafe(24)))


def segment(value: str) -> str:
    """Return one segment of a path: what a person typed must not become two, or none."""
    return quote(value, safe="") or "%20"


def _written(body: BaseModel | None) -> bytes:
    return b"" if body is None else body.model_dump_json(exclude_none=True).encode()


def _read(answer: type[M], data: bytes) -> M:
    try:
        return answer.model_validate_json(data)
    except ValidationError as errors:
        first = errors.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ServerFailed(f"the server's answer is none that this version knows: {place}: {first['msg']}") from None
