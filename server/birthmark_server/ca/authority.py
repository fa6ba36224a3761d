"""A CA folder, opened: the trust anchor, the issuers, and what any certificate under them is good for.

Loading proves the folder: the root is self-signed and of its profile, each authority's certificate is signed by that
root, is exactly what its profile and the installation's names say, and belongs to the key beside it. What is wrong is
refused at the start, not at the first device. An authority that the root's CRL revokes is as good as not there.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import keys
from birthmark_server.ca.crl import RootCrl, verify_root_crl
from birthmark_server.ca.errors import (
    UNREADABLE,
    AuthorityBroken,
    CertificateExpired,
    CertificateNotYetValid,
    UntrustedCertificate,
)
from birthmark_server.ca.extensions import ca_extensions, expected, key_identifier
from birthmark_server.ca.issuer import Issuer, to_der
from birthmark_server.ca.layout import AUTHORITY_FILE, Layout
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CA_PROFILES, EARLIER_CA_PROFILES, CaKind
from birthmark_server.ca.signer import CaSigner, NoSigner
from birthmark_server.domain import CertificateProfile


@dataclass(frozen=True, slots=True)
class VerifiedLeaf:
    """A certificate of ours, within its time. Only `Authority.verify_leaf` makes one; revocation is not looked at.

    name: device id (LDevID), serial number (IDevID), or the infrastructure's name.
    """

    profile: CertificateProfile
    name: str
    certificate: x509.Certificate
    sha256: str
    serial_number: str
    issuer: Issuer


class Authority:
    """The installation's certificates and issuers."""

    def __init__(
        self,
        *,
        layout: Layout,
        root: x509.Certificate,
        root_crl: RootCrl,
        issuers: tuple[Issuer, ...],
        revoked: tuple[x509.Certificate, ...],
    ) -> None:
        """issuers: proven, at least one of each kind. revoked: those that the root took back. Use `load`.

        anchor_sha256 is of the root certificate, DER: what devices pin.
        """
        self.namespace: Namespace = layout.namespace
        self.demo = layout.demo
        self.root = root
        self.anchor_sha256 = root.fingerprint(hashes.SHA256())
        self.root_crl = root_crl.der
        self.issuers = issuers
        self.revoked = revoked
        self.birth = _newest(issuers, CaKind.BIRTH)
        self.fleet = _newest(issuers, CaKind.FLEET)
        self.infra = _newest(issuers, CaKind.INFRA)
        self._by_key_id = {issuer.key_id: issuer for issuer in issuers}
        self._by_sha256 = {issuer.sha256: issuer for issuer in issuers}

    @classmethod
    def load(
        cls, folder: Path, *, passphrase: bytes | None, now: datetime, random: Callable[[int], bytes] = os.urandom
    ) -> Self:
        """Open every authority in the folder. Raise AuthorityBroken or KeyUnusable saying what is wrong.

        passphrase: None to open the folder for verifying only; whatever would sign raises KeyUnusable then.
        Of several of one kind the newest issues; the older ones still verify, and sign their CRLs. One that root.crl
        revokes does neither.
        """
        layout = Layout.read(folder / AUTHORITY_FILE)
        root = read_certificate(folder / "root.pem")
        verify_ca(root, kind=CaKind.ROOT, namespace=layout.namespace, root=root, now=now)
        root_crl = _read_root_crl(folder / "root.crl", root)
        issuers, revoked = [], []
        for entry in layout.entries:
            certificate = read_certificate(folder / f"{entry.name}.pem")
            if now > certificate.not_valid_after_utc:
                continue  # a retired authority: nothing under it is valid, and its key may be gone
            verify_ca(certificate, kind=entry.kind, namespace=layout.namespace, root=root, now=now)
            if certificate.serial_number in root_crl.revoked:
                revoked.append(certificate)
                continue
            signer = _signer(folder, entry.key, certificate, passphrase)
            if signer.public_key() != certificate.public_key():
                raise AuthorityBroken(f"{entry.name}: the key is not the certificate's")
            issuers.append(
                Issuer(
                    name=entry.name,
                    kind=entry.kind,
                    certificate=certificate,
                    signer=signer,
                    namespace=layout.namespace,
                    random=random,
                )
            )
        return cls(layout=layout, root=root, root_crl=root_crl, issuers=tuple(issuers), revoked=tuple(revoked))

    def root_pem(self) -> bytes:
        """Return the root certificate in PEM."""
        return self.root.public_bytes(Encoding.PEM)

    def chain_for(self, issuer: Issuer) -> tuple[bytes, ...]:
        """Return what follows a leaf of `issuer` on the wire: the issuing CA's certificate, DER. Not the root, which
        its verifier has, or must not learn from us."""
        return (to_der(issuer.certificate),)

    def bundle_pem(self, *kinds: CaKind) -> bytes:
        """Return the root and all authorities of these kinds (all kinds where none is named) in PEM, for a TLS
        server's list of client CAs."""
        chosen = [issuer.certificate for issuer in self.issuers if not kinds or issuer.kind in kinds]
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in (self.root, *chosen))

    def issuer_named(self, name: str) -> Issuer:
        """Raise AuthorityBroken for a name that is none of ours."""
        for issuer in self.issuers:
            if issuer.name == name:
                return issuer
        raise AuthorityBroken(f"no authority is called {name!r}")

    def issuer_with(self, sha256: str) -> Issuer | None:
        """Return the authority whose certificate has this SHA-256, hex; None if it is not ours, expired or revoked."""
        return self._by_sha256.get(sha256)

    def verify_leaf(self, der: bytes, *, now: datetime) -> VerifiedLeaf:
        """Prove that a leaf certificate is ours and in time, and say which role it has.

        The role is decided by issuer, key purposes and policies together, and the whole certificate must be as that
        issuer's profile says. Raises UntrustedCertificate, CertificateNotYetValid, CertificateExpired. Does not prove
        possession of the key (TLS does), nor look at revocation (the store does).
        """
        try:
            certificate = x509.load_der_x509_certificate(der)
            key_id = certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
        except UNREADABLE as error:
            raise UntrustedCertificate(f"not a certificate of ours: {error}") from None
        issuer = self._by_key_id.get(key_id or b"")
        if issuer is None:
            raise UntrustedCertificate(f"issued by none of our authorities: {certificate.issuer.rfc4514_string()}")
        profile, name = issuer.read_leaf(certificate)
        begins = certificate.not_valid_before_utc
        ends = min(certificate.not_valid_after_utc, issuer.certificate.not_valid_after_utc)
        if now < begins:
            raise CertificateNotYetValid(f"{profile} of {name}: valid from {begins}, now {now}")
        if now > ends:
            raise CertificateExpired(f"{profile} of {name}: valid until {ends}, now {now}")
        return VerifiedLeaf(
            profile=profile,
            name=name,
            certificate=certificate,
            sha256=certificate.fingerprint(hashes.SHA256()).hex(),
            serial_number=f"{certificate.serial_number:x}",
            issuer=issuer,
        )


