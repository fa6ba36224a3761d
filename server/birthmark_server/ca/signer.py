"""Who holds a CA's private key. The rest of this room asks for a signature and never sees the key.

A `CaSigner` signs bytes; where the key lives is its own affair: `FileSigner` below, `Pkcs11Signer` in pkcs11.py.
`BuilderKey` dresses any signing function as the private key that `cryptography`'s builders insist on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, Protocol, Self

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from birthmark_server.ca import files
from birthmark_server.ca.errors import KeyUnusable

CA_CURVES: Final = (ec.SECP256R1, ec.SECP384R1)
# AlgorithmIdentifier of ecdsa-with-SHA256 and -SHA384 (RFC 5758 §3.2: parameters absent).
_ALGORITHM: Final = {
    "sha256": bytes.fromhex("300a06082a8648ce3d040302"),
    "sha384": bytes.fromhex("300a06082a8648ce3d040303"),
}


class CaSigner(Protocol):
    """A P-256 or P-384 key that can sign. Methods are thread-safe."""

    def public_key(self) -> ec.EllipticCurvePublicKey: ...

    def sign(self, data: bytes) -> bytes:
        """Return the ECDSA signature over `data` as a DER ECDSA-Sig-Value, hashed as `hash_for` the curve says."""


def hash_for(curve: ec.EllipticCurve) -> hashes.SHA256 | hashes.SHA384:
    """Return the hash that goes with a curve: SHA-256 for P-256, SHA-384 for P-384 (RFC 5480 §4)."""
    if isinstance(curve, ec.SECP256R1):
        return hashes.SHA256()
    if isinstance(curve, ec.SECP384R1):
        return hashes.SHA384()
    raise KeyUnusable(f"want a P-256 or P-384 key, got {curve.name}")


def algorithm_for(curve: ec.EllipticCurve) -> bytes:
    """Return the AlgorithmIdentifier (DER) of a `CaSigner`'s signatures with a key on this curve."""
    return _ALGORITHM[hash_for(curve).name]


class FileSigner:
    """A key in this process's memory, as read from an encrypted PKCS #8 file."""

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self._algorithm = ec.ECDSA(hash_for(key.curve))

    @classmethod
    def load(cls, path: Path, *, passphrase: bytes) -> Self:
        """Read an encrypted key. Raise KeyUnusable if others may read the file, if it is in the clear, or if the
        passphrase does not open it."""
        pem = files.read_private(path)
        if b"-----BEGIN ENCRYPTED PRIVATE KEY-----" not in pem:
            raise KeyUnusable(f"{path}: want an encrypted PKCS #8 key in PEM")
        try:
            key = serialization.load_pem_private_key(pem, passphrase)
        except ValueError:
            raise KeyUnusable(f"{path}: the passphrase does not open this key") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise KeyUnusable(f"{path}: want an elliptic curve key")
        return cls(key)

    @classmethod
    def create(cls, path: Path, *, curve: ec.EllipticCurve, passphrase: bytes) -> Self:
        """Make a key and write it, encrypted, mode 0600, never over another file."""
        key = ec.generate_private_key(curve)
        files.write_new(path, encrypted_pem(key, passphrase), mode=0o600)
        return cls(key)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._key.public_key()

    def sign(self, data: bytes) -> bytes:
        return self._key.sign(data, self._algorithm)


class NoSigner:
    """The public half alone, of an authority that was opened for verifying."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey) -> None:
        self._public_key = public_key

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    def sign(self, data: bytes) -> NoReturn:
        raise KeyUnusable(f"opened for verifying only: {len(data)} bytes were not signed")


def encrypted_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes) -> bytes:
    """Return the key as PKCS #8 PEM under PBES2 (AES-256-CBC). The passphrase carries the strength: see
    passphrase.MINIMUM_BYTES."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )


class BuilderKey(ec.EllipticCurvePrivateKey):
    """What `cryptography`'s builders take for a private key: a public key, and a function that signs bytes."""

    def __init__(self, public_key: ec.EllipticCurvePublicKey, sign: Callable[[bytes], bytes]) -> None:
        self._public_key = public_key
        self._sign = sign

    @classmethod
    def over(cls, signer: CaSigner) -> Self:
        """Return the builder key that signs with `signer`."""
        return cls(signer.public_key(), signer.sign)

    def public_key(self) -> ec.EllipticCurvePublicKey:
        return self._public_key

    @property
    def curve(self) -> ec.EllipticCurve:
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        return self._public_key.key_size

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        wanted, asked = hash_for(self.curve), signature_algorithm.algorithm
        if isinstance(asked, Prehashed) or asked.name != wanted.name:
            raise KeyUnusable(f"a {self.curve.name} CA key signs with {wanted.name}, not {asked!r}")
        return self._sign(bytes(data))

    def exchange(self, *_: object, **__: object) -> NoReturn:
        raise KeyUnusable("a CA key only signs")

    def private_numbers(self) -> NoReturn:
        raise KeyUnusable("a CA key only signs")

    def private_bytes(self, *_: object, **__: object) -> NoReturn:
        raise KeyUnusable("a CA key only signs")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self
