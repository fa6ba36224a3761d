"""Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6)."""

import base64
from hashlib import sha256
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.tpm.public import PublicKey
from birthmark_wire.encoding import JsonObject, b64
from birthmark_wire.errors import DecodeError

_CURVES: Final = {"secp256r1": "P-256", "secp384r1": "P-384"}
_BY_NAME: Final[dict[str, ec.EllipticCurve]] = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}


def write_jwk(key: PublicKey, *, kid: str, use: str, x5c: bytes = b"", x5t: bytes = b"") -> dict[str, object]:
    """Return a key's members. use: `sig` or `enc`. x5c: its certificate, DER, written whole; x5t: its certificate, of
    which only the SHA-256 is written."""
    members: dict[str, object] = {"kid": kid, "use": use} | _numbers(key)
    if x5c:
        members["x5c"] = [base64.b64encode(x5c).decode("ascii")]
    if x5c or x5t:
        members["x5t#S256"] = b64(sha256(x5c or x5t).digest())
    return members


def _numbers(key: PublicKey) -> dict[str, object]:
    if isinstance(key, rsa.RSAPublicKey):
        numbers = key.public_numbers()
        return {"kty": "RSA", "n": _octets(numbers.n), "e": _octets(numbers.e)}
    point = key.public_numbers()
    size = (key.key_size + 7) // 8
    return {
        "kty": "EC",
        "crv": _CURVES[key.curve.name],
        "x": b64(point.x.to_bytes(size, "big")),
        "y": b64(point.y.to_bytes(size, "big")),
    }


def _octets(number: int) -> str:
    return b64(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def read_jwk(message: JsonObject) -> PublicKey:
    """Read a key's numbers; raise DecodeError. The caller reads the other members."""
    try:
        match message.text("kty"):
            case "EC":
                curve = _BY_NAME.get(message.text("crv"))
                if curve is None:
                    raise DecodeError("want P-256 or P-384", field="crv")
                size = (curve.key_size + 7) // 8
                x, y = (int.from_bytes(message.octets(name, low=size, high=size), "big") for name in ("x", "y"))
                return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
            case "RSA":
                n, e = (int.from_bytes(message.octets(name, high=1024), "big") for name in ("n", "e"))
                return rsa.RSAPublicNumbers(e, n).public_key()
            case other:
                raise DecodeError(f"want EC or RSA, got {other[:80]!r}", field="kty")
    except (ValueError, UnsupportedAlgorithm) as error:
        if isinstance(error, DecodeError):
            raise
        raise DecodeError(f"want a public key: {error}") from None


def spki(key: PublicKey) -> bytes:
    """Return its SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
