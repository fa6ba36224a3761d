"""`/v1/time`: the time, signed by the key of the server's certificate over the device's own nonce."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.domain import Caller
from birthmark_server.errors import Misconfigured
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route
from birthmark_server.web.errors import WrongMediaType
from birthmark_server.web.time import time_routes
from birthmark_wire.encoding import b64, unb64
from birthmark_wire.errors import DecodeError
from birthmark_wire.time import TIME_PATH, time_binding

AT = datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
NONCE = bytes(range(32))


def write_key(
    folder: Path,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = KEY,
    encryption: KeySerializationEncryption | None = None,
) -> Path:
    path = folder / "server.key"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()))
    return path


@pytest.fixture(scope="module")
def route(tmp_path_factory: pytest.TempPathFactory) -> Route:
    (only,) = time_routes(write_key(tmp_path_factory.mktemp("time")), None, now=lambda: AT)
    return only


def ask(route: Route, body: bytes, media_type: str = "application/json") -> Answer:
    return route.handler(Call("r", "192.0.2.1", body=body, media_type=media_type), Caller("r", "192.0.2.1"))


def question(nonce: bytes = NONCE) -> bytes:
    return json.dumps({"nonce": b64(nonce)}).encode()


def signature_of(answer: Answer) -> bytes:
    return unb64(json.loads(answer.body)["signature"], field="signature")


def test_everybody_may_ask(route: Route) -> None:
    assert (route.method, route.path, route.door) == ("POST", TIME_PATH, PUBLIC)


def test_the_answer_is_the_time_signed_for_this_nonce(route: Route) -> None:
    answer = ask(route, question())
    told = json.loads(answer.body)
    assert (answer.status, answer.media_type, told.keys()) == (200, "application/json", {"time", "signature"})
    assert told["time"] == "2026-03-01T12:30:15Z"  # whole seconds, never ahead
    signed = time_binding(nonce=NONCE, at=told["time"])
    KEY.public_key().verify(signature_of(answer), signed, ec.ECDSA(SHA256()))


def test_an_answer_is_worth_nothing_for_another_nonce_or_time(route: Route) -> None:
    signature = signature_of(ask(route, question()))
    for nonce, at in ((bytes(32), "2026-03-01T12:30:15Z"), (NONCE, "2026-03-01T12:30:16Z")):
        with pytest.raises(InvalidSignature):
            KEY.public_key().verify(signature, time_binding(nonce=nonce, at=at), ec.ECDSA(SHA256()))


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_nonce_has_32_bytes(route: Route, size: int) -> None:
    with pytest.raises(DecodeError):
        ask(route, question(bytes(size)))


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"nonce":null}', question()[:-1] + b',"more":1}'])
def test_what_is_not_the_question_is_refused(route: Route, body: bytes) -> None:
    with pytest.raises(DecodeError):
        ask(route, body)


@given(body=st.binary(max_size=200))
def test_any_bytes_are_answered_or_refused(route: Route, body: bytes) -> None:
    try:
        ask(route, body)
    except DecodeError:
        return


def test_another_content_type_is_refused(route: Route) -> None:
    with pytest.raises(WrongMediaType):
        ask(route, question(), "text/plain")


def test_a_server_without_an_elliptic_curve_key_tells_no_time(tmp_path: Path) -> None:
    path = write_key(tmp_path, rsa.generate_private_key(65537, 2048))
    assert time_routes(path, None, now=lambda: AT) == []


def test_a_key_behind_a_passphrase_is_opened_with_it(tmp_path: Path) -> None:
    path = write_key(tmp_path, encryption=BestAvailableEncryption(b"open"))
    assert len(time_routes(path, b"open", now=lambda: AT)) == 1
    for wrong in (b"shut", None):
        with pytest.raises(Misconfigured, match=r"server\.key"):
            time_routes(path, wrong, now=lambda: AT)


def test_a_key_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="nothing"):
        time_routes(tmp_path / "nothing", None, now=lambda: AT)
