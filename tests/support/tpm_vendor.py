"""A TPM vendor for tests, the demo's load and the vectors: a CA that certifies endorsement keys, well or oddly.

`VendorCa` is a root and an intermediate, as most vendors have them. What makes a certificate odd is passed in: see
tests/attestation. Keys are P-256 unless asked otherwise, so that thousands of devices are made quickly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from birthmark_server.attestation.roots import INTERMEDIATES, ROOTS, VENDOR_FILE, TrustStore
from birthmark_server.attestation.vendor import Vendor, write_vendor

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

MANUFACTURER = "id:54455354"  # "TEST"
EK_PURPOSE = ObjectIdentifier("2.23.133.8.1")

_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
_CA_FROM, _CA_UNTIL = datetime(2019, 1, 1, tzinfo=UTC), datetime(2059, 1, 1, tzinfo=UTC)
_EK_FROM, _EK_UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


def new_key(kind: str) -> PrivateKey:
    """Make a key: `p256`, `p384` or `rsa2048` (which takes 50 ms and more)."""
    if kind == "rsa2048":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key({"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}[kind])


def tpm_san(manufacturer: str = MANUFACTURER, model: str = "SW1", version: str = "id:00010002") -> x509.GeneralName:
    """Return the DirectoryName by which an EK certificate names its TPM."""
    values = {"2.23.133.2.1": manufacturer, "2.23.133.2.2": model, "2.23.133.2.3": version}
    return x509.DirectoryName(x509.Name([x509.NameAttribute(ObjectIdentifier(o), v) for o, v in values.items()]))


def key_usage(*names: str) -> x509.KeyUsage:
    """Return a KeyUsage with these bits, by the names of `cryptography`'s parameters."""
    return x509.KeyUsage(**{name: name in names for name in _KEY_USAGES})


@dataclass(frozen=True)
class Ca:
    """One CA of a vendor: its certificate and the key that it signs with."""

    certificate: x509.Certificate
    key: PrivateKey

    @property
    def der(self) -> bytes:
        """The certificate, DER."""
        return self.certificate.public_bytes(Encoding.DER)


def build_ca(
    common_name: str,
    *,
    issuer: Ca | None = None,
    key: PrivateKey | None = None,
    path_length: int | None = None,
    not_before: datetime = _CA_FROM,
    not_after: datetime = _CA_UNTIL,
    algorithm: hashes.HashAlgorithm | None = None,
    extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
) -> Ca:
    """Make a CA, self-signed without an issuer. extensions: replace basicConstraints and keyUsage."""
    key = key or new_key("p256")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    usual = [(x509.BasicConstraints(True, path_length), True), (key_usage("key_cert_sign", "crl_sign"), True)]
    certificate = _sign(
        issuer.key if issuer else key,
        subject=subject,
        issuer=issuer.certificate.subject if issuer else subject,
        public_key=key.public_key(),
        not_before=not_before,
        not_after=not_after,
        extensions=usual if extensions is None else extensions,
        algorithm=algorithm,
    )
    return Ca(certificate, key)


def _sign(
    signer: PrivateKey,
    *,
    subject: x509.Name,
    issuer: x509.Name,
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
    not_before: datetime,
    not_after: datetime,
    extensions: Sequence[tuple[x509.ExtensionType, bool]],
    algorithm: hashes.HashAlgorithm | None = None,
) -> x509.Certificate:
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(not_before).not_valid_after(not_after)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signer, algorithm or hashes.SHA256())  # type: ignore[arg-type]  # SHA-1, for hostile cases


@dataclass(frozen=True)
class VendorCa:
    """A TPM vendor: a root in the trust store, and an intermediate that devices bring along."""

    root: Ca
    intermediate: Ca
    vendor: Vendor

    @classmethod
    def create(cls, name: str = "Test TPM Vendor", *, key: str = "p256", vendor: Vendor | None = None) -> "VendorCa":
        """Make a vendor whose CAs have keys of the kind `key`."""
        root = build_ca(f"{name} Root CA", key=new_key(key), path_length=1)
        intermediate = build_ca(f"{name} EK CA 1", issuer=root, key=new_key(key), path_length=0)
        return cls(root, intermediate, vendor or Vendor(name=name, manufacturers=frozenset((MANUFACTURER,))))

    @property
    def chain(self) -> tuple[bytes, ...]:
        """What a device of this vendor shows as its EK chain, DER."""
        return (self.intermediate.der,)

    def files(self, folder: str = "test-vendor") -> dict[str, bytes]:
        """Return this vendor's part of a trust store."""
        return {f"{folder}/{VENDOR_FILE}": write_vendor(self.vendor), f"{folder}/{ROOTS}/root.der": self.root.der}

    def write_to(self, trust_store: Path, folder: str = "test-vendor") -> None:
        """Write this vendor's part of a trust store to disk."""
        for name, data in self.files(folder).items():
            path = trust_store / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def trust_store(self) -> TrustStore:
        """Return a trust store that trusts this vendor alone."""
        return TrustStore.from_files(self.files())

    def with_intermediate_kept(self) -> TrustStore:
        """Return a trust store that keeps the intermediate too."""
        return TrustStore.from_files(self.files() | {f"test-vendor/{INTERMEDIATES}/1.der": self.intermediate.der})

    def issue_ek(
        self,
        public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey,
        *,
        issuer: Ca | None = None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
        not_before: datetime = _EK_FROM,
        not_after: datetime = _EK_UNTIL,
        algorithm: hashes.HashAlgorithm | None = None,
    ) -> bytes:
        """Return an EK certificate, DER. extensions: replace those of `ek_extensions`."""
        ca = issuer or self.intermediate
        certificate = _sign(
            ca.key,
            subject=x509.Name([]),
            issuer=ca.certificate.subject,
            public_key=public_key,
            not_before=not_before,
            not_after=not_after,
            extensions=ek_extensions(public_key) if extensions is None else extensions,
            algorithm=algorithm,
        )
        return certificate.public_bytes(Encoding.DER)


def ek_extensions(
    public_key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey, name: x509.GeneralName | None = None
) -> list[tuple[x509.ExtensionType, bool]]:
    """Return the extensions of an EK certificate (TCG EK Credential Profile 2.5 §3.2). name: instead of `tpm_san()`."""
    usage = "key_encipherment" if isinstance(public_key, rsa.RSAPublicKey) else "key_agreement"
    return [
        (x509.BasicConstraints(False, None), True),
        (key_usage(usage), True),
        (x509.ExtendedKeyUsage([EK_PURPOSE]), False),
        (x509.SubjectAlternativeName([name or tpm_san()]), True),
    ]
