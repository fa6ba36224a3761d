"""A CA folder, opened: the trust anchors, the issuers, and what any certificate under them is good for.

Loading proves the folder: each root is self-signed and of its profile, each link between roots and each issuing CA's
certificate is signed by a root of the folder, is exactly what its profile and the installation's names say, and an
issuing CA's belongs to the key beside it. What is wrong is refused at the start, not at the first device. What a root's
CRL revokes is as good as not there.

What is in the folder is one thing, what is in force another: `follow` says which of several CAs issues, and which are
believed no longer. It may be called at any time, from any thread: readers see the one or the other, whole.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import keys
from birthmark_server.ca.ca_certificate import authority_key_id, read_certificate, verify_ca
from birthmark_server.ca.errors import (
    UNREADABLE,
    AuthorityBroken,
    CertificateExpired,
    CertificateNotYetValid,
    UntrustedCertificate,
)
from birthmark_server.ca.issuer import Issuer, to_der
from birthmark_server.ca.layout import AUTHORITY_FILE, Entry, Layout
from birthmark_server.ca.namespace import Namespace
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.roots import Link, Root, read_roots
from birthmark_server.ca.signer import CaSigner, NoSigner
from birthmark_server.ca.standing import InForce, Standing
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


@dataclass(frozen=True, slots=True)
class Member:
    """One authority of a folder, as a command line lists it. root: the name of the root it stands below; a root's own
    name is its root's. revoked: by that root."""

    name: str
    kind: CaKind
    certificate: x509.Certificate
    sha256: str
    root: str
    revoked: bool = False


