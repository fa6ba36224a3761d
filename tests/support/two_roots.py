"""An installation with an old root and a new one of the same names, linked both ways, and CAs below each.

`make_two_roots(folder)` is what a root rollover starts from; `TwoRoots.old` and `.new` issue below the one and the
other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.authorities import AuthorityAct, AuthorityState, KnownAuthority
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.ceremony import authority_add, take_in
from birthmark_server.ca.cross_sign import cross_sign
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.root_add import root_add
from birthmark_server.ca.root_ceremony import root_init, root_sign
from birthmark_server.ca.standing import Standing
from birthmark_server.services import Services
from birthmark_server.store.authority_protocol import Decision
from support.pki import PASSPHRASE, Pki, make_pki
from support.server import Installation

ISSUING = (CaKind.BIRTH, CaKind.FLEET, CaKind.INFRA)
LABEL = "2030"
NEW = f"root-{LABEL}"


@dataclass(frozen=True, slots=True)
class TwoRoots:
    """old, new: the same folder, opened twice, where the old root and its CAs are active, and the new one's."""

    old: Pki
    new: Pki

    @property
    def folder(self) -> Path:
        return self.old.folder

    def standing(self, root: str, *, retired: Sequence[str] = ()) -> Standing:
        """The CAs below that root are active. retired: names of authorities."""
        return standing_of(self.old.authority, root, retired=retired)

    def chain(self, pki: Pki, leaf: x509.Certificate) -> list[x509.Certificate]:
        """What a peer shows after its leaf."""
        issuer = pki.authority.issuer_of(leaf.public_bytes(Encoding.DER))
        return [x509.load_der_x509_certificate(der) for der in pki.authority.chain_for(issuer)]


def standing_of(authority: Authority, root: str, *, retired: Sequence[str] = ()) -> Standing:
    """The CAs below that root are active, and the root is. retired: names of authorities."""
    members = authority.authorities()
    active = {member.kind: member.sha256 for member in members if member.root == root and not member.revoked}
    return Standing(active, frozenset(member.sha256 for member in members if member.name in retired))


def stand(services: Services, root: str, *, retired: Sequence[str] = ()) -> None:
    """Have a server go by standing_of(root), and the record say the same."""
    standing = standing_of(services.authority, root, retired=retired)

    def state(sha256: str) -> AuthorityState:
        if sha256 in standing.retired:
            return AuthorityState.RETIRED
        return AuthorityState.ACTIVE if sha256 in standing.active.values() else AuthorityState.SUPERSEDED

    def decide(known: Sequence[KnownAuthority], _following: int) -> Decision:
        return Decision(AuthorityAct.ACTIVATE, root, tuple(replace(one, state=state(one.sha256)) for one in known))

    services.authorities.act(decide, at=datetime.now(UTC), by="test")
    services.authority.follow(standing)


def bring_root(pki: Pki, *, label: str = LABEL, now: datetime | None = None) -> Path:
    """Make a successor of the folder's root beside it, let the two certify each other, and return the folder that goes
    to the server: certificate, CRL and both links."""
    name, folder, now = f"root-{label}", pki.folder, now or pki.now
    new, stick = folder / name, folder / f"stick-{label}"
    root_init(folder=new, namespace=pki.authority.namespace, passphrase=PASSPHRASE, now=now, label=label)
    stick.mkdir()
    for file in (f"{name}.pem", f"{name}.crl"):
        (stick / file).write_bytes((new / file).read_bytes())
    cross = (
        (folder / "root", new / f"{name}.pem", stick / "new-with-old.pem"),
        (new, folder / "root" / "root.pem", stick / "old-with-new.pem"),
    )
    for signer, other, out in cross:
        cross_sign(folder=signer, other=other, out=out, passphrase=PASSPHRASE, now=now)
    return stick


def add_below(pki: Pki, root: str, kind: CaKind, *, label: str, now: datetime | None = None) -> None:
    """One more CA in the folder, signed by that root."""
    now = now or pki.now
    made = authority_add(folder=pki.folder, kind=kind, passphrase=PASSPHRASE, now=now, label=label)
    ((_, request),) = made.requests
    stick = pki.folder / f"stick-{kind}-{label}"
    stick.mkdir()
    root_sign(
        folder=pki.folder / root,
        request=request,
        kind=kind,
        out=stick / f"{request.stem}.pem",
        passphrase=PASSPHRASE,
        now=now,
    )
    for file in (f"{root}.pem", f"{root}.crl"):
        (stick / file).write_bytes((pki.folder / root / file).read_bytes())
    take_in(folder=pki.folder, signed=stick, now=now)


def reopen(pki: Pki) -> Pki:
    """The folder, opened again."""
    return replace(pki, authority=Authority.load(pki.folder, passphrase=PASSPHRASE, now=pki.now))


def make_two_roots(folder: Path, *, now: datetime | None = None, public_url: str = "") -> TwoRoots:
    """An installation in `folder`, and for two days its root's successor and CAs of every kind below that."""
    pki = make_pki(folder, now=now, public_url=public_url)
    made = pki.now - timedelta(days=2)
    root_add(folder=folder, signed=bring_root(pki, now=made), now=made)
    for kind in ISSUING:
        add_below(pki, NEW, kind, label=LABEL, now=made)
    old, new = reopen(pki), reopen(pki)
    new.authority.follow(standing_of(new.authority, NEW))
    return TwoRoots(old, new)


def succeed_root(site: Installation) -> None:
    """Give a running installation's folder a successor of its root and CAs below that; who opens it next has them."""
    made = site.pki.now - timedelta(days=2)
    root_add(folder=site.pki.folder, signed=bring_root(site.pki, now=made), now=made)
    for kind in ISSUING:
        add_below(site.pki, NEW, kind, label=LABEL, now=made)
    site.pki = reopen(site.pki)
