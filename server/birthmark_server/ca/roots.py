"""The roots of an installation, and the links by which who trusts one comes to trust another.

Every root has the very same name and a key of its own. A link is a certificate that one root's key made for another
root's name and key: NewWithOld where the older one signed, OldWithNew the other way round (RFC 4210 §4.4). Both are
made offline, where the keys are. A link that its signer's CRL lists is as good as not there.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca.ca_certificate import read_certificate, verify_link, verify_root
from birthmark_server.ca.crl import RootCrl, verify_root_crl
from birthmark_server.ca.errors import AuthorityBroken
from birthmark_server.ca.layout import AUTHORITY_FILE, Layout, crl_file, link_file, root_file


@dataclass(frozen=True, slots=True)
class Root:
    """One root, proven. name: as in the folder and in its CRL's address. sha256: of the certificate (DER), hex."""

    name: str
    certificate: x509.Certificate
    sha256: str
    key_id: bytes
    crl: RootCrl

    @classmethod
    def of(cls, name: str, certificate: x509.Certificate, crl: RootCrl) -> "Root":
        """certificate, crl: proven."""
        key_id = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        return cls(name, certificate, certificate.fingerprint(hashes.SHA256()).hex(), key_id, crl)

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def anchor_sha256(self) -> bytes:
        """What a device that pins this root binds its enrollment to: `sha256`, as octets."""
        return bytes.fromhex(self.sha256)


@dataclass(frozen=True, slots=True)
class Link:
    """`issuer` says that `subject` is a root: proven, and not revoked by it."""

    subject: Root
    issuer: Root
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def read_roots(folder: Path, layout: Layout, *, now: datetime) -> tuple[tuple[Root, ...], tuple[Link, ...]]:
    """Read and prove all roots of a CA folder, in the order in which they came, and the links between them."""
    roots = tuple(_read_root(folder, name, layout, now) for name in layout.root_names)
    if len({root.key_id for root in roots}) != len(roots):
        raise AuthorityBroken(f"{folder}: two roots with the same key")
    read = (_read_link(folder, subject, issuer, layout, now) for subject in roots for issuer in roots)
    return roots, tuple(link for link in read if link is not None)


def anchors_pem(folder: Path) -> bytes:
    """Return the certificates of a CA folder's roots in PEM: what its own clients trust. Nothing is proven."""
    names = Layout.read(folder / AUTHORITY_FILE).root_names
    return b"".join(read_certificate(folder / root_file(name)).public_bytes(Encoding.PEM) for name in names)


def vouched(roots: Iterable[Root], links: Iterable[Link]) -> frozenset[str]:
    """Return the SHA-256 of these roots, and of those to which links lead from them."""
    reached, known = {root.sha256 for root in roots}, list(links)
    while True:
        more = {link.subject.sha256 for link in known if link.issuer.sha256 in reached} - reached
        if not more:
            return frozenset(reached)
        reached |= more


def links_to(root: Root, links: Sequence[Link]) -> tuple[Link, ...]:
    """Return those of `links` that lead to `root`, however many it takes, the nearest first."""
    reached = [root]
    found: list[Link] = []
    for subject in reached:
        for link in links:
            if link.subject is subject and link.issuer not in reached:
                found.append(link)
                reached.append(link.issuer)
    return tuple(found)


def _read_root(folder: Path, name: str, layout: Layout, now: datetime) -> Root:
    certificate = read_certificate(folder / root_file(name))
    verify_root(certificate, namespace=layout.namespace, now=now)
    return Root.of(name, certificate, read_root_crl(folder / crl_file(name), certificate))


def read_root_crl(path: Path, root: x509.Certificate) -> RootCrl:
    """Read and prove a root's CRL; raise AuthorityBroken naming the file."""
    try:
        return verify_root_crl(path.read_bytes(), root=root)
    except OSError as error:
        raise AuthorityBroken(f"{path}: {error.strerror}") from None
    except AuthorityBroken as broken:
        raise AuthorityBroken(f"{path}: {broken}") from None


def _read_link(folder: Path, subject: Root, issuer: Root, layout: Layout, now: datetime) -> Link | None:
    path = folder / link_file(subject.name, issuer.name)
    if subject is issuer or not path.exists():
        return None
    certificate = read_certificate(path)
    try:
        verify_link(
            certificate,
            subject=subject.certificate,
            issuer=issuer.certificate,
            namespace=layout.namespace,
            issuer_name=issuer.name,
            now=now,
        )
    except AuthorityBroken as broken:
        raise AuthorityBroken(f"{path}: {broken}") from None
    return None if certificate.serial_number in issuer.crl.revoked else Link(subject, issuer, certificate)
