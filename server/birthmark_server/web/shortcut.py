"""The short way to answers that are in memory: read the plainest requests here, leave all others to aiohttp.

An OCSP answer that is signed already costs 2 us to find, and 500 to carry through an HTTP framework, a worker and a log
line. So a connection to the public listener looks at each request first: a whole GET or POST, HTTP/1.1, with no header
that would change its meaning, for something that is kept. Whatever else it is, and everything after it on that
connection, goes the long way, byte for byte as it came. The limits are the same; like a cache in front of us would,
the short way leaves no line in the log.
"""

from collections.abc import Callable, Iterator
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Final

from birthmark_server.errors import Busy
from birthmark_server.web.doors import Answer, Call

_MOST: Final = 4096
"""Octets of a request that is waited for here; OCSP's have a few hundred."""
_PLAIN: Final = frozenset(
    (b"host", b"user-agent", b"accept", b"accept-encoding", b"accept-language", b"content-type", b"content-length",
     b"if-none-match", b"cache-control", b"pragma")
)  # fmt: skip
"""Headers that leave a request what it is, or are read here. With any other one it goes the long way."""


class Incomplete(Enum):
    """More of a request that may go the short way is to come."""

    MORE = "more"


class Shortcut:
    """Answers whole requests below `folder`. kept: the answer, if it is in memory. take: raises Busy beyond a limit."""

    __slots__ = ("_folder", "_kept", "_request_ids", "_take")

    def __init__(
        self,
        *,
        folder: str,
        kept: Callable[[str, Call], Answer | None],
        take: Callable[[str], None],
        request_ids: Iterator[str],
    ) -> None:
        """kept: takes the method, and a Call whose argument is what follows `folder` and a slash, if anything does."""
        self._folder = folder.encode()
        self._kept = kept
        self._take = take
        self._request_ids = request_ids

    def __call__(self, data: bytes, address: str) -> bytes | Incomplete | None:
        """Return the response to what came; None if it, and all that follows, is to go the long way."""
        method, _, rest = data.partition(b" ")
        if method not in (b"GET", b"POST") or not rest.startswith(self._folder):
            return None
        head, end, body = data.partition(b"\r\n\r\n")
        if not end:
            return Incomplete.MORE if len(data) < _MOST else None
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ")
        headers = _plain_headers(lines)
        if headers is None or len(words) != 3 or words[2] != b"HTTP/1.1" or b"host" not in headers:
            return None
        path = words[1]
        if path != self._folder and not path.startswith(self._folder + b"/"):
            return None
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or len(length) > 4 or len(body) > int(length):
            return None
        if len(body) < int(length):
            return Incomplete.MORE if len(data) < _MOST else None
        return self._answer(method.decode(), path, headers, body, address)

    def _answer(self, method: str, path: bytes, headers: dict[bytes, bytes], body: bytes, address: str) -> bytes | None:
        try:
            argument = path.decode("ascii")[len(self._folder) :].removeprefix("/")
            media_type = headers.get(b"content-type", b"").decode("ascii").partition(";")[0].strip().lower()
            if_none_match = headers.get(b"if-none-match", b"").decode("ascii")
        except UnicodeDecodeError:
            return None
        call = Call(
            request_id="",
            address=address,
            body=body,
            media_type=media_type,
            argument=argument,
            if_none_match=if_none_match,
        )
        if (answer := self._kept(method, call)) is None:
            return None
        try:
            self._take(address)
        except Busy:
            return None  # the long way says so, and keeps it in the log
        return self._response(answer)

    def _response(self, answer: Answer) -> bytes:
        lines = [f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}", f"Content-Type: {answer.media_type}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        if answer.status != HTTPStatus.NOT_MODIFIED:
            lines.append(f"Content-Length: {len(answer.body)}")
        lines += [f"X-Request-Id: {next(self._request_ids)}", f"Date: {formatdate(usegmt=True)}", "", ""]
        return "\r\n".join(lines).encode("ascii") + answer.body


def _plain_headers(lines: list[bytes]) -> dict[bytes, bytes] | None:
    """Return the headers by their lower-case names; None if one is not plain, folded, malformed or there twice."""
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, colon, value = line.partition(b":")
        name = name.lower()
        if not colon or name not in _PLAIN or name in headers:
            return None
        headers[name] = value.strip(b" \t")
    return headers
