"""A whole installation's certificates in a temporary folder, made in some 50 ms: root, Birth, Fleet and Infra CA.

`make_pki(folder)` is `birthmark init --demo` in small; `Pki.device(...)`, `Pki.birth(...)` and `Pki.infra(...)` issue
leaves with software keys, ready for `ssl`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.ceremony import authority_add, authority_complete, demo_init
from birthmark_server.ca.issuer import Issuer, to_der
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import IDevIdRequest, InfraRequest, LDevIdRequest, LeafRequest
from birthmark_server.ca.root_ceremony import root_revoke, root_sign
from birthmark_server.domain import CertificateProfile, CertificateRecord, RevocationReason

PASSPHRASE = b"correct horse battery staple"
TRUST_DOMAIN = "fleet.example"
ORGANIZATION = "Example Devices"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One issued certificate with its key. chain_pem: the leaf and what follows it, as a TLS peer sends them."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    der: bytes
    chain_pem: bytes
    record: CertificateRecord

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.pem (the chain) and NAME.key; return both paths, as `ssl.SSLContext.load_cert_chain` wants."""
        chain, key = folder / f"{name}.pem", folder / f"{name}.key"
        chain.write_bytes(self.chain_pem)
        key.write_bytes(self.key_pem)
        key.chmod(0o600)
        return chain, key


@dataclass(frozen=True, slots=True)
class Pki:
    """An opened installation. folder: the CA folder, with root.pem in it."""

    folder: Path
    authority: Authority
    now: datetime

    @property
    def root_pem(self) -> Path:
        return self.folder / "root.pem"

    def birth(self, serial: str = "SN-0001", *, key: ec.EllipticCurvePrivateKey | None = None) -> Leaf:
        """An IDevID."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        request = IDevIdRequest(public_key=key.public_key(), serial=serial, ek_sha256=spki_sha256(key.public_key()))
        return self._issue(self.authority.birth, request, key, serial.lower(), None)

    def device(
        self,
        device_id: str = "device-1",
        *,
        tpm_backed: bool = True,
        lifetime: timedelta | None = None,
        now: datetime | None = None,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Leaf:
        """An LDevID; an expired one with a `now` in the past (the CAs are a year old) and a short lifetime."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        request = LDevIdRequest(public_key=key.public_key(), device_id=device_id, tpm_backed=tpm_backed)
        return self._issue(self.authority.fleet, request, key, device_id, lifetime, now)

    def infra(
        self,
        profile: CertificateProfile,
        name: str,
        *,
        dns_names: tuple[str, ...] = (),
        ip_addresses: tuple[str, ...] = (),
        now: datetime | None = None,
        lifetime: timedelta | None = None,
    ) -> Leaf:
        """A server, broker, control, station or operator certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        addresses = tuple(ip_address(address) for address in ip_addresses)
        request = InfraRequest(profile, key.public_key(), name, dns_names, addresses)
        return self._issue(self.authority.infra, request, key, "", lifetime, now)

    def server(self) -> Leaf:
        """A server certificate for localhost, 127.0.0.1 and ::1."""
        return self.infra(
            CertificateProfile.SERVER, "srv-server", dns_names=("localhost",), ip_addresses=("127.0.0.1", "::1")
        )

    def broker(self) -> Leaf:
        """A broker certificate for localhost, 127.0.0.1 and ::1."""
        return self.infra(
            CertificateProfile.BROKER, "srv-broker", dns_names=("localhost",), ip_addresses=("127.0.0.1", "::1")
        )

    def deny_signer(self) -> DenySigner:
        """Who signs the broker's deny list, since yesterday: so lists can be old."""
        leaf = self.infra(CertificateProfile.DENY_LIST, "srv-deny-list", now=self.now - timedelta(days=1))
        return DenySigner(leaf.key, leaf.certificate, self.authority.infra.certificate)

    def add(self, kind: CaKind, *, label: str) -> None:
        """One more issuing CA in the folder, signed by the root in there; who opens the folder next has it."""
        made = authority_add(folder=self.folder, kind=kind, passphrase=PASSPHRASE, now=self.now, label=label)
        root, ((_, request),) = self.folder / "root", made.requests
        out = root / f"{request.stem}.pem"
        root_sign(folder=root, request=request, kind=kind, out=out, passphrase=PASSPHRASE, now=self.now)
        self.take_in(out)

    def revoke(self, name: str) -> None:
        """The root takes an issuing CA back; who opens the folder next knows it."""
        root_revoke(
            folder=self.folder / "root",
            certificate=self.folder / f"{name}.pem",
            reason=RevocationReason.KEY_COMPROMISE,
            passphrase=PASSPHRASE,
            now=self.now,
        )
        self.take_in()

    def take_in(self, *certificates: Path) -> None:
        """Bring the root's newest CRL into the folder, and what it signed."""
        root = self.folder / "root"
        authority_complete(
            folder=self.folder,
            root=root / "root.pem",
            root_crl=root / "root.crl",
            certificates=certificates,
            now=self.now,
        )

    def _issue(
        self,
        issuer: Issuer,
        request: LeafRequest,
        key: ec.EllipticCurvePrivateKey,
        device_id: str,
        lifetime: timedelta | None,
        now: datetime | None = None,
    ) -> Leaf:
        token = issuer.prepare(request, now=now or self.now, lifetime=lifetime)
        certificate = issuer.issue(token)
        record = to_record(
            certificate, issuer=issuer, profile=token.profile, device_id=device_id, issued_at=now or self.now
        )
        chain = certificate.public_bytes(Encoding.PEM) + self.authority.chain_pem(issuer)
        return Leaf(key, certificate, to_der(certificate), chain, record)


def make_pki(
    folder: Path,
    *,
    now: datetime | None = None,
    public_url: str = "",
    trust_domain: str = TRUST_DOMAIN,
    dns_domains: tuple[str, ...] = ("localhost", TRUST_DOMAIN),
) -> Pki:
    """Make an installation in `folder`, for localhost and loopback addresses; its CAs began a year before `now`."""
    now = (now or datetime.now(UTC)).replace(microsecond=0)
    namespace = Namespace.checked(
        organization=ORGANIZATION,
        trust_domain=trust_domain,
        dns_domains=dns_domains,
        ip_networks=("127.0.0.0/8", "::1/128"),
        public_url=public_url,
    )
    demo_init(folder=folder, namespace=namespace, passphrase=PASSPHRASE, now=now - timedelta(days=365))
    return Pki(folder, Authority.load(folder, passphrase=PASSPHRASE, now=now), now)


def spki_sha256(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a SubjectPublicKeyInfo, hex, as `domain` writes it."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize().hex()
