"""The floor under every key: size, exponent, curve, and the ROCA screen.

ROCA (CVE-2017-15361): Infineon's RSALib made primes of the form k*M + (65537^a mod M), M the product of the first
primes. A modulus then is a power of 65537 modulo each of these primes, which a random one is with a chance of 2^-27 and
less. Source: Nemec et al., "The Return of Coppersmith's Attack", CCS 2017, §3.
"""

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from birthmark_server.attestation.errors import RocaKey, WeakKey
from birthmark_server.tpm.public import PublicKey

MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096
MIN_RSA_EXPONENT: Final = 65537

_DEVICE_CURVES: Final = frozenset(("secp256r1", "secp384r1"))
_CA_CURVES: Final = _DEVICE_CURVES | {"secp521r1"}

_ROCA_PRIMES: Final = tuple(p for p in range(3, 168) if all(p % q for q in range(2, p)))


def _powers(base: int, prime: int) -> int:
    """Return, as a bit mask, the residues modulo `prime` that are powers of `base`."""
    mask, power = 0, 1
    while not mask >> power & 1:
        mask |= 1 << power
        power = power * base % prime
    return mask


_ROCA_RESIDUES: Final = tuple((prime, _powers(65537, prime)) for prime in _ROCA_PRIMES)


def check_device_key(key: PublicKey, what: str) -> None:
    """Refuse a key of a TPM that is below the floor. Raises WeakKey, RocaKey. what: names the key in the message."""
    _check(key, what, _DEVICE_CURVES)


def check_ca_key(key: PublicKey, what: str) -> None:
    """Refuse a CA's key that is below the floor; P-521 is allowed too. Raises WeakKey, RocaKey."""
    _check(key, what, _CA_CURVES)


def _check(key: PublicKey, what: str, curves: frozenset[str]) -> None:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if key.curve.name not in curves:
            raise WeakKey(f"{what}: want a key on {' or '.join(sorted(curves))}, got {key.curve.name}")
        return
    numbers = key.public_numbers()
    if not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise WeakKey(f"{what}: want RSA of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits, got {key.key_size}")
    if numbers.e < MIN_RSA_EXPONENT or not numbers.n & 1:
        raise WeakKey(f"{what}: want an exponent of at least {MIN_RSA_EXPONENT} and an odd modulus, got {numbers.e}")
    _check_roca(numbers, what)


def _check_roca(numbers: rsa.RSAPublicNumbers, what: str) -> None:
    if all(residues >> numbers.n % prime & 1 for prime, residues in _ROCA_RESIDUES):
        raise RocaKey(f"{what}: the modulus has the structure of CVE-2017-15361 (ROCA)")
