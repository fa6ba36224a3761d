"""Bad input at a real server: the right status, a problem document, a line in the log, and no change of state."""

import base64
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from birthmark_server.web.problems import PROBLEM_MIME
from birthmark_wire.enrollment import ENROLLMENTS_PATH, JSON_MIME, Challenge
from birthmark_wire.est import BASE_PATH, PKCS10_MIME
from support.server import Identity, Server

UNKNOWN = f"{ENROLLMENTS_PATH}/AAAAAAAAAAAAAAAAAAAAAA/activation"


@pytest.fixture(scope="module")
def begin_body(server: Server) -> bytes:
    return server.site.listed_device("SN-BAD").enroll_request(server_name="localhost").encode()


@pytest.fixture(scope="module")
def idevid(server: Server) -> Identity:
    return server.enroll(server.site.listed_device("SN-EST"))


@pytest.fixture(autouse=True)
def nothing_changes(server: Server, begin_body: bytes, idevid: Identity) -> Iterator[None]:
    store = server.site.store
    before = (store.count_devices(), len(store.list_certificates(limit=10_000)))
    yield
    assert (store.count_devices(), len(store.list_certificates(limit=10_000))) == before
    assert "Traceback" not in server.log


def changed(body: bytes, **members: Any) -> bytes:
    """The message with members replaced, or removed where the value is `...`."""
    document = json.loads(body) | members
    return json.dumps({name: value for name, value in document.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("spoil", "status", "code", "field"),
    [
        (lambda _: b"", 400, "malformed", None),
        (lambda _: b"{", 400, "malformed", None),
        (lambda _: b"\xff\xfe{}", 400, "malformed", None),
        (lambda _: b"[]", 400, "malformed", None),
        (lambda _: b"[" * 60_000, 400, "malformed", None),
        (lambda _: b'{"protocol":"birthmark/1","protocol":"birthmark/1"}', 400, "malformed", "protocol"),
        (lambda b: changed(b, protocol="birthmark/9"), 400, "malformed", "protocol"),
        (lambda b: changed(b, ak_public=...), 400, "malformed", "ak_public"),
        (lambda b: changed(b, ak_public="*"), 400, "malformed", "ak_public"),
        (lambda b: changed(b, ak_public="AAAA="), 400, "malformed", "ak_public"),
        (lambda b: changed(b, ak_public=7), 400, "malformed", "ak_public"),
        (lambda b: changed(b, colour="red"), 400, "malformed", "colour"),
        (lambda b: changed(b, ek_certificates=["AAAA"] * 9), 400, "malformed", "ek_certificates"),
        (lambda b: changed(b, ek_certificates=["A" * 6000]), 400, "malformed", "ek_certificates[0]"),
        (lambda b: changed(b, ek_certificates=["MAAA"]), 400, "certificate-malformed", None),
        (lambda b: changed(b, ek_certificates=[], ek_public="AAAA"), 400, None, None),
        (lambda b: changed(b, ek_certificates=[], ek_public=None), 400, "malformed", "ek_public"),
        (lambda b: changed(b, ak_public="AAAA"), 400, None, None),
        (lambda b: changed(b, birth_key_public="AAAA"), 400, None, None),
        (lambda b: changed(b, server_name="elsewhere"), 403, "wrong-server", None),
        (lambda b: changed(b, claim={"batch": "b", "serial": "s", "model": "m"}), 403, "claim-without-station", None),
        (lambda b: changed(b, claim={"batch": "b", "serial": "ü", "model": "m"}), 400, "malformed", "claim.serial"),
    ],
)
def test_a_bad_first_request(
    server: Server, begin_body: bytes, spoil: Callable[[bytes], bytes], status: int, code: str | None, field: str | None
) -> None:
    reply = server.ask("POST", ENROLLMENTS_PATH, spoil(begin_body) or b" ", content_type=JSON_MIME)
    document = json.loads(reply.body)
    assert (reply.status, document["status"], reply.headers["Content-Type"]) == (status, status, PROBLEM_MIME)
    assert code in (None, document["code"])
    assert field in (None, document.get("field"))
    assert document["request_id"] == reply.headers["X-Request-Id"]
    assert f"request={document['request_id']}" in server.log


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        (lambda _: b"{}", 400, "malformed"),
        (lambda b: changed(b, secret=...), 400, "malformed"),
        (lambda b: changed(b, secret="AAAA"), 400, "malformed"),
        (lambda b: changed(b, secret="A" * 43), 403, "activation-secret"),
        (lambda b: changed(b, csr="AAAA"), 400, "csr-malformed"),
        (lambda b: changed(b, certify={"attest": "AAAA", "signature": "AAAA"}), 400, None),
        (lambda b: changed(b, certify=[]), 400, "malformed"),
        (lambda b: changed(b, quote={}), 400, "malformed"),
    ],
)
def test_a_bad_second_request(server: Server, spoil: Callable[[bytes], bytes], status: int, code: str | None) -> None:
    tpm = server.site.tpm()
    server.site.list_ek(tpm.ek_sha256, f"SN-{time.monotonic_ns()}")
    with server.connect() as client:
        challenge = Challenge.decode(client.begin(tpm).body)
        right = tpm.answer(challenge, anchor_sha256=server.anchor_sha256, server_name="localhost").encode()
        reply = client.activate(challenge.enrollment_id, spoil(right))
        assert reply.status in (status, 403), reply.body
        assert code in (None, reply.code) or reply.status == 403 != status


