"""TLS in memory: a small CA whose certificates may have any validity, a software TlsKey, two ends to shake hands."""

import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

SERVER_NAME: Final = "server.test"
_HASHES: Final = {"sha256": SHA256(), "sha384": SHA384()}
_PURPOSES: Final = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]


class SoftwareKey:
    """A TlsKey and device key without a TPM. signatures: how many it made; error: raised instead of signing."""

    def __init__(self, curve: ec.EllipticCurve | None = None) -> None:
        self.private = ec.generate_private_key(curve or ec.SECP256R1())
        self.signatures = 0
        self.error: BaseException | None = None

    @property
    def spki(self) -> bytes:
        return self.private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    def sign_digest(self, digest: bytes, hash_name: str) -> bytes:
        if self.error is not None:
            raise self.error
        self.signatures += 1
        return self.private.sign(digest, ec.ECDSA(Prehashed(_HASHES[hash_name])))


@dataclass(frozen=True, slots=True)
class TestCa:
    """A root and one intermediate, good from 1990 to 2190."""

    __test__ = False
    root: x509.Certificate
    intermediate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls) -> "TestCa":
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        start, end = datetime(1990, 1, 1, tzinfo=UTC), datetime(2190, 1, 1, tzinfo=UTC)
        root = _certificate("root", root_key.public_key(), "root", root_key, start, end, ca=True)
        return cls(root, _certificate("ca", key.public_key(), "root", root_key, start, end, ca=True), key)

    @property
    def anchors_pem(self) -> str:
        return self.root.public_bytes(Encoding.PEM).decode()

    def issue(self, spki: bytes, *, name: str = "device-1", start: datetime, end: datetime) -> tuple[bytes, bytes]:
        """Return the chain, DER: a certificate for client and server alike, and the intermediate."""
        key = load_der_public_key(spki)
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError("want an elliptic-curve key")
        leaf = _certificate(name, key, "ca", self.key, start, end, ca=False)
        return leaf.public_bytes(Encoding.DER), self.intermediate.public_bytes(Encoding.DER)

    def issue_now(self, spki: bytes, *, name: str = "device-1") -> tuple[bytes, bytes]:
        """Return a chain that began an hour ago and lasts a day."""
        now = datetime.now(UTC).replace(microsecond=0)
        return self.issue(spki, name=name, start=now - timedelta(hours=1), end=now + timedelta(days=1))

    def server(self, *, start: datetime | None = None, end: datetime | None = None) -> ssl.SSLContext:
        """Return a server's context that asks for a client certificate of this CA."""
        key, now = SoftwareKey(), datetime.now(UTC).replace(microsecond=0)
        chain = self.issue(
            key.spki, name=SERVER_NAME, start=start or now - timedelta(hours=1), end=end or now + timedelta(days=1)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.load_verify_locations(cadata=self.anchors_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "server.pem"
            file.write_bytes(
                key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
                + "".join(map(ssl.DER_cert_to_PEM_cert, chain)).encode()
            )
            context.load_cert_chain(file)
        return context


def shake_hands(
    client: ssl.SSLContext, server: ssl.SSLContext, *, name: str = SERVER_NAME
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Return both ends after a handshake in memory and one message each way, or raise what either end raised."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(back, there, server_hostname=name)
    far = server.wrap_bio(there, back, server_side=True)
    waiting: Sequence[ssl.SSLObject] = (near, far)
    for _flight in range(6):
        waiting = [end for end in waiting if not _done(end)]
    far.write(b"hello")
    near.write(b"hello")
    if (near.read(5), far.read(5)) != (b"hello", b"hello"):
        raise AssertionError("the ends do not understand each other")
    return near, far


def _done(end: ssl.SSLObject) -> bool:
    try:
        end.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    start: datetime,
    end: datetime,
    *,
    ca: bool,
) -> x509.Certificate:
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(_usage(ca=ca), critical=True)
    )
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(_PURPOSES), critical=False)
    return builder.sign(signer, SHA256())


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
