"""Where a CA key is: `file:NAME.key` in the CA folder, or a `pkcs11:` URI."""

from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.ca.errors import KeyUnusable
from birthmark_server.ca.passphrase import check_strength
from birthmark_server.ca.pkcs11 import Pkcs11Signer, TokenUri
from birthmark_server.ca.signer import CaSigner, FileSigner

FILE: Final = "file:"
TOKEN: Final = "pkcs11:"  # noqa: S105 - a URI scheme


def location(name: str, *, token: str = "") -> str:
    """Return where the key of the authority `name` goes: a file, or an object of that name in `token`, a `pkcs11:` URI
    that names token and module."""
    return TokenUri.parse(token).with_object(name).text() if token else f"{FILE}{name}.key"


def open_signer(folder: Path, key: str, *, passphrase: bytes) -> CaSigner:
    """Open an existing key. passphrase: of the file, or the token's PIN. Raise KeyUnusable."""
    if key.startswith(TOKEN):
        return Pkcs11Signer.open(TokenUri.parse(key), pin=passphrase)
    return FileSigner.load(_path(folder, key), passphrase=passphrase)


def create_signer(folder: Path, key: str, *, curve: ec.EllipticCurve, passphrase: bytes) -> CaSigner:
    """Make a key where `key` says; raise CeremonyRefused rather than replace one."""
    if key.startswith(TOKEN):
        return Pkcs11Signer.create(TokenUri.parse(key), curve=curve, pin=passphrase)
    check_strength(passphrase)
    return FileSigner.create(_path(folder, key), curve=curve, passphrase=passphrase)


def exists(folder: Path, key: str, *, passphrase: bytes) -> bool:
    """Return whether a key is there already."""
    if key.startswith(TOKEN):
        return Pkcs11Signer.exists(TokenUri.parse(key), pin=passphrase)
    return _path(folder, key).exists()


def _path(folder: Path, key: str) -> Path:
    name = key.removeprefix(FILE)
    if not key.startswith(FILE) or Path(name).name != name:
        raise KeyUnusable(f"want file:NAME.key or a pkcs11: URI, got {key!r}")
    return folder / name