def test_unknown_ids_paths_and_methods(server: Server) -> None:
    for method, path, body, status, code in [
        ("POST", UNKNOWN, b"{}", 404, "unknown-enrollment"),
        ("POST", f"{ENROLLMENTS_PATH}/%00/activation", b"{}", 404, "unknown-enrollment"),
        ("POST", "/v1/elsewhere", b"{}", 404, "no-such-resource"),
        ("GET", "/../../etc/passwd", b"", 404, "no-such-resource"),
        ("GET", ENROLLMENTS_PATH, b"", 405, "method-not-allowed"),
        ("DELETE", "/healthz", b"", 405, "method-not-allowed"),
    ]:
        reply = server.ask(method, path, body, content_type=JSON_MIME)
        assert (reply.status, reply.code) == (status, code), path


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
def test_a_wrong_content_type(server: Server, begin_body: bytes, media_type: str) -> None:
    with server.connect() as client:
        reply = client.ask("POST", ENROLLMENTS_PATH, begin_body, **({"content_type": media_type} if media_type else {}))
    assert (reply.status, reply.code) == (415, "wrong-media-type")


def test_a_content_type_with_parameters_and_capitals_is_fine(server: Server) -> None:
    reply = server.ask("POST", ENROLLMENTS_PATH, b"{}", content_type="Application/JSON; charset=utf-8")
    assert reply.status == 400


def test_an_oversized_body_is_refused_unread(server: Server) -> None:
    with server.connect() as client:
        reply = client.ask("POST", ENROLLMENTS_PATH, b" " * 70_000, content_type=JSON_MIME)
    assert (reply.status, reply.code, reply.headers["Connection"]) == (413, "body-too-large", "close")


# -- below HTTP


def raw(server: Server, request: bytes, *, wait_s: float = 10.0) -> bytes:
    """Send bytes over TLS; return what comes back until the server closes."""
    context = ssl.create_default_context(cafile=str(server.site.pki.root_pem))
    with (
        socket.create_connection(("localhost", server.port), timeout=wait_s) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as tls,
    ):
        tls.sendall(request)
        answer = b""
        while chunk := tls.recv(65_536):
            answer += chunk
        return answer


def test_an_oversized_chunked_body_is_cut_off(server: Server) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    head = (
        b"POST /v1/enrollments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    answer = raw(server, head + chunk * 6)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"body-too-large" in answer


def test_a_body_that_does_not_come_is_timed_out(server: Server) -> None:
    head = b"POST /v1/enrollments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    answer = raw(server, head)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body-too-slow" in answer


def test_headers_that_do_not_come_are_not_waited_for(server: Server) -> None:
    began = time.monotonic()
    assert raw(server, b"POST /v1/enrollments HTTP/1.1\r\nHost: x\r\n") == b""
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"rubbish\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"POST /v1/enrollments HTTP/1.1\r\nHost: x\r\nContent-Length: ten\r\n\r\n",
        b"POST /v1/enrollments HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_what_is_not_http_gets_a_problem_document(server: Server, request_bytes: bytes) -> None:
    answer = raw(server, request_bytes)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"application/problem+json" in answer
    assert b'"code":"malformed"' in answer


def test_expect_100_continue_is_answered(server: Server) -> None:
    head = (
        b"POST /v1/enrollments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
        b"Expect: 100-continue\r\nConnection: close\r\n\r\n{}"
    )
    assert raw(server, head).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 400 ")


# -- EST's own


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b"!!!", PKCS10_MIME, 400, "bad-base64"),
        (base64.b64encode(b"rubbish"), PKCS10_MIME, 400, "csr-malformed"),
        (b" ", PKCS10_MIME, 400, "csr-malformed"),
        (base64.b64encode(b"x"), "text/plain", 415, "wrong-media-type"),
    ],
)
def test_a_bad_est_request(
    server: Server, idevid: Identity, body: bytes, media_type: str, status: int, code: str
) -> None:
    path = f"{BASE_PATH}/simpleenroll"
    plain = server.ask("POST", path, body, by=idevid, content_type=media_type)
    assert (plain.status, plain.headers["Content-Type"]) == (status, "text/plain; charset=utf-8")
    assert f"code {code}".encode() in plain.body
    problem = server.ask("POST", path, body, by=idevid, content_type=media_type, accept=f"*/*, {PROBLEM_MIME}")
    assert (problem.status, problem.code) == (status, code)


def test_est_without_a_client_certificate(server: Server) -> None:
    for method, operation in [("POST", "simpleenroll"), ("POST", "simplereenroll"), ("GET", "nonce")]:
        reply = server.ask(method, f"{BASE_PATH}/{operation}", b"x" if method == "POST" else b"")
        assert reply.status == 403
        assert b"certificate-required" in reply.body


def test_est_operations_that_we_do_not_offer_are_not_there(server: Server) -> None:
    for operation in ("serverkeygen", "fullcmc", "label/simpleenroll", ""):
        assert server.ask("POST", f"{BASE_PATH}/{operation}", b"x").status == 404
