"""A PKI for the broker's tests: what ours issues, and what ours would never issue.

The real CA (tests/support/pki.py) refuses to make a certificate with two common names, another trust domain or a
reserved id. The gate must refuse them nevertheless, so here every field can be chosen.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID

from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca import oids

TRUST_DOMAIN = "fleet.test"
CONTROL_EKU = oids.KP_CONTROL.dotted_string
DENY_EKU = oids.KP_DENY_LIST.dotted_string
DAY = timedelta(days=1)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True)
class Ca:
    """One certificate authority: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, name: str, *, parent: "Ca | None" = None, not_after: datetime | None = None) -> "Ca":
        """Make a root, or an intermediate below `parent`."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer = parent or cls.__new__(cls)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(parent.certificate.subject if parent else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - DAY)
            .not_valid_after(not_after or _now() + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0 if parent else 1), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if parent:  # issuers are found by key identifier: a new root has the name of the old one
            by = x509.AuthorityKeyIdentifier.from_issuer_public_key(parent.key.public_key())
            builder = builder.add_extension(by, critical=False)
        return cls(builder.sign(signer.key if parent else key, hashes.SHA256()), key)

    def link(self, other: "Ca") -> x509.Certificate:
        """Return a certificate that this root signs for another root's name and key (RFC 4210 §4.4)."""
        public = other.certificate.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(other.certificate.subject)
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_now() - DAY)
            .not_valid_after(_now() + 3650 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(sign_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                # Or OpenSSL takes it for self-signed: both roots have one name.
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        return builder.sign(self.key, hashes.SHA256())

    def crl(self, revoked: Sequence[x509.Certificate] = ()) -> bytes:
        """Return a CRL, DER, for a week."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(_now() - DAY)
            .next_update(_now() + 7 * DAY)
            .add_extension(x509.CRLNumber(1), critical=False)
        )
        for certificate in revoked:
            entry = x509.RevokedCertificateBuilder(certificate.serial_number, _now(), [])
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(self.key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass(frozen=True)
class Leaf:
    """One certificate with its key, on disk as PEM."""

    certificate: x509.Certificate
    chain: Path
    key: Path

    @property
    def serial(self) -> str:
        """The serial number as the gate writes it."""
        return f"{self.certificate.serial_number:x}"


@dataclass
class BrokerPki:
    """A root with Birth, Fleet and Infra CA, a foreign root, and leaves below them, written into `folder`."""

    folder: Path
    trust_domain: str = TRUST_DOMAIN
    root: Ca = field(default_factory=lambda: Ca.make("Test Root"))
    _made: int = 0

    @cached_property
    def birth(self) -> Ca:
        """Issues birth certificates, which the broker must refuse."""
        return Ca.make("Test Birth CA", parent=self.root)

    @cached_property
    def fleet(self) -> Ca:
        """Issues the certificates of devices."""
        return Ca.make("Test Fleet CA", parent=self.root)

    @cached_property
    def infra(self) -> Ca:
        """Issues those of broker, control, station and operator."""
        return Ca.make("Test Infra CA", parent=self.root)

    @cached_property
    def foreign(self) -> Ca:
        """A Fleet CA of the same name below another root."""
        return Ca.make("Test Fleet CA", parent=Ca.make("Test Root"))

    def device(self, device_id: str, *, lifetime: timedelta = DAY, ca: Ca | None = None) -> Leaf:
        """Return an operational certificate as the Fleet CA issues it."""
        return self.leaf(ca or self.fleet, [device_id], uris=[self.uri(device_id)], lifetime=lifetime)

    def control(self, name: str = "srv-control") -> Leaf:
        """Return a control certificate."""
        return self.leaf(self.infra, [name], purposes=[oids.CLIENT_AUTH, oids.KP_CONTROL])

    @cached_property
    def deny_signer(self) -> DenySigner:
        """Who signs deny lists."""
        leaf = self.leaf(self.infra, ["srv-deny-list"], purposes=[oids.KP_DENY_LIST])
        return DenySigner.load(leaf.chain, leaf.key)

    def broker(self) -> Leaf:
        """Return the broker's own certificate, for localhost."""
        return self.leaf(
            self.infra, ["srv-broker"], purposes=[oids.SERVER_AUTH, oids.KP_BROKER], hosts=["localhost", "127.0.0.1"]
        )

    def uri(self, device_id: str) -> str:
        """Return the URI SAN of a device."""
        return f"spiffe://{self.trust_domain}/device/{device_id}"

    def leaf(
        self,
        ca: Ca,
        names: Sequence[str | tuple[_ASN1Type, str]],
        *,
        uris: Sequence[str] = (),
        hosts: Sequence[str] = (),
        purposes: Sequence[x509.ObjectIdentifier] = (),
        lifetime: timedelta = DAY,
        begins: timedelta = timedelta(minutes=-5),
        extensions: Sequence[x509.UnrecognizedExtension] = (),
        signer: Ca | None = None,
        serial: int | None = None,
    ) -> Leaf:
        """Return any certificate. names: the common names, each perhaps with its string type. signer: forges `ca`.

        extensions: as they are, so that they can be broken.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([_common_name(name) for name in names]))
            .issuer_name(ca.certificate.subject)
            .public_key(key.public_key())
            .serial_number(serial if serial is not None else x509.random_serial_number())
            .not_valid_before(_now() + begins)
            .not_valid_after(_now() + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.certificate.public_key()),  # type: ignore[arg-type]  # the CA's key is an EC key
                critical=False,
            )
        )
        alt_names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        alt_names += [_host(host) for host in hosts]
        if alt_names:
            builder = builder.add_extension(x509.SubjectAlternativeName(alt_names), critical=False)
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), critical=False)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign((signer or ca).key, hashes.SHA256())
        return self._write(certificate, ca, key)

    def _write(self, certificate: x509.Certificate, ca: Ca, key: ec.EllipticCurvePrivateKey) -> Leaf:
        self._made += 1
        chain, key_file = self.folder / f"leaf-{self._made}.pem", self.folder / f"leaf-{self._made}.key"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM) + ca.certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return Leaf(certificate, chain, key_file)

    def client_context(self, leaf: Leaf | None) -> ssl.SSLContext:
        """Return a client's TLS context: trusts the root, shows `leaf`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(cadata=self.root.certificate.public_bytes(Encoding.PEM).decode())
        if leaf is not None:
            context.load_cert_chain(leaf.chain, leaf.key)
        return context


def _common_name(name: str | tuple[_ASN1Type, str]) -> x509.NameAttribute[str]:
    if isinstance(name, str):
        return x509.NameAttribute(NameOID.COMMON_NAME, name)
    string_type, value = name
    return x509.NameAttribute(NameOID.COMMON_NAME, value, string_type)


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )
