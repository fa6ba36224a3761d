"""One HTTPS connection to the server, kept open between the requests of one exchange.

Trusts the `ssl` context that it is given and nothing else. Every outcome that is not a 2xx becomes one error:

- `Unreachable`: no answer; the network, the name, a timeout, a connection cut. Worth trying again.
- `TlsFailed`: the server's certificate did not stand, or it refused ours. In TLS 1.3 a server judges the client's
  certificate after the client's handshake is over, so its alert comes with the first read.
- `Refused`: the server read the request and said no (4xx), with the problem document that says why (RFC 9457).
- `Unavailable`: the server can't answer now (5xx, 429), with Retry-After where it gave one.
"""

import http.client
import io
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from birthmark_agent.errors import AgentError
from birthmark_wire import broker
from birthmark_wire.encoding import JsonObject, read_json
from birthmark_wire.errors import DecodeError

PROBLEM_MIME: Final = "application/problem+json"
MAX_ANSWER_BYTES: Final = 65_536
_VERIFY_CODES_OF_TIME: Final = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_MAX_RETRY_AFTER_S: Final = 86_400.0


class Unreachable(AgentError):
    """The server gave no answer."""

    code = "server-unreachable"
    advice = "check network, name and port (server.url; mqtt.host for the broker), and whether it runs there"


class TlsFailed(AgentError):
    """The handshake failed, on our side or the server's.

    peer: it was the server that refused us. time: its certificate is not valid yet, or not any more, by our clock.
    """

    code = "tls-failed"
    advice = "`birthmark-agent trace` (or trace --server) shows at which step; check server.anchors and the clock"

    def __init__(self, message: str, *, peer: bool, time: bool = False) -> None:
        super().__init__(message)
        self.peer = peer
        self.time = time


class ServerSaidNo(AgentError):
    """An answer that is not a 2xx. problem: what it said."""

    def __init__(self, problem: "Problem") -> None:
        super().__init__(str(problem))
        self.problem = problem


class Refused(ServerSaidNo):
    """4xx: the same request will be refused again until somebody changes something."""

    code = "server-refused"
    advice = "ask the operator: `birthmark refusal list` on the server says why, by the request id"


class Unavailable(ServerSaidNo):
    """5xx and 429: the same request may be granted later."""

    code = "server-unavailable"
    advice = "wait, or give the operator the request id: the server's log has the cause under it"


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem document. code: the server's stable code, empty where the answer had none. retry_after_s: 0 without."""

    status: int
    code: str
    title: str
    detail: str
    request_id: str
    retry_after_s: float

    def __str__(self) -> str:
        text = self.detail or self.title or "no reason given"
        named = f"{self.status} {self.code}" if self.code else str(self.status)
        return f"{text} ({named}{', request ' + self.request_id if self.request_id else ''})"


@dataclass(frozen=True, slots=True)
class Answer:
    """A 2xx. content_type: without parameters, lower case. retry_after_s: above 0 for EST's 202. broker: where the
    server says that the device's broker is, HOST:PORT; empty where it says nothing."""

    status: int
    content_type: str
    body: bytes
    retry_after_s: float
    broker: str = ""


class Connection(Protocol):
    """What the flows need of HTTPS: `HttpsConnection`, or a fake in tests."""

    def request(self, method: str, path: str, *, body: bytes = b"", mime: str = "", accept: str = "") -> Answer:
        """Send one request, return the 2xx or raise as the module says."""


