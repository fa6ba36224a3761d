"""Which of a folder's authorities issue, and which are still believed: what the states in the database come to.

A folder holds authorities; a `Standing` says what they are now; `InForce` is the two together, a value that is worked
out once and never changes. Whoever reads several things of one moment takes one `InForce` and reads all of it there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Self

from cryptography import x509

from birthmark_server.ca.errors import AuthorityBroken
from birthmark_server.ca.issuer import Issuer, to_der
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.roots import Link, Root, links_to, vouched

_NONE: Final[Mapping[CaKind, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Standing:
    """What a server is told. All by the SHA-256 of certificates (DER), hex.

    active: who issues, and which root is the first; a kind that is absent is decided by the folder: the first root, and
    of each kind the newest CA below it. retired: roots and issuing CAs that are not believed any more.
    """

    active: Mapping[CaKind, str] = field(default_factory=lambda: _NONE)
    retired: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class InForce:
    """A folder's authorities under a Standing.

    root, birth, fleet, infra: the active ones. roots: those believed, the active one first. issuers: those believed:
    not retired, below a root that is believed; of a Birth CA it suffices that links lead to its root, since birth
    certificates have no end. links: those that are signed by a root of which as much is true.
    """

    root: Root
    birth: Issuer
    fleet: Issuer
    infra: Issuer
    roots: tuple[Root, ...]
    links: tuple[Link, ...]
    issuers: tuple[Issuer, ...]
    by_key_id: Mapping[bytes, Issuer]
    by_sha256: Mapping[str, Issuer]
    chains: Mapping[str, tuple[bytes, ...]]
    ways: Mapping[str, tuple[bytes, ...]]
    """By the SHA-256 of an issuer's certificate, what follows its leaves: for who pins its root or an older one; for
    who pins any root that is believed."""

    @property
    def ca_certificates(self) -> tuple[x509.Certificate, ...]:
        """All that is believed: roots, issuing CAs, links."""
        certificates = (root.certificate for root in self.roots)
        issuing = (issuer.certificate for issuer in self.issuers)
        return (*certificates, *issuing, *(link.certificate for link in self.links))

    @classmethod
    def of(
        cls,
        standing: Standing,
        *,
        roots: Sequence[Root],
        links: Sequence[Link],
        issuers: Sequence[tuple[Issuer, Root]],
    ) -> Self:
        """issuers: each with its root. Raise AuthorityBroken where an active one is not in the folder, or retired."""
        believed = [root for root in roots if root.sha256 not in standing.retired]
        reached = vouched(believed, links)
        holding = [
            (issuer, root)
            for issuer, root in issuers
            if issuer.sha256 not in standing.retired
            and (root in believed or (issuer.kind is CaKind.BIRTH and root.sha256 in reached))
        ]
        first = _root(standing, believed)
        live = tuple(link for link in links if link.issuer.sha256 in reached)
        age = {root.sha256: place for place, root in enumerate(roots)}
        from_older = [
            link
            for link in live
            if link.issuer in believed
            and (age[link.issuer.sha256] < age[link.subject.sha256] or link.subject not in believed)
        ]
        return cls(
            root=first,
            birth=_issuer(CaKind.BIRTH, standing, holding, first),
            fleet=_issuer(CaKind.FLEET, standing, holding, first),
            infra=_issuer(CaKind.INFRA, standing, holding, first),
            roots=(first, *(root for root in believed if root is not first)),
            links=live,
            issuers=tuple(issuer for issuer, _ in holding),
            by_key_id=MappingProxyType({issuer.key_id: issuer for issuer, _ in holding}),
            by_sha256=MappingProxyType({issuer.sha256: issuer for issuer, _ in holding}),
            chains=MappingProxyType(
                {issuer.sha256: _chain(issuer, links_to(root, from_older)) for issuer, root in holding}
            ),
            ways=MappingProxyType({issuer.sha256: _chain(issuer, links_to(root, live)) for issuer, root in holding}),
        )


def _chain(issuer: Issuer, links: Sequence[Link]) -> tuple[bytes, ...]:
    return (to_der(issuer.certificate), *(link.der for link in links))


def _root(standing: Standing, believed: Sequence[Root]) -> Root:
    wanted = standing.active.get(CaKind.ROOT)
    for root in believed:
        if wanted in (None, root.sha256):
            return root
    raise AuthorityBroken(f"the active root {wanted or ''} is not in the folder, or is retired")


def _issuer(kind: CaKind, standing: Standing, holding: Sequence[tuple[Issuer, Root]], first: Root) -> Issuer:
    of_kind = [(issuer, root) for issuer, root in holding if issuer.kind is kind]
    wanted = standing.active.get(kind)
    if wanted is not None:
        for issuer, _ in of_kind:
            if issuer.sha256 == wanted:
                return issuer
        raise AuthorityBroken(f"the active {kind} CA {wanted} is not in the folder, or is retired, revoked or expired")
    if not of_kind:
        raise AuthorityBroken(f"the folder has no {kind} CA that is valid today and not revoked by root.crl")
    below_first = [issuer for issuer, root in of_kind if root is first]
    candidates = below_first or [issuer for issuer, _ in of_kind]
    return max(candidates, key=lambda issuer: issuer.certificate.not_valid_before_utc)
