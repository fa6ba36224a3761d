"""The part of the store that authorities need, by the rules of protocol.py; tests/store/contract_authorities.py is it.

Acts and bundles are journaled: a restored backup must not issue from an authority that was withdrawn since, nor give a
bundle's version to another one. What devices, brokers and servers say of themselves is not: they say it again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from birthmark_server.authorities import (
    AuthorityAct,
    AuthorityHappening,
    BundleRecord,
    KnownAuthority,
    Laggard,
    Leaf,
    PeerReport,
    TrustCount,
)
from birthmark_wire.trust import TrustAck, TrustBundle


@dataclass(frozen=True, slots=True)
class Decision:
    """What an act comes to. changed: the authorities that it moves, as they then stand; revision, time and name are put
    there by the store. bundle: as it then shall be, its version and time the store's to give; None where the act
    concerns no bundle. The rest is AuthorityHappening's."""

    act: AuthorityAct
    name: str
    changed: tuple[KnownAuthority, ...]
    bundle: TrustBundle | None = None
    quorum: float = 0.0
    missing: int = 0
    forced: bool = False


Decide = Callable[[Sequence[KnownAuthority], int], Decision]
"""From all authorities on record, and the version that the next bundle would have, to a decision. Pure; may raise."""


class AuthorityStore(Protocol):
    """Authorities, trust bundles, and who knows them. Errors: store/errors.py."""

    # -- authorities
    def found(self, authorities: Sequence[KnownAuthority], *, at: datetime, by: str) -> bool:
        """Put these on record, if none is on record at all: an installation's first start. Return whether it was."""

    def list_authorities(self) -> list[KnownAuthority]:
        """By name."""

    def revision(self) -> int:
        """The number of the last act. Cheap: servers ask it every second."""

    def happenings(self, *, limit: int = 100) -> list[AuthorityHappening]:
        """Newest first."""

    def act(self, decide: Decide, *, at: datetime, by: str, without_leaves: str = "") -> AuthorityHappening:
        """Let `decide` judge the authorities as they stand, and do what it says, all in one transaction, one act at a
        time. A bundle that says what the last one said makes no new version. Versions rise above whatever any device
        says it has, unless it can't (wire.trust.most_version). without_leaves: SHA-256 of an issuer below which no
        certificate may stand; LeavesStand if one does, and none is issued meanwhile. Whatever `decide` raises undoes
        all."""

    def latest_bundle(self) -> BundleRecord | None:
        """None while there never was one."""

    # -- who knows the bundle
    def note_trust(self, device_id: str, ack: TrustAck, *, at: datetime) -> None:
        """Keep what a device says it trusts; an older word never replaces a newer one. An unknown device is ignored. A
        birth forgets it: a device that was made anew may have only what it was flashed with."""

    def trust_of(self, device_id: str) -> int:
        """The version of the bundle that the device says it has; 0 for none, where it never said, and where ours of
        that number is stale to it: then it has another one, of a history that this database does not know."""

    def claim_pushes(
        self, device_ids: Sequence[str], *, version: int, at: datetime, again: Callable[[int], timedelta]
    ) -> list[str]:
        """Of these devices (500 at most), take those that have not acknowledged `version` and were not sent it, or were
        so long enough ago: no other server takes them before `again(how often it was sent)` is over."""

    def count_trust(self, version: int, *, seen_since: datetime) -> TrustCount:
        """Count the active devices that were seen (or enrolled) since then, and those of them that have acknowledged
        this version or a later one that was given out."""

    def page_laggards(self, version: int, *, seen_since: datetime, after: str = "", limit: int = 100) -> list[Laggard]:
        """Those of them that have not, by id; `after` is the last id of the page before."""

    # -- brokers and servers
    def note_broker(self, report: PeerReport) -> None:
        """In place of its last one."""

    def brokers(self, *, since: datetime) -> list[PeerReport]:
        """Those that were heard since then, by name."""

    def note_replica(self, report: PeerReport) -> None:
        """In place of its last one."""

    def replicas(self, *, since: datetime) -> list[PeerReport]:
        """Those that were heard since then, by name."""

    # -- what stands below an authority
    def count_leaves(self, issuer_sha256: str, *, at: datetime) -> int:
        """How many of its certificates are neither expired at `at` nor revoked, its own OCSP signers aside."""

    def page_leaves(self, issuer_sha256: str, *, at: datetime, after: str = "", limit: int = 100) -> list[Leaf]:
        """These, by SHA-256; `after` is the last one of the page before."""
