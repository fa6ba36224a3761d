"""HTTPS to one server in an operator's name: mutual TLS, the root pinned, problem documents turned into errors.

A server's problem becomes the very error that it was there, found by its code, so it ends the command with the same
sentence and the same exit status as on the server's own machine.
"""

import http.client
import json
import os
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final

from birthmark_server.ca import files
from birthmark_server.cli.ask import ask_passphrase
from birthmark_server.cli.contexts import BadContext, Context
from birthmark_server.errors import BirthmarkError, Busy

TIMEOUT_S: Final = 60.0
MOST_BYTES: Final = 256 << 20
MOST_WAITS: Final = 30
LONGEST_WAIT_S: Final = 5
PROBLEM_MIME: Final = "application/problem+json"
_LOST: Final = (http.client.HTTPException, ConnectionError, TimeoutError)


class ServerUnreachable(BirthmarkError):
    """The server did not answer, or what answered is not that server."""

    code: ClassVar[str] = "server-unreachable"


class ServerFailed(BirthmarkError):
    """The server said that something is wrong with itself, or spoke in a way that we do not know."""

    code: ClassVar[str] = "server-failed"


class OperatorConnection:
    """One connection, opened at the first request and kept for the next."""

    def __init__(self, context: Context, *, timeout_s: float = TIMEOUT_S) -> None:
        self.answered_at: datetime | None = None
        """The server's clock, by the Date of its last answer (RFC 9110 §6.6.1)."""
        self._where = context.server
        self._http = http.client.HTTPSConnection(
            context.host, context.port, context=tls_context(context), timeout=timeout_s
        )

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        key: str = "",
        reads: bool = False,
        media_type: str = "application/json",
    ) -> bytes:
        """Return the body of a success; raise what the server's problem says, or ServerUnreachable.

        key: an idempotency key. reads: this POST changes nothing, or nothing more when it is sent again. With either,
        and for a GET, a lost connection is tried once more, and a server that says "too many requests" is asked again
        when it says so.
        """
        headers = {"Accept": "application/json"}
        if body:
            headers["Content-Type"] = media_type
        if key:
            headers["Idempotency-Key"] = key
        again = bool(key) or reads or method == "GET"
        for _ in range(MOST_WAITS if again else 0):
            response, data = self._exchange(method, path, body, headers, again=again)
            if response.status != HTTPStatus.TOO_MANY_REQUESTS:
                break
            time.sleep(min(_seconds(response.headers.get("Retry-After", "")), LONGEST_WAIT_S))
        else:
            response, data = self._exchange(method, path, body, headers, again=again)
        if 200 <= response.status < 300:
            return data
        kind = response.headers.get("Content-Type", "").partition(";")[0]
        problem = data if kind == PROBLEM_MIME else b""
        raise error_from(response.status, problem, response.headers.get("Retry-After", ""))

    def _exchange(
        self, method: str, path: str, body: bytes, headers: dict[str, str], *, again: bool
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """Send one request and read its answer. again: it may be sent once more if the connection is lost."""
        try:
            self._http.request(method, path, body=body or None, headers=headers)
            response = self._http.getresponse()
            data = response.read(MOST_BYTES + 1)
            self.answered_at = _date(response.headers.get("Date", ""))
        except (*_LOST, OSError) as error:
            self._http.close()
            if again and isinstance(error, _LOST):
                return self._exchange(method, path, body, headers, again=False)
            raise ServerUnreachable(f"{self._where}: {_told(error)}") from None
        if len(data) > MOST_BYTES:
            self._http.close()
            raise ServerFailed(f"{self._where}: the answer is larger than {MOST_BYTES} bytes")
        return response, data


def tls_context(context: Context) -> ssl.SSLContext:
    """Return the TLS of a context: its root alone is believed. Raise BadContext, KeyUnusable for its files."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.verify_flags |= ssl.VERIFY_X509_STRICT
    tls.load_verify_locations(cadata=context.root_pem())
    key = Path(context.key)
    encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in files.read_private(key)
    try:
        tls.load_cert_chain(context.certificate, key, password=_passphrase(key) if encrypted else "")
    except (OSError, ValueError) as error:
        raise BadContext(f"{context.certificate} with {key}: want a certificate and its key in PEM: {error}") from None
    return tls


def _passphrase(key: Path) -> bytes:
    given = os.environ.get("BIRTHMARK_OPERATOR_PASSPHRASE")
    if given is not None:
        return given.encode()
    return ask_passphrase(f"Passphrase of {key}", instead="it in BIRTHMARK_OPERATOR_PASSPHRASE")


def error_from(status: int, problem: bytes, retry_after: str) -> BirthmarkError:
    """Return the error that a problem document stands for; ServerFailed for what is none."""
    try:
        document: Any = json.loads(problem) if problem else {}
        code, detail, request_id = (str(document.get(name, "")) for name in ("code", "detail", "request_id"))
    except (ValueError, AttributeError):
        code = detail = request_id = ""
    if status >= 500 or not code:
        said = f"{code or f'HTTP {status}'}: {detail or 'it did not say why'}"
        return ServerFailed(f"{said}{f' (request {request_id})' if request_id else ''}")
    kind = _kinds().get(code)
    if kind is not None and issubclass(kind, Busy):
        return kind(detail, retry_after_s=_seconds(retry_after))
    if kind is None:
        return ServerFailed(f"{code}: {detail} (request {request_id})")
    error = kind.__new__(kind)
    Exception.__init__(error, detail)
    return error


def _date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _seconds(retry_after: str) -> int:
    return int(retry_after) if retry_after.isdecimal() and len(retry_after) < 6 else 1


def _kinds() -> dict[str, type[BirthmarkError]]:
    # Their modules must be loaded to be found: what the desk raises, and what stands before it.
    import birthmark_server.factory.entries
    import birthmark_server.store.errors
    import birthmark_server.web.api.workorders.orders
    import birthmark_server.web.problems  # noqa: F401

    return {kind.code: kind for kind in _descendants(BirthmarkError) if "code" in vars(kind)}


def _descendants(parent: type[BirthmarkError]) -> Iterator[type[BirthmarkError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _descendants(child)


def _told(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate does not lead to the pinned root: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        return f"TLS failed: {reason}; is your certificate this installation's, and in time?"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
