"""A further root comes into a CA folder that is in use: its certificate, its CRL, and the links in both directions.

All is proven before anything is written, and the settings file, by which the folder has the root, is written last. It
is verified with from the next start of a server on; it is nobody's first root until a server is told so
(standing.Standing). Nothing is overwritten, so doing it again changes nothing.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import files
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.ca_certificate import (
    authority_key_id,
    read_certificate,
    subject_key_id,
    verify_link,
    verify_root,
)
from birthmark_server.ca.ceremony import keep, keepable_crl
from birthmark_server.ca.errors import AuthorityBroken, CeremonyRefused
from birthmark_server.ca.extensions import ROOT_NAME
from birthmark_server.ca.layout import AUTHORITY_FILE, NEXT_FILE, Layout, crl_file, link_file, root_file, root_name
from birthmark_server.ca.roots import Link, Root
from birthmark_server.ca.transcript import certificate_facts, write_transcript


@dataclass(frozen=True, slots=True)
class RootAdded:
    """What `root_add` took in."""

    name: str
    sha256: str
    links: tuple[Path, ...]
    transcript: Path


def root_add(*, folder: Path, signed: Path, now: datetime) -> RootAdded:
    """Take the new root in `signed` into a CA folder.

    signed: holds `root-LABEL.pem` and `root-LABEL.crl` as `root_init` wrote them, and the links with one at least of
    the folder's roots: that root's for the new one (NewWithOld) and the new one's for that root (OldWithNew), under any
    file names. What else lies there is passed over. Raises AuthorityBroken, CeremonyRefused, and nothing was written.
    """
    authority = Authority.load(folder, passphrase=None, now=now)
    layout = Layout.read(folder / AUTHORITY_FILE)
    found = {path: read_certificate(path) for path in sorted(signed.glob("*.pem"))}
    new = _new_root(found, authority, layout, now=now)
    crl = keepable_crl(signed / crl_file(new.stem), folder / crl_file(new.stem), found[new])
    root = Root.of(new.stem, found[new], crl)
    links = _links(
        found.values(), root, [known for known in authority.roots if known.sha256 != root.sha256], layout, now
    )
    places = tuple(folder / link_file(link.subject.name, link.issuer.name) for link in links)
    keep(folder / root_file(root.name), root.certificate.public_bytes(Encoding.PEM))
    files.replace(folder / crl_file(root.name), crl.der)
    for place, link in zip(places, links, strict=True):
        keep(place, link.certificate.public_bytes(Encoding.PEM))
    for settings in (NEXT_FILE, AUTHORITY_FILE):  # the one that waits for a CA's certificate, where there is one, too
        _write_down(folder / settings, root.name)
    brought = (root.certificate, *(link.certificate for link in links))
    facts = [fact for certificate in brought for fact in certificate_facts(certificate)]
    transcript = write_transcript(
        folder,
        act="root taken in",
        facts=facts,
        written=(folder / root_file(root.name), folder / crl_file(root.name), *places, folder / AUTHORITY_FILE),
        now=now,
    )
    return RootAdded(root.name, root.sha256, places, transcript)


def _new_root(found: Mapping[Path, x509.Certificate], authority: Authority, layout: Layout, *, now: datetime) -> Path:
    """Return the file of the one root that came: not here yet, or here under the same name."""
    known = {root.key_id: root.name for root in authority.roots}
    came = [
        path
        for path, certificate in found.items()
        if authority_key_id(certificate) == subject_key_id(certificate) != b""
        and known.get(subject_key_id(certificate), path.stem) == path.stem
        and path.stem != ROOT_NAME
    ]
    if len(came) != 1:
        raise CeremonyRefused(
            f"want one new root, root-LABEL.pem as birthmark root init --label made it, got {len(came)}"
        )
    (path,) = came
    if root_name(path.stem.removeprefix(f"{ROOT_NAME}-")) != path.stem:
        raise CeremonyRefused(f"{path}: want the name that birthmark root init --label gave it, root-LABEL.pem")
    verify_root(found[path], namespace=layout.namespace, now=now)
    return path


def _links(
    certificates: Iterable[x509.Certificate], new: Root, known: list[Root], layout: Layout, now: datetime
) -> list[Link]:
    """Return the links between the new root and those that are here, all proven; both directions for one at least."""
    brought = list(certificates)
    links = [
        link
        for old in known
        for subject, issuer in ((new, old), (old, new))
        for link in _proven(brought, subject, issuer, layout, now)
    ]
    pairs = {(link.subject.name, link.issuer.name) for link in links}
    if not any({(new.name, old.name), (old.name, new.name)} <= pairs for old in known):
        wanted = " or ".join(f"{link_file(new.name, old.name)} and {link_file(old.name, new.name)}" for old in known)
        raise CeremonyRefused(f"want links in both directions, {wanted}: birthmark root cross-sign")
    return links


def _proven(
    brought: list[x509.Certificate], subject: Root, issuer: Root, layout: Layout, now: datetime
) -> Iterator[Link]:
    for certificate in brought:
        if (subject_key_id(certificate), authority_key_id(certificate)) != (subject.key_id, issuer.key_id):
            continue
        verify_link(
            certificate,
            subject=subject.certificate,
            issuer=issuer.certificate,
            namespace=layout.namespace,
            issuer_name=issuer.name,
            now=now,
        )
        if certificate.serial_number in issuer.crl.revoked:
            raise AuthorityBroken(f"the link from {issuer.name} to {subject.name} is revoked")
        yield Link(subject, issuer, certificate)


def _write_down(path: Path, name: str) -> None:
    if path.exists():
        layout = Layout.read(path)
        if name not in layout.more_roots:
            files.replace(path, replace(layout, more_roots=(*layout.more_roots, name)).to_json())
