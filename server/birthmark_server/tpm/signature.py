"""TPMT_SIGNATURE: RSASSA, RSAPSS or ECDSA, and how each is checked.

The scheme that counts is the one in the signing key's own public area. What the message says of itself is compared
with that before a key is touched. Source: TPM 2.0 Library Part 2 §11.3.
"""

from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from birthmark_server.tpm.algorithms import ALG_RSAPSS, ALG_RSASSA, HASHES
from birthmark_server.tpm.errors import TpmDecodeError, UnsupportedKey
from birthmark_server.tpm.public import PublicKey, Scheme
from birthmark_server.tpm.wire import Reader, sized, u16
from birthmark_wire.tpm_templates import ALG_ECDSA

_MAX_RSA_BYTES: Final = 512
_MAX_ECC_BYTES: Final = 128


@dataclass(frozen=True, slots=True)
class RsaSignature:
    """scheme: RSASSA or RSAPSS with its hash. value: as long as the modulus, big-endian."""

    scheme: Scheme
    value: bytes

    def encode(self) -> bytes:
        """Return the marshalled TPMT_SIGNATURE."""
        return u16(self.scheme.alg) + u16(self.scheme.hash_alg or 0) + sized(self.value)


@dataclass(frozen=True, slots=True)
class EcdsaSignature:
    """scheme: ECDSA with its hash. r, s: big-endian."""

    scheme: Scheme
    r: bytes
    s: bytes

    def encode(self) -> bytes:
        """Return the marshalled TPMT_SIGNATURE."""
        return u16(self.scheme.alg) + u16(self.scheme.hash_alg or 0) + sized(self.r) + sized(self.s)


Signature = RsaSignature | EcdsaSignature


def parse_signature(data: bytes) -> Signature:
    """Read a TPMT_SIGNATURE by RSASSA, RSAPSS or ECDSA, every byte of it; raise TpmDecodeError otherwise."""
    reader = Reader(data, "TPMT_SIGNATURE")
    alg = reader.u16()
    signature: Signature
    if alg in (ALG_RSASSA, ALG_RSAPSS):
        signature = RsaSignature(Scheme(alg, reader.u16()), reader.sized(high=_MAX_RSA_BYTES))
    elif alg == ALG_ECDSA:
        scheme = Scheme(alg, reader.u16())
        signature = EcdsaSignature(scheme, reader.sized(high=_MAX_ECC_BYTES), reader.sized(high=_MAX_ECC_BYTES))
    else:
        raise TpmDecodeError(f"TPMT_SIGNATURE: want RSASSA, RSAPSS or ECDSA, got TPM_ALG_ID {alg:#06x}")
    reader.done()
    return signature


def check_signature(key: PublicKey, signature: Signature, message: bytes) -> None:
    """Check `signature` over `message` by `key`.

    Raises UnsupportedKey if key and signature are of different kinds or the hash is not on our list, and
    `cryptography`'s InvalidSignature if it does not verify. Whether the scheme is the one that the key's public area
    fixes is the caller's question.
    """
    algorithm = HASHES.get(signature.scheme.hash_alg or 0)
    if algorithm is None:
        raise UnsupportedKey(f"want SHA-256, SHA-384 or SHA-512 under a signature, got {signature.scheme}")
    if isinstance(signature, EcdsaSignature):
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise UnsupportedKey("an ECDSA signature can't be by an RSA key")
        r, s = int.from_bytes(signature.r, "big"), int.from_bytes(signature.s, "big")
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(algorithm))
        return
    if not isinstance(key, rsa.RSAPublicKey):
        raise UnsupportedKey("an RSA signature can't be by an ECC key")
    if len(signature.value) != (key.key_size + 7) // 8:
        raise InvalidSignature
    scheme = (
        padding.PKCS1v15()
        if signature.scheme.alg == ALG_RSASSA
        else padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
    )
    key.verify(signature.value, message, scheme, algorithm)
