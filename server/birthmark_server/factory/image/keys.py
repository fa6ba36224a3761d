"""The three keys of Secure Boot for a product, and a station's or a test's way to enroll them.

    PK   the platform's owner: may change KEK
    KEK  may change db and dbx
    db   signs boot files: what `birthmark image build --sign` takes

Keep PK and KEK away from the machine that builds. RSA 2048 and SHA-256, as every UEFI firmware takes them.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from birthmark_server.ca import files
from birthmark_server.factory.image.errors import WrongOption
from birthmark_server.factory.image.spec import Signing

NAMES: Final = ("PK", "KEK", "db")
_YEARS: Final = 20
"""Firmware does not look at the dates of its keys; people do."""


def make(folder: Path, *, product: str, now: datetime) -> None:
    """Make PK, KEK and db, NAME.key (mode 0600) and NAME.pem each, and the owner's GUID, in a folder that has none."""
    files.make_folder(folder)
    for name in NAMES:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        files.write_new(folder / f"{name}.key", pem, mode=0o600)
        certificate = _certificate(f"{product} {name}", key, now=now)
        files.write_new(folder / f"{name}.pem", certificate.public_bytes(Encoding.PEM))


def signing(folder: Path) -> Signing:
    """Return the key that signs boot files; raise KeyUnusable or WrongOption where it can't be used."""
    key, certificate = folder / "db.key", folder / "db.pem"
    files.read_private(key)
    try:
        x509.load_pem_x509_certificate(certificate.read_bytes())
    except ValueError:
        raise WrongOption(f"--sign: {certificate} is no certificate in PEM") from None
    return Signing(key, certificate)


def _certificate(name: str, key: rsa.RSAPrivateKey, *, now: datetime) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    begin = now.astimezone(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=subject, public_key=key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin - timedelta(minutes=5))
        .not_valid_after(begin + timedelta(days=365 * _YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    return builder.sign(key, hashes.SHA256())
