"""`/v1/time`: the time, signed by the key of the server's certificate over the device's own nonce."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.ca import oids
from birthmark_server.domain import Caller
from birthmark_server.errors import Misconfigured
from birthmark_server.web.doors import PUBLIC, Answer, Call, Route
from birthmark_server.web.errors import WrongMediaType
from birthmark_server.web.time import TimeSigner, time_routes
from birthmark_wire.encoding import b64
from birthmark_wire.errors import DecodeError
from birthmark_wire.time import SERVER_PURPOSE, TIME_PATH, TimeAnswer, time_binding
from support.pki import Leaf, make_pki
from support.two_roots import make_two_roots

AT = datetime(2026, 3, 1, 12, 30, 15, 999_999, tzinfo=UTC)
NONCE = bytes(range(32))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Leaf:
    return make_pki(tmp_path_factory.mktemp("pki") / "ca").server()


@pytest.fixture(scope="module")
def route(server: Leaf, tmp_path_factory: pytest.TempPathFactory) -> Route:
    (only,) = time_routes(TimeSigner.load(*server.write(tmp_path_factory.mktemp("time"), "s"), None), now=lambda: AT)
    return only


def ask(route: Route, body: bytes, media_type: str = "application/json") -> Answer:
    return route.handler(Call("r", "192.0.2.1", body=body, media_type=media_type), Caller("r", "192.0.2.1"))


def question(nonce: bytes = NONCE) -> bytes:
    return json.dumps({"nonce": b64(nonce)}).encode()


def verify(told: TimeAnswer, nonce: bytes, at: datetime) -> None:
    signer = x509.load_der_x509_certificate(told.chain[0]).public_key()
    assert isinstance(signer, ec.EllipticCurvePublicKey)
    signed = time_binding(nonce=nonce, signer_sha256=hashlib.sha256(told.chain[0]).digest(), at=at)
    signer.verify(told.signature, signed, ec.ECDSA(SHA256()))


def test_everybody_may_ask(route: Route) -> None:
    assert (route.method, route.path, route.door) == ("POST", TIME_PATH, PUBLIC)


def test_the_answer_is_the_time_signed_for_this_nonce_with_its_signer(route: Route, server: Leaf) -> None:
    answer = ask(route, question())
    assert (answer.status, answer.media_type) == (200, "application/json")
    told = TimeAnswer.decode(answer.body)
    assert told.at == datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)  # whole seconds, never ahead
    assert (told.chain[0], len(told.chain)) == (server.der, 2)
    verify(told, NONCE, told.at)


def test_an_answer_is_worth_nothing_for_another_nonce_or_time(route: Route) -> None:
    told = TimeAnswer.decode(ask(route, question()).body)
    for nonce, at in ((bytes(32), told.at), (NONCE, told.at.replace(second=16))):
        with pytest.raises(InvalidSignature):
            verify(told, nonce, at)


def test_devices_know_a_server_by_the_purpose_that_the_ca_gives_it() -> None:
    assert oids.KP_SERVER.dotted_string == SERVER_PURPOSE


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


def test_the_root_is_not_sent_along(server: Leaf, tmp_path: Path) -> None:
    chain, key = server.write(tmp_path, "whole")
    pki = make_pki(tmp_path / "other")
    chain.write_bytes(server.chain_pem + pki.root_pem.read_bytes())
    signer = TimeSigner.load(chain, key, None)
    assert signer is not None
    assert len(signer.chain) == 2


def test_a_server_without_an_elliptic_curve_key_tells_no_time(tmp_path: Path) -> None:
    private = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    builder = x509.CertificateBuilder(name, name, private.public_key(), 1, AT, AT)
    (tmp_path / "rsa.pem").write_bytes(builder.sign(private, SHA256()).public_bytes(Encoding.PEM))
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "rsa.key").write_bytes(pem)
    assert time_routes(TimeSigner.load(tmp_path / "rsa.pem", tmp_path / "rsa.key", None), now=lambda: AT) == []


def test_a_key_behind_a_passphrase_is_opened_with_it(server: Leaf, tmp_path: Path) -> None:
    chain, key = server.write(tmp_path, "shut")
    key.write_bytes(server.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open")))
    assert TimeSigner.load(chain, key, b"open") is not None
    for wrong in (b"shut", None):
        with pytest.raises(Misconfigured, match=r"shut\.key"):
            TimeSigner.load(chain, key, wrong)


def test_files_that_do_not_serve_are_named(server: Leaf, tmp_path: Path) -> None:
    chain, key = server.write(tmp_path, "s")
    _, another = make_pki(tmp_path / "other").server().write(tmp_path, "another")
    for certificate, private, named in (
        (chain, tmp_path / "nothing", "nothing"),
        (tmp_path / "nothing", key, "nothing"),
        (key, key, "s.key"),
        (chain, another, "another.key is not that of"),
    ):
        with pytest.raises(Misconfigured, match=named):
            TimeSigner.load(certificate, private, None)


def test_the_link_from_an_older_root_is_told_along_and_a_root_is_not(tmp_path: Path) -> None:
    """Who slept with the old root alone must be able to believe the time before anything else."""
    roots = make_two_roots(tmp_path / "ca")
    leaf = roots.new.server()
    certificate, key = leaf.write(tmp_path, "s")
    certificate.write_bytes(leaf.chain_pem + roots.new.authority.anchors_pem())
    signer = TimeSigner.load(certificate, key, None)
    assert signer is not None
    chain = [x509.load_der_x509_certificate(der) for der in signer.chain]
    leaf_, issuer, link = chain
    leaf_.verify_directly_issued_by(issuer)
    issuer.verify_directly_issued_by(link)
    link.verify_directly_issued_by(roots.old.authority.root.certificate)