class Authority:
    """The installation's certificates and issuers.

    roots, links, issuers: all that are in the folder, valid and not revoked. in_force: what of these is believed now.
    """

    def __init__(
        self,
        *,
        layout: Layout,
        roots: tuple[Root, ...],
        links: tuple[Link, ...],
        issuers: tuple[tuple[Issuer, Root], ...],
        revoked: tuple[Member, ...],
    ) -> None:
        """All proven. issuers: with the root that each is below. revoked: those that a root took back. Use `load`."""
        self.namespace: Namespace = layout.namespace
        self.demo = layout.demo
        self.roots = roots
        self.links = links
        self.issuers = tuple(issuer for issuer, _ in issuers)
        self.revoked = tuple(member.certificate for member in revoked)
        self._issuers = issuers
        self._revoked = revoked
        self._root_of = {issuer.sha256: root for issuer, root in issuers}
        self._in_force = self._under(Standing())

    @classmethod
    def load(
        cls, folder: Path, *, passphrase: bytes | None, now: datetime, random: Callable[[int], bytes] = os.urandom
    ) -> Self:
        """Open every authority in the folder. Raise AuthorityBroken or KeyUnusable saying what is wrong.

        passphrase: None to open the folder for verifying only; whatever would sign raises KeyUnusable then.
        Until `follow` says otherwise the first root is the active one, and of several CAs of one kind the newest below
        it issues; the others still verify, and sign their CRLs. One that its root's CRL revokes does neither.
        """
        layout = Layout.read(folder / AUTHORITY_FILE)
        roots, links = read_roots(folder, layout, now=now)
        by_key_id = {root.key_id: root for root in roots}
        issuers, revoked = [], []
        for entry in layout.entries:
            certificate = read_certificate(folder / f"{entry.name}.pem")
            if now > certificate.not_valid_after_utc:
                continue  # a retired authority: nothing under it is valid, and its key may be gone
            root = by_key_id.get(authority_key_id(certificate), roots[0])  # below none of them: refused with the first
            verify_ca(
                certificate,
                kind=entry.kind,
                namespace=layout.namespace,
                root=root.certificate,
                now=now,
                root_name=root.name,
            )
            if certificate.serial_number in root.crl.revoked:
                revoked.append(_member(entry, certificate, root, revoked=True))
                continue
            signer = _signer(folder, entry.key, certificate, passphrase)
            if signer.public_key() != certificate.public_key():
                raise AuthorityBroken(f"{entry.name}: the key is not the certificate's")
            issuer = Issuer(
                name=entry.name,
                kind=entry.kind,
                certificate=certificate,
                signer=signer,
                namespace=layout.namespace,
                random=random,
            )
            issuers.append((issuer, root))
        return cls(layout=layout, roots=roots, links=links, issuers=tuple(issuers), revoked=tuple(revoked))

    # -- what is in force

    @property
    def in_force(self) -> InForce:
        """What is believed now. Take it once where several things must fit together."""
        return self._in_force

    def follow(self, standing: Standing) -> None:
        """Let what `standing` says be in force from the next look on.

        Raises AuthorityBroken, and changes nothing, where an active authority is not in this folder or is retired, or
        where none of a kind is left.
        """
        self._in_force = self._under(standing)

    def _under(self, standing: Standing) -> InForce:
        return InForce.of(standing, roots=self.roots, links=self.links, issuers=self._issuers)

    @property
    def root(self) -> Root:
        """The active root."""
        return self._in_force.root

    @property
    def birth(self) -> Issuer:
        """The Birth CA that issues."""
        return self._in_force.birth

    @property
    def fleet(self) -> Issuer:
        """The Fleet CA that issues."""
        return self._in_force.fleet

    @property
    def infra(self) -> Issuer:
        """The Infra CA that issues."""
        return self._in_force.infra

    def chain_for(self, issuer: Issuer) -> tuple[bytes, ...]:
        """Return what follows a leaf of `issuer` on the wire, DER: the issuing CA's certificate, and the links by which
        who trusts an older root only, one not retired, comes to trust its root. Not the root, which its verifier has,
        or must not learn from us."""
        return self._in_force.chains.get(issuer.sha256) or (to_der(issuer.certificate),)

    def ways_to(self, issuer: Issuer) -> tuple[bytes, ...]:
        """Return `chain_for`, with the links from newer roots as well: for who may pin any root that is believed, and
        picks out of these what leads there."""
        return self._in_force.ways.get(issuer.sha256) or (to_der(issuer.certificate),)

    def chain_pem(self, issuer: Issuer) -> bytes:
        """Return `chain_for`, in PEM."""
        chain = map(x509.load_der_x509_certificate, self.chain_for(issuer))
        return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chain)

    def anchors_pem(self) -> bytes:
        """Return the certificates of all roots that are believed, the active one first, in PEM."""
        return b"".join(root.certificate.public_bytes(Encoding.PEM) for root in self._in_force.roots)

    # -- what is in the folder

    def authorities(self) -> tuple[Member, ...]:
        """Return all authorities of the folder whose certificates are in time, roots first, revoked ones last."""
        roots = (Member(root.name, CaKind.ROOT, root.certificate, root.sha256, root.name) for root in self.roots)
        issuers = (
            Member(issuer.name, issuer.kind, issuer.certificate, issuer.sha256, root.name)
            for issuer, root in self._issuers
        )
        return (*roots, *issuers, *self._revoked)

    def root_of(self, issuer: Issuer) -> Root:
        """Return the root that an issuer of this folder is below."""
        return self._root_of[issuer.sha256]

    def root_pem(self) -> bytes:
        """Return the active root's certificate in PEM."""
        return self.root.certificate.public_bytes(Encoding.PEM)

    def bundle_pem(self, *kinds: CaKind) -> bytes:
        """Return all roots and all authorities of these kinds (all kinds where none is named) that are believed, in
        PEM, for a TLS server's list of client CAs."""
        force = self._in_force
        chosen = [issuer.certificate for issuer in force.issuers if not kinds or issuer.kind in kinds]
        return self.anchors_pem() + b"".join(certificate.public_bytes(Encoding.PEM) for certificate in chosen)

    def issuer_named(self, name: str) -> Issuer:
        """Raise AuthorityBroken for a name that is none of ours."""
        for issuer in self.issuers:
            if issuer.name == name:
                return issuer
        raise AuthorityBroken(f"no authority is called {name!r}")

    def issuer_with(self, sha256: str) -> Issuer | None:
        """Return the authority whose certificate has this SHA-256, hex; None if it is not ours, or not believed."""
        return self._in_force.by_sha256.get(sha256)

    def issuer_of(self, certificate: bytes) -> Issuer:
        """Return the authority that a leaf of ours (DER) names as its issuer; raise UntrustedCertificate. Proves
        nothing: `verify_leaf` does."""
        return self._issuer_of(_read_leaf(certificate))

    def _issuer_of(self, certificate: x509.Certificate) -> Issuer:
        issuer = self._in_force.by_key_id.get(authority_key_id(certificate))
        if issuer is None:
            raise UntrustedCertificate(f"issued by none of our authorities: {certificate.issuer.rfc4514_string()}")
        return issuer

    def verify_leaf(self, der: bytes, *, now: datetime) -> VerifiedLeaf:
        """Prove that a leaf certificate is ours and in time, and say which role it has.

        The role is decided by issuer, key purposes and policies together, and the whole certificate must be as that
        issuer's profile says. Raises UntrustedCertificate, CertificateNotYetValid, CertificateExpired. Does not prove
        possession of the key (TLS does), nor look at revocation (the store does).
        """
        certificate = _read_leaf(der)
        issuer = self._issuer_of(certificate)
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


def _read_leaf(der: bytes) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        certificate.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    except UNREADABLE as error:
        raise UntrustedCertificate(f"not a certificate of ours: {error}") from None
    return certificate


def _member(entry: Entry, certificate: x509.Certificate, root: Root, *, revoked: bool) -> Member:
    sha256 = certificate.fingerprint(hashes.SHA256()).hex()
    return Member(entry.name, entry.kind, certificate, sha256, root.name, revoked)


def _signer(folder: Path, key: str, certificate: x509.Certificate, passphrase: bytes | None) -> CaSigner:
    if passphrase is not None:
        return keys.open_signer(folder, key, passphrase=passphrase)
    public_key = certificate.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise AuthorityBroken(f"{certificate.subject.rfc4514_string()}: want an elliptic curve key")
    return NoSigner(public_key)
