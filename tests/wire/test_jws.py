"""JWS in the compact form: what we write verifies elsewhere, and only the one form is read."""

import base64
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from birthmark_wire import jws
from birthmark_wire.encoding import b64
from birthmark_wire.errors import DecodeError

KEY = ec.generate_private_key(ec.SECP256R1())
TYPE = "birthmark-command"
CHAIN = (b"leaf", b"intermediate")


def signed(payload: bytes = b"{}", *, chain: tuple[bytes, ...] = CHAIN) -> bytes:
    to_sign = jws.signing_input(payload, message_type=TYPE, chain=chain)
    return jws.join(to_sign, KEY.sign(to_sign, ec.ECDSA(SHA256())))


def with_header(header: object) -> bytes:
    _, payload, signature = signed().split(b".")
    return b".".join((b64(json.dumps(header).encode()).encode(), payload, signature))


@given(st.binary(max_size=300))
def test_what_is_joined_is_taken_apart_again(payload: bytes) -> None:
    message = jws.decode(signed(payload), message_type=TYPE)
    assert (message.payload, message.chain) == (payload, CHAIN)
    KEY.public_key().verify(message.signature, message.signed, ec.ECDSA(SHA256()))


def test_the_signature_is_r_and_s_of_32_bytes_each() -> None:
    """RFC 7518 section 3.4, read without our own code."""
    header, payload, signature = signed().decode().split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    assert len(raw) == 64
    der = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    KEY.public_key().verify(der, f"{header}.{payload}".encode(), ec.ECDSA(SHA256()))
    assert json.loads(base64.urlsafe_b64decode(header + "==")) == {
        "alg": "ES256",
        "typ": TYPE,
        "x5c": [base64.b64encode(der).decode() for der in CHAIN],
    }


@given(st.integers(0, 2**256 - 1), st.integers(0, 2**256 - 1))
def test_signatures_go_both_ways_whatever_their_numbers(r: int, s: int) -> None:
    to_sign = jws.signing_input(b"{}", message_type=TYPE, chain=CHAIN)
    message = jws.decode(jws.join(to_sign, encode_dss_signature(r, s)), message_type=TYPE)
    assert decode_dss_signature(message.signature) == (r, s)


X5C = [base64.b64encode(der).decode() for der in CHAIN]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"alg": "none", "typ": TYPE, "x5c": X5C}, "alg: want 'ES256', got 'none'"),
        ({"alg": "HS256", "typ": TYPE, "x5c": X5C}, "alg: want 'ES256', got 'HS256'"),
        ({"typ": TYPE, "x5c": X5C}, "alg: is missing"),
        ({"alg": "ES256", "typ": "JWT", "x5c": X5C}, f"typ: want '{TYPE}', got 'JWT'"),
        ({"alg": "ES256", "typ": TYPE}, "x5c: is missing"),
        ({"alg": "ES256", "typ": TYPE, "x5c": []}, "x5c: want the signer's certificate, got an empty array"),
        ({"alg": "ES256", "typ": TYPE, "x5c": ["A", *X5C]}, "x5c[0]: want base64 of a certificate"),
        ({"alg": "ES256", "typ": TYPE, "x5c": ["QQ"]}, "x5c[0]: want base64 of a certificate"),
        ({"alg": "ES256", "typ": TYPE, "x5c": ["QR=="]}, "x5c[0]: want base64 in its one canonical form"),
        ({"alg": "ES256", "typ": TYPE, "x5c": X5C * 3}, "x5c: want at most 4 items, got 6"),
        ({"alg": "ES256", "typ": TYPE, "x5c": X5C, "jwk": {}}, "jwk: is not a member of this message"),
        ({"alg": "ES256", "typ": TYPE, "x5c": X5C, "x5u": "https://evil"}, "x5u: is not a member of this message"),
        ({"alg": "ES256", "typ": TYPE, "x5c": X5C, "crit": ["b64"]}, "crit: is not a member of this message"),
    ],
)
def test_a_header_of_another_form_is_refused(header: object, said: str) -> None:
    with pytest.raises(DecodeError) as refusal:
        jws.decode(with_header(header), message_type=TYPE)
    assert said in str(refusal.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data + b".",
        lambda data: data.rpartition(b".")[0],
        lambda data: data[:-2],
        lambda data: data + b"=",
        lambda data: b"\xff" + data,
        lambda data: data + b"A" * jws.MAX_JWS_BYTES,
    ],
)
def test_anything_but_three_parts_of_base64url_is_refused(change: "type[bytes]") -> None:
    with pytest.raises(DecodeError):
        jws.decode(change(signed()), message_type=TYPE)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_jws_or_a_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError):
        jws.decode(data, message_type=TYPE)


@pytest.mark.parametrize("signature", [b"", b"\x30\x00", b"\x30\x06\x02\x01\x01\x02\x01\x01\x00", b"x" * 70])
def test_a_signature_that_is_none_is_not_joined(signature: bytes) -> None:
    with pytest.raises(ValueError, match="ECDSA-Sig-Value"):
        jws.join(b"a.b", signature)
