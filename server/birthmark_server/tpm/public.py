"""TPMT_PUBLIC: the public area of an RSA or ECC key, its Name, and what `cryptography` makes of it.

A public area only *says* what a key is. What it says is proven once a TPM that we trust has stated its Name
(attestation/verify.py). Source: TPM 2.0 Library Part 2 §12.2, Part 1 §16 "Names".
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.tpm.algorithms import (
    ALG_ECDAA,
    ALG_ECDH,
    ALG_ECMQV,
    ALG_ECSCHNORR,
    ALG_OAEP,
    ALG_RSAES,
    ALG_RSAPSS,
    ALG_RSASSA,
    ALG_SM2,
    CURVES,
    HASHES,
    RH_ENDORSEMENT,
)
from birthmark_server.tpm.errors import TpmDecodeError, UnsupportedKey
from birthmark_server.tpm.wire import Reader, sized, u16, u32
from birthmark_wire.tpm_templates import ALG_AES, ALG_CFB, ALG_ECC, ALG_ECDSA, ALG_NULL, ALG_RSA

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

DEFAULT_EXPONENT: Final = 65537
_MAX_POLICY_BYTES: Final = 64
_MAX_MODULUS_BYTES: Final = 512
_MAX_COORDINATE_BYTES: Final = 128

_RSA_SCHEMES: Final = frozenset((ALG_RSASSA, ALG_RSAPSS, ALG_OAEP))
_ECC_SCHEMES: Final = frozenset((ALG_ECDSA, ALG_ECDH, ALG_SM2, ALG_ECSCHNORR, ALG_ECMQV))


@dataclass(frozen=True, slots=True)
class Symmetric:
    """TPMT_SYM_DEF_OBJECT: how a storage key or an EK protects what it wraps. Always AES in CFB mode."""

    key_bits: int


@dataclass(frozen=True, slots=True)
class Scheme:
    """TPMT_RSA_SCHEME, TPMT_ECC_SCHEME or TPMT_KDF_SCHEME. hash_alg: None for RSAES, count: only for ECDAA."""

    alg: int
    hash_alg: int | None = None
    count: int | None = None


@dataclass(frozen=True, slots=True)
class RsaKey:
    """Size, exponent (0 stands for 65537) and modulus, big-endian; in a template the modulus is empty or zero."""

    key_bits: int
    exponent: int
    modulus: bytes


@dataclass(frozen=True, slots=True)
class EccKey:
    """Curve, key derivation scheme and point, big-endian; in a template x and y are empty, zero, or a label."""

    curve: int
    x: bytes
    y: bytes
    kdf: Scheme | None = None


@dataclass(frozen=True, slots=True)
class TpmPublic:
    """One TPMT_PUBLIC. name_alg: the hash of its Name. attributes: TPMA_OBJECT bits."""

    name_alg: int
    attributes: int
    auth_policy: bytes
    symmetric: Symmetric | None
    scheme: Scheme | None
    key: RsaKey | EccKey

    def encode(self) -> bytes:
        """Return the marshalled TPMT_PUBLIC: exactly what `parse_public` reads."""
        middle = sized(self.auth_policy) + _write_symmetric(self.symmetric) + _write_scheme(self.scheme)
        if isinstance(self.key, RsaKey):
            head = u16(ALG_RSA)
            tail = u16(self.key.key_bits) + u32(self.key.exponent) + sized(self.key.modulus)
        else:
            head = u16(ALG_ECC)
            tail = u16(self.key.curve) + _write_scheme(self.key.kdf) + sized(self.key.x) + sized(self.key.y)
        return head + u16(self.name_alg) + u32(self.attributes) + middle + tail

    def has(self, bits: int) -> bool:
        """Tell whether all of these TPMA_OBJECT bits are set."""
        return self.attributes & bits == bits

    def name(self) -> bytes:
        """Return the Name: nameAlg (2 bytes) and the digest of the public area; 34 bytes for SHA-256.

        Raises UnsupportedKey for a nameAlg that we do not accept.
        """
        return u16(self.name_alg) + _digest(self.name_alg, self.encode())

    def endorsement_primary_name(self) -> bytes:
        """Return the Qualified Name that this key has if it is a primary of the endorsement hierarchy.

        Source: TPM 2.0 Library Part 1 §16.3: QN = nameAlg || H(QN of the parent || Name); a hierarchy's is its handle.
        """
        return u16(self.name_alg) + _digest(self.name_alg, u32(RH_ENDORSEMENT) + self.name())

    def public_key(self) -> PublicKey:
        """Return the key for `cryptography`, which checks that a point is on its curve.

        Raises UnsupportedKey for other curves than P-256 and P-384, and for numbers that are no key.
        """
        try:
            if isinstance(self.key, RsaKey):
                modulus = int.from_bytes(self.key.modulus, "big")
                if modulus.bit_length() != self.key.key_bits:
                    raise UnsupportedKey(f"want a modulus of {self.key.key_bits} bits, got {modulus.bit_length()}")
                return rsa.RSAPublicNumbers(self.key.exponent or DEFAULT_EXPONENT, modulus).public_key()
            curve = CURVES.get(self.key.curve)
            if curve is None:
                raise UnsupportedKey(f"want P-256 or P-384, got TPM_ECC_CURVE {self.key.curve:#06x}")
            x, y = int.from_bytes(self.key.x, "big"), int.from_bytes(self.key.y, "big")
            return ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
        except ValueError as error:
            raise UnsupportedKey(f"the public area holds no valid key: {error}") from None

    def spki(self) -> bytes:
        """Return the key's SubjectPublicKeyInfo, DER. Raises as `public_key`."""
        return self.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def fits(self, key: PublicKey) -> bool:
        """Tell whether `key` is of this template's type, size, curve and exponent."""
        if isinstance(self.key, EccKey):
            return isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name == CURVES[self.key.curve].name
        if not isinstance(key, rsa.RSAPublicKey) or key.key_size != self.key.key_bits:
            return False
        return key.public_numbers().e == (self.key.exponent or DEFAULT_EXPONENT)

    def with_key(self, key: PublicKey) -> "TpmPublic":
        """Return this template's public area for `key`, numbers padded to full length as the EK profile has them.

        Raises UnsupportedKey if the key does not fit the template.
        """
        if not self.fits(key):
            raise UnsupportedKey("the key is not of the type, size, curve and exponent of the template")
        return replace(self, key=_fill(self.key, key.public_numbers(), (key.key_size + 7) // 8))


def parse_public(data: bytes) -> TpmPublic:
    """Read a TPMT_PUBLIC (no size in front) of type RSA or ECC, every byte of it; raise TpmDecodeError otherwise."""
    reader = Reader(data, "TPMT_PUBLIC")
    alg, name_alg, attributes = reader.u16(), reader.u16(), reader.u32()
    auth_policy = reader.sized(high=_MAX_POLICY_BYTES)
    key: RsaKey | EccKey
    if alg == ALG_RSA:
        symmetric, scheme = _read_symmetric(reader), _read_scheme(reader, _RSA_SCHEMES)
        key = RsaKey(reader.u16(), reader.u32(), reader.sized(high=_MAX_MODULUS_BYTES))
    elif alg == ALG_ECC:
        symmetric, scheme = _read_symmetric(reader), _read_scheme(reader, _ECC_SCHEMES)
        curve, kdf = reader.u16(), _read_kdf(reader)
        x, y = reader.sized(high=_MAX_COORDINATE_BYTES), reader.sized(high=_MAX_COORDINATE_BYTES)
        key = EccKey(curve, x, y, kdf)
    else:
        raise TpmDecodeError(f"TPMT_PUBLIC: want type RSA or ECC, got TPM_ALG_ID {alg:#06x}")
    reader.done()
    return TpmPublic(name_alg, attributes, auth_policy, symmetric, scheme, key)


def _fill(
    template: RsaKey | EccKey, numbers: rsa.RSAPublicNumbers | ec.EllipticCurvePublicNumbers, width: int
) -> RsaKey | EccKey:
    if isinstance(template, RsaKey) and isinstance(numbers, rsa.RSAPublicNumbers):
        return replace(template, modulus=numbers.n.to_bytes(width, "big"))
    if isinstance(template, EccKey) and isinstance(numbers, ec.EllipticCurvePublicNumbers):
        return replace(template, x=numbers.x.to_bytes(width, "big"), y=numbers.y.to_bytes(width, "big"))
    raise TypeError("the template is of another kind than the key")


def _digest(alg: int, data: bytes) -> bytes:
    algorithm = HASHES.get(alg)
    if algorithm is None:
        raise UnsupportedKey(f"want a Name of SHA-256, SHA-384 or SHA-512, got TPM_ALG_ID {alg:#06x}")
    return hashlib.new(algorithm.name, data).digest()


def _read_symmetric(reader: Reader) -> Symmetric | None:
    alg = reader.u16()
    if alg == ALG_NULL:
        return None
    if alg != ALG_AES:
        raise TpmDecodeError(f"TPMT_PUBLIC: want AES or no symmetric cipher, got TPM_ALG_ID {alg:#06x}")
    key_bits, mode = reader.u16(), reader.u16()
    if mode != ALG_CFB:
        raise TpmDecodeError(f"TPMT_PUBLIC: want AES in CFB mode, got TPM_ALG_ID {mode:#06x}")
    return Symmetric(key_bits)


def _read_scheme(reader: Reader, with_hash: frozenset[int]) -> Scheme | None:
    alg = reader.u16()
    if alg == ALG_NULL:
        return None
    if alg in with_hash:
        return Scheme(alg, reader.u16())
    if alg == ALG_RSAES and ALG_RSASSA in with_hash:
        return Scheme(alg)
    if alg == ALG_ECDAA and ALG_ECDSA in with_hash:
        return Scheme(alg, reader.u16(), reader.u16())
    raise TpmDecodeError(f"TPMT_PUBLIC: no scheme of this kind of key: TPM_ALG_ID {alg:#06x}")


def _read_kdf(reader: Reader) -> Scheme | None:
    alg = reader.u16()
    return None if alg == ALG_NULL else Scheme(alg, reader.u16())


def _write_symmetric(symmetric: Symmetric | None) -> bytes:
    return u16(ALG_NULL) if symmetric is None else u16(ALG_AES) + u16(symmetric.key_bits) + u16(ALG_CFB)


def _write_scheme(scheme: Scheme | None) -> bytes:
    if scheme is None:
        return u16(ALG_NULL)
    return b"".join(u16(value) for value in (scheme.alg, scheme.hash_alg, scheme.count) if value is not None)
