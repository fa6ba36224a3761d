"""Certificate authorities as an installation stands by them: which one issues, which ones are believed (RFC 4210 §4.4).

What an authority is follows from the CA folder (ca/); where it stands is in the database, so that all servers agree.
Where one may go from where says store/authority_states.py. Values only.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from birthmark_server.ca.profile import CaKind

ROLLED: Final = (CaKind.ROOT, CaKind.FLEET, CaKind.INFRA)
"""The kinds that a trust bundle carries: a new one of these must be known before it is used. Nobody but the server
itself ever meets a Birth CA."""


class AuthorityState(StrEnum):
    """Where an authority stands."""

    NEW = "new"
    """In the CA folder, or withdrawn from a staging: no part of anything."""
    STAGED = "staged"
    """Believed by whoever has taken the bundle; issues nothing yet."""
    ACTIVE = "active"
    """The one of its kind that issues."""
    SUPERSEDED = "superseded"
    """Issues nothing more; what it issued stands."""
    RETIRED = "retired"
    """Believed by nobody."""


IN_FORCE: Final = frozenset({AuthorityState.STAGED, AuthorityState.ACTIVE, AuthorityState.SUPERSEDED})
"""Those that are believed."""


class AuthorityAct(StrEnum):
    """What an operator does to an authority; each is a verb of `birthmark ca`. FOUND: the first start did it."""

    FOUND = "found"
    STAGE = "stage"
    WITHDRAW = "withdraw"
    ACTIVATE = "activate"
    RETIRE = "retire"
    RESTORE = "restore"


@dataclass(frozen=True, slots=True)
class KnownAuthority:
    """One authority on record.

    sha256: of its certificate (DER), as root_sha256 is of its root's: a root's own. since: the trust bundle's version
    from which on it is in there; 0 for one that was there before there were bundles, so that everybody knows it.
    revision: the number of the last act that moved it.
    """

    name: str
    ca_kind: CaKind
    sha256: str
    root_sha256: str
    certificate: bytes
    state: AuthorityState
    since: int
    revision: int
    changed_at: datetime
    changed_by: str


@dataclass(frozen=True, slots=True)
class AuthorityHappening:
    """One act. revision: its number, rising. version: of the trust bundle in force after it; 0 while there is none.

    quorum: percent of the devices that were wanted; missing: how many devices, brokers and servers had not said that
    they know it when it was activated; forced: that nobody minded. Zero and no where it was no activation.
    """

    revision: int
    act: AuthorityAct
    name: str
    at: datetime
    by: str
    version: int
    quorum: float = 0.0
    missing: int = 0
    forced: bool = False


@dataclass(frozen=True, slots=True)
class BundleRecord:
    """One version of the trust bundle. payload: birthmark_wire.trust.TrustBundle; whoever sends it signs it."""

    version: int
    payload: bytes
    made_at: datetime


@dataclass(frozen=True, slots=True)
class TrustCount:
    """Of the active devices that were seen since some moment: how many, and how many know a bundle."""

    seen: int
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Laggard:
    """A device that has not acknowledged a bundle. version: what it has; 0 for none. code, detail: why it would not
    take the last one that it answered; empty if it never said no."""

    device_id: str
    last_seen_at: datetime
    version: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class PeerReport:
    """What a broker goes by, or a server has loaded with its key: SHA-256 of issuing CA certificates, in order.

    name: the broker's address, the server's name. detail: why it could not do better; empty if all is well.
    """

    name: str
    issuers: tuple[str, ...]
    heard_at: datetime
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate that stands below an authority. subject: its device's id, or the distinguished name."""

    sha256: str
    profile: str
    subject: str
    not_after: datetime
