"""What the trust bundle says, from where authorities stand: a function of values.

Roots in the order in which they are to be pinned: the active one, then staged ones, then superseded ones. The issuers
in an order that does not change when another one of them issues: devices and brokers need not hear of that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from birthmark_server.authorities import IN_FORCE, AuthorityState, KnownAuthority
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.rollover.errors import BundleFull
from birthmark_wire.errors import DecodeError
from birthmark_wire.trust import BundleIssuer, IssuerKind, TrustBundle

_ORDER: Final = (AuthorityState.ACTIVE, AuthorityState.STAGED, AuthorityState.SUPERSEDED)
_KINDS: Final = {CaKind.FLEET: IssuerKind.FLEET, CaKind.INFRA: IssuerKind.INFRA}
_UNDATED: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class RootLink:
    """The root `issuer` certifies the root `subject`, both by the SHA-256 of their certificates."""

    subject: str
    issuer: str
    certificate: bytes


def links_of(authority: Authority) -> tuple[RootLink, ...]:
    """Return the links of a CA folder."""
    return tuple(RootLink(link.subject.sha256, link.issuer.sha256, link.der) for link in authority.links)


def compose(known: Sequence[KnownAuthority], links: Sequence[RootLink]) -> TrustBundle:
    """Return the bundle; version and time are not yet given. Raise BundleFull for what no bundle may hold."""
    believed = sorted((one for one in known if one.state in IN_FORCE), key=lambda one: one.name)
    roots = [one for state in _ORDER for one in believed if one.ca_kind is CaKind.ROOT and one.state is state]
    pinned = {root.sha256 for root in roots}
    bundle = TrustBundle(
        version=1,
        issued_at=_UNDATED,
        roots=tuple(root.certificate for root in roots),
        links=tuple(link.certificate for link in links if {link.subject, link.issuer} <= pinned),
        issuers=tuple(
            BundleIssuer(_KINDS[kind], one.certificate) for kind in _KINDS for one in believed if one.ca_kind is kind
        ),
    )
    try:
        return TrustBundle.decode(bundle.encode())  # the limits are those of who reads it
    except DecodeError as error:
        raise BundleFull(f"the trust bundle can't hold this: {error}; retire or withdraw another one first") from None