class HttpsConnection:
    """A connection that opens with its first request and stays open until close().

    timeout_s: for each connection, and for each answer, however small the pieces that it comes in.
    """

    def __init__(self, host: str, port: int, *, context: ssl.SSLContext, timeout_s: float) -> None:
        self._where = f"{host}:{port}"
        self._http = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)
        self._http.response_class = _response_class(timeout_s)

    def __enter__(self) -> "HttpsConnection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; a later request would open it again."""
        self._http.close()

    def open(self) -> None:
        """Connect now rather than with the first request; raise Unreachable, TlsFailed, TlsKeyFailed."""
        try:
            self._connect()
        except OSError as error:
            self._http.close()
            raise explain_failure(error, self._where) from error.__cause__

    def _connect(self) -> None:
        self._http.connect()
        self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS socket while the connection is open."""
        sock = self._http.sock
        return sock if isinstance(sock, ssl.SSLSocket) else None

    def request(self, method: str, path: str, *, body: bytes = b"", mime: str = "", accept: str = "") -> Answer:
        """Send one request, return the 2xx or raise as the module says."""
        headers = {"Accept": accept or "*/*", "User-Agent": "birthmark-agent"}
        if mime:
            headers["Content-Type"] = mime
        try:
            if self.tls is None:
                self._connect()
            self._http.request(method, path, body=body or None, headers=headers)
            response = self._http.getresponse()
            content = response.read(MAX_ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            raise explain_failure(error, self._where) from error.__cause__
        if len(content) > MAX_ANSWER_BYTES:
            self._http.close()
            raise Unreachable(f"{self._where}: want an answer of at most {MAX_ANSWER_BYTES} bytes")
        return _judge(response, content)


class _OneTimeLimit(io.RawIOBase):
    """What http.client reads an answer from: the limit is for all of it, where a socket's own is for each piece."""

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s
        self._pieces = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(max(self._end_s - time.monotonic(), 0.001))
        return self._pieces.readinto(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def close(self) -> None:
        if not self.closed:
            with suppress(OSError):  # closed with the connection
                self._sock.settimeout(self._timeout_s)
            self._pieces.close()
        super().close()


def _response_class(timeout_s: float) -> Any:
    def respond(sock: socket.socket, *arguments: Any, **options: Any) -> http.client.HTTPResponse:
        return http.client.HTTPResponse(_OneTimeLimit(sock, timeout_s), *arguments, **options)  # type: ignore[arg-type]

    return respond


def split_url(url: str) -> tuple[str, int, str]:
    """Return host, port and path (no slash at its end) of an https URL that the server gave; raise Unreachable if not.

    A server that is itself trusted names it, so this only keeps nonsense away from the socket.
    """
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise Unreachable(f"want an https URL, got {url[:200]!r}")
    return parts.hostname, parts.port or 443, parts.path.rstrip("/")


def explain_failure(error: Exception, where: str) -> AgentError:
    """Turn what `socket`, `ssl` or `http.client` raised into Unreachable or TlsFailed, in a sentence.

    TlsKeyFailed, which is an ssl.SSLError as well, is returned as it is.
    """
    if isinstance(error, AgentError):
        return error
    if isinstance(error, ssl.SSLCertVerificationError):
        time = error.verify_code in _VERIFY_CODES_OF_TIME
        return TlsFailed(f"{where}: its certificate does not stand: {error.verify_message}", peer=False, time=time)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Unreachable(f"{where}: the connection was cut")
    if isinstance(error, ssl.SSLError):
        reason = (getattr(error, "reason", None) or str(error)).lower().replace("_", " ")
        if "alert" in reason:
            return TlsFailed(f"{where} refused us: {reason}", peer=True)
        return TlsFailed(f"{where}: TLS failed: {reason}", peer=False)
    if isinstance(error, socket.gaierror):
        return Unreachable(f"{where}: the name can't be resolved: {error.strerror}")
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where}: no answer in time")
    if isinstance(error, ConnectionRefusedError):
        return Unreachable(f"{where}: nobody listens there")
    if isinstance(error, ConnectionError):  # http.client.RemoteDisconnected is one
        return Unreachable(f"{where}: the connection was cut")
    return Unreachable(f"{where}: {error}")


def _judge(response: http.client.HTTPResponse, content: bytes) -> Answer:
    mime = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
    retry_after_s = _retry_after(response.getheader("Retry-After"), response.getheader("Date"))
    if 200 <= response.status < 300:
        return Answer(response.status, mime, content, retry_after_s, response.getheader(broker.HEADER) or "")
    problem = _read_problem(response, mime, content, retry_after_s)
    raise (Unavailable if response.status >= 500 or response.status == 429 else Refused)(problem)


def _read_problem(response: http.client.HTTPResponse, mime: str, content: bytes, retry_after_s: float) -> Problem:
    code, title, detail, request_id = "", response.reason, "", response.getheader("X-Request-Id") or ""
    if mime == PROBLEM_MIME:
        try:
            document = read_json(content)
            code = document.optional_text("code") or ""
            title = document.optional_text("title") or title
            detail = document.optional_text("detail", max_chars=4096) or ""
            request_id = _first_text(document, ("request_id", "instance")) or request_id
        except DecodeError:
            pass  # the status alone still says enough
    elif mime.startswith("text/"):
        detail = content[:500].decode("utf-8", "replace").strip()  # EST errors may be plain text (RFC 7030 §4.2.3)
    return Problem(response.status, code, title, detail, request_id, retry_after_s)


def _first_text(document: JsonObject, names: tuple[str, ...]) -> str:
    return next((text for name in names if (text := document.optional_text(name))), "")


def _retry_after(value: str | None, date: str | None) -> float:
    """Read Retry-After (RFC 9110 §10.2.3), seconds or a date; 0 where there is none or it makes no sense.

    date: the answer's own. A date counts from there, as this device's clock may be years off.
    """
    if not value:
        return 0.0
    if value.strip().isdecimal():
        return min(float(value), _MAX_RETRY_AFTER_S)
    try:
        seconds = (parsedate_to_datetime(value) - parsedate_to_datetime(date or "")).total_seconds()
    except (ValueError, TypeError):
        return 0.0
    return min(max(seconds, 0.0), _MAX_RETRY_AFTER_S)
