"""Signed messages: JSON Web Signatures in the compact form (RFC 7515 §3.1), ES256 alone (RFC 7518 §3.4).

    BASE64URL(header) . BASE64URL(payload) . BASE64URL(R || S)
    header = {"alg": "ES256", "typ": TYPE, "x5c": [leaf, CA, ...]}

The header is exactly these three members: no other algorithm can be asked for, no key can be named by a URL or brought
along bare (RFC 8725 §3.1, §3.10). Nothing here verifies anything: this is standard library only. Whoever receives one
builds a path from `chain` to the root that it pins, checks that the leaf may command, and checks `signature` over
`signed`.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import Final

from birthmark_wire.encoding import b64, read_json, unb64, write_json
from birthmark_wire.errors import DecodeError

ALGORITHM: Final = "ES256"
COORDINATE_BYTES: Final = 32
MAX_JWS_BYTES: Final = 16_384
_MOST_CERTIFICATES: Final = 4


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """One JWS, taken apart. Unproven.

    signed: the bytes that the signature is over. signature: DER ECDSA-Sig-Value. chain: DER, the signer's first.
    """

    payload: bytes
    chain: tuple[bytes, ...]
    signed: bytes
    signature: bytes


def signing_input(payload: bytes, *, message_type: str, chain: tuple[bytes, ...]) -> bytes:
    """Return what is to be signed with ECDSA over SHA-256. chain: DER, the signer's first, without the root."""
    header = write_json({"alg": ALGORITHM, "typ": message_type, "x5c": [_x5c(der) for der in chain]})
    return f"{b64(header)}.{b64(payload)}".encode("ascii")


def join(signed: bytes, signature: bytes) -> bytes:
    """Return the JWS. signed: as signing_input() made it. signature: DER ECDSA-Sig-Value of a P-256 key."""
    return signed + b"." + b64(_raw_of(signature)).encode("ascii")


def decode(data: bytes, *, message_type: str, most: int = MAX_JWS_BYTES) -> SignedMessage:
    """Take a JWS of this type, of at most `most` bytes, apart or raise DecodeError."""
    if len(data) > most:
        raise DecodeError(f"want at most {most} bytes, got {len(data)}")
    try:
        header_text, payload_text, signature_text = data.decode("ascii").split(".")
    except ValueError:
        raise DecodeError("want a JWS: three parts of base64url with a dot between") from None
    header = read_json(unb64(header_text, field="header"))
    _want(header.text("alg"), ALGORITHM, field="alg")
    _want(header.text("typ"), message_type, field="typ")
    texts = header.texts("x5c", most=_MOST_CERTIFICATES)
    chain = tuple(read_x5c(text, field=f"x5c[{place}]") for place, text in enumerate(texts))
    header.done()
    if not chain:
        raise DecodeError("want the signer's certificate, got an empty array", field="x5c")
    signature = to_der(unb64(signature_text, field="signature"))
    return SignedMessage(
        payload=unb64(payload_text, field="payload"),
        chain=chain,
        signed=f"{header_text}.{payload_text}".encode("ascii"),
        signature=signature,
    )


def to_der(raw: bytes) -> bytes:
    """Return a JWS's signature, R || S, as an ECDSA-Sig-Value; raise DecodeError for another length."""
    if len(raw) != 2 * COORDINATE_BYTES:
        raise DecodeError(f"want {2 * COORDINATE_BYTES} bytes, got {len(raw)}", field="signature")
    return _der_of(raw)


def read_x5c(text: str, *, field: str = "x5c") -> bytes:
    """Return a certificate, DER, as a member of `x5c` has it: base64 with padding (RFC 7515 §4.1.6)."""
    try:
        der = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise DecodeError(f"want base64 of a certificate: {error}", field=field) from None
    if _x5c(der) != text:
        raise DecodeError("want base64 in its one canonical form", field=field)
    return der


def _want(seen: str, wanted: str, *, field: str) -> None:
    if seen != wanted:
        raise DecodeError(f"want {wanted!r}, got {seen[:80]!r}", field=field)


def _x5c(der: bytes) -> str:
    """Return a certificate as `x5c` has it: base64 with padding, not base64url (RFC 7515 §4.1.6)."""
    return base64.b64encode(der).decode("ascii")


def _der_of(raw: bytes) -> bytes:
    """Return R || S as an ECDSA-Sig-Value (RFC 3279 §2.2.3)."""
    content = b"".join(_integer(raw[at : at + COORDINATE_BYTES]) for at in (0, COORDINATE_BYTES))
    return bytes((0x30, len(content))) + content


def _integer(octets: bytes) -> bytes:
    value = octets.lstrip(b"\0") or b"\0"
    if value[0] & 0x80:
        value = b"\0" + value
    return bytes((0x02, len(value))) + value


def _raw_of(signature: bytes) -> bytes:
    """Return an ECDSA-Sig-Value of P-256 as R || S; raise ValueError where it is none."""
    first, rest = _take_integer(signature[2:])
    second, rest = _take_integer(rest)
    raw = first.to_bytes(COORDINATE_BYTES, "big") + second.to_bytes(COORDINATE_BYTES, "big")
    if rest or _der_of(raw) != signature:
        raise ValueError("want an ECDSA-Sig-Value of a P-256 key")
    return raw


def _take_integer(data: bytes) -> tuple[int, bytes]:
    if len(data) < 2 or data[0] != 0x02 or len(data) < 2 + data[1]:
        raise ValueError("want an ECDSA-Sig-Value of a P-256 key")
    return int.from_bytes(data[2 : 2 + data[1]], "big"), data[2 + data[1] :]
