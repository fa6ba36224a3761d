"""One HTTPS connection: every outcome becomes one error that says what happened."""

import http.server
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from birthmark_agent.errors import AgentError, TlsKeyFailed
from birthmark_agent.http import (
    HttpsConnection,
    Refused,
    TlsFailed,
    Unavailable,
    Unreachable,
    explain_failure,
    split_url,
)
from support.pki import Pki, make_pki

Reply = tuple[int, dict[str, str], bytes]

REPLIES: dict[str, Reply] = {
    "/ok": (200, {"Content-Type": "Application/JSON; charset=utf-8"}, b"{}"),
    "/problem": (
        403,
        {"Content-Type": "application/problem+json"},
        b'{"code":"ek-unknown","title":"Refused","detail":"nobody listed this EK","request_id":"r-7"}',
    ),
    "/text": (400, {"Content-Type": "text/plain", "X-Request-Id": "r-8"}, b"the CSR can't be read\n"),
    "/bare": (404, {}, b""),
    "/broken": (403, {"Content-Type": "application/problem+json"}, b"{"),
    "/busy": (429, {"Retry-After": "17"}, b""),
    "/down": (503, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, b""),
    "/never": (503, {"Retry-After": "99999999"}, b""),
    "/nonsense": (503, {"Retry-After": "soon"}, b""),
    "/huge": (200, {}, bytes(70_000)),
    "/dated": (503, {"Date": "Mon, 01 Jan 2001 00:00:00 GMT", "Retry-After": "Mon, 01 Jan 2001 00:01:30 GMT"}, b""),
    "/undated": (503, {"Date": "today", "Retry-After": "Fri, 01 Jan 2100 00:00:00 GMT"}, b""),
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/drip":
            self._drip()
            return
        status, headers, body = REPLIES[self.path]
        self.send_response_only(status)
        self.send_header("Date", headers.get("Date", self.date_time_string()))
        for name, value in headers.items():
            if name != "Date":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _drip(self) -> None:
        """An answer that never pauses for long and never ends."""
        with suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(0.05)
        self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki") / "ca")


@contextmanager
def serving(pki: Pki, folder: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pki.server().write(folder, "server"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def port(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(pki, tmp_path_factory.mktemp("server")) as listening:
        yield listening


@contextmanager
def connected(pki: Pki, port: int) -> Iterator[HttpsConnection]:
    context = ssl.create_default_context(cafile=str(pki.root_pem))
    with HttpsConnection("localhost", port, context=context, timeout_s=5) as connection:
        yield connection


def test_requests_share_one_connection(pki: Pki, port: int) -> None:
    with connected(pki, port) as connection:
        first = connection.request("GET", "/ok")
        sock = connection.tls
        assert connection.request("GET", "/ok") == first
        assert connection.tls is sock
    assert first.content_type == "application/json"


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("/problem", Refused, "nobody listed this EK (403 ek-unknown, request r-7)"),
        ("/text", Refused, "the CSR can't be read (400, request r-8)"),
        ("/bare", Refused, "Not Found (404)"),
        ("/broken", Refused, "Forbidden (403)"),
        ("/busy", Unavailable, "Too Many Requests (429)"),
        ("/huge", Unreachable, "want an answer of at most 65536 bytes"),
    ],
)
def test_what_is_not_granted_says_why(pki: Pki, port: int, path: str, error: type[AgentError], text: str) -> None:
    with connected(pki, port) as connection, pytest.raises(error) as refused:
        connection.request("GET", path)
    assert text in str(refused.value)


@pytest.mark.parametrize(("path", "wait_s"), [("/busy", 17), ("/down", 0), ("/never", 86_400), ("/nonsense", 0)])
def test_retry_after_is_seconds_or_a_date_and_never_more_than_a_day(
    pki: Pki, port: int, path: str, wait_s: float
) -> None:
    with connected(pki, port) as connection, pytest.raises(Unavailable) as unavailable:
        connection.request("GET", path)
    assert unavailable.value.problem.retry_after_s == wait_s


def test_retry_after_as_a_date_counts_by_the_servers_clock_as_ours_may_be_wrong(pki: Pki, port: int) -> None:
    with connected(pki, port) as connection, pytest.raises(Unavailable) as unavailable:
        connection.request("GET", "/dated")
    assert unavailable.value.problem.retry_after_s == 90
    with connected(pki, port) as connection, pytest.raises(Unavailable) as unavailable:
        connection.request("GET", "/undated")
    assert unavailable.value.problem.retry_after_s == 0


def test_an_answer_has_one_time_limit_however_small_its_pieces(pki: Pki, port: int) -> None:
    context = ssl.create_default_context(cafile=str(pki.root_pem))
    began_s = time.monotonic()
    with HttpsConnection("localhost", port, context=context, timeout_s=0.5) as connection:
        with pytest.raises(Unreachable, match="no answer in time"):
            connection.request("GET", "/drip")
        assert time.monotonic() - began_s < 8
        assert connection.request("GET", "/ok").status == 200  # over a new connection


def test_a_server_that_is_not_ours_is_not_asked(pki: Pki, port: int, tmp_path: Path) -> None:
    with connected(make_pki(tmp_path / "ca"), port) as connection, pytest.raises(TlsFailed) as failed:
        connection.request("GET", "/ok")
    assert not failed.value.peer
    assert not failed.value.time


def test_a_port_where_nobody_listens_is_named(pki: Pki) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        free = listener.getsockname()[1]
    with connected(pki, free) as connection, pytest.raises(Unreachable, match="nobody listens"):
        connection.request("GET", "/ok")


def test_failures_of_every_layer_become_one_sentence() -> None:
    expired = ssl.SSLCertVerificationError(1, "")
    expired.verify_code, expired.verify_message = 10, "certificate has expired"
    alert = ssl.SSLError(1, "")
    alert.reason = "SSLV3_ALERT_CERTIFICATE_REVOKED"
    key = TlsKeyFailed("the key could not sign")
    assert [(type(one), str(one)) for one in (explain_failure(error, "x:1") for error in (expired, alert, key))] == [
        (TlsFailed, "x:1: its certificate does not stand: certificate has expired"),
        (TlsFailed, "x:1 refused us: sslv3 alert certificate revoked"),
        (TlsKeyFailed, "the key could not sign"),
    ]
    time, revoked = explain_failure(expired, "x"), explain_failure(alert, "x")
    assert isinstance(time, TlsFailed)
    assert time.time
    assert isinstance(revoked, TlsFailed)
    assert revoked.peer
    for error, text in [
        (socket.gaierror(-2, "Name or service not known"), "the name can't be resolved"),
        (TimeoutError(), "no answer in time"),
        (ConnectionResetError(), "the connection was cut"),
        (OSError(113, "No route to host"), "No route to host"),
        (ssl.SSLError(1, "odd"), "TLS failed"),
    ]:
        assert text in str(explain_failure(error, "x:1"))


def test_urls_are_taken_apart() -> None:
    assert split_url("https://enroll.example/.well-known/est/") == ("enroll.example", 443, "/.well-known/est")
    assert split_url("https://enroll.example:8443/x") == ("enroll.example", 8443, "/x")
    with pytest.raises(Unreachable):
        split_url("ftp://enroll.example")