def read_certificate(path: Path) -> x509.Certificate:
    """Read one PEM certificate; raise AuthorityBroken."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise AuthorityBroken(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise AuthorityBroken(f"{path}: want one certificate in PEM: {error}") from None


def _read_root_crl(path: Path, root: x509.Certificate) -> RootCrl:
    try:
        return verify_root_crl(path.read_bytes(), root=root)
    except OSError as error:
        raise AuthorityBroken(f"{path}: {error.strerror}") from None
    except AuthorityBroken as broken:
        raise AuthorityBroken(f"{path}: {broken}") from None


def verify_ca(
    certificate: x509.Certificate, *, kind: CaKind, namespace: Namespace, root: x509.Certificate, now: datetime
) -> None:
    """Raise AuthorityBroken unless `root` signed this certificate and it is, extension by extension, that of a CA of
    this kind in this installation, within its time. The root itself is trusted because it was given."""
    subject, key = certificate.subject.rfc4514_string(), certificate.public_key()
    root_key = root.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(root_key, ec.EllipticCurvePublicKey):
        raise AuthorityBroken(f"{subject}: want elliptic curve keys")
    try:
        certificate.verify_directly_issued_by(root)
    except (InvalidSignature, ValueError, TypeError) as error:
        raise AuthorityBroken(f"{subject}: not signed by this root: {error or type(error).__name__}") from None
    forms = (
        ca_extensions(kind, namespace, public_key=key, issuer_key_id=key_identifier(root_key), profile=profile)
        for profile in (CA_PROFILES[kind], *EARLIER_CA_PROFILES.get(kind, ()))
    )
    if list(certificate.extensions) not in [expected(form) for form in forms]:
        raise AuthorityBroken(f"{subject}: its extensions are not those of this installation's {kind} CA")
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not begins <= now <= ends:
        raise AuthorityBroken(f"{subject}: valid from {begins} to {ends}; it is {now}")


def _signer(folder: Path, key: str, certificate: x509.Certificate, passphrase: bytes | None) -> CaSigner:
    if passphrase is not None:
        return keys.open_signer(folder, key, passphrase=passphrase)
    public_key = certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise AuthorityBroken(f"{certificate.subject.rfc4514_string()}: want an elliptic curve key")
    return NoSigner(public_key)


def _newest(issuers: tuple[Issuer, ...], kind: CaKind) -> Issuer:
    of_kind = [issuer for issuer in issuers if issuer.kind is kind]
    if not of_kind:
        raise AuthorityBroken(f"the folder has no {kind} CA that is valid today and not revoked by root.crl")
    return max(of_kind, key=lambda issuer: issuer.certificate.not_valid_before_utc)
