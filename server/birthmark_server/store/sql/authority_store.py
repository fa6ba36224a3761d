"""SqlAuthorities: the AuthorityStore protocol (store/authority_protocol.py) over a Database. Nothing happens here."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from birthmark_server.authorities import (
    AuthorityHappening,
    BundleRecord,
    KnownAuthority,
    Laggard,
    Leaf,
    PeerReport,
    TrustCount,
)
from birthmark_server.store.authority_protocol import AuthorityStore, Decide
from birthmark_server.store.database import Database
from birthmark_server.store.sql import authorities, trust
from birthmark_wire.trust import TrustAck


class SqlAuthorities(AuthorityStore):
    """Authorities on SQLite or PostgreSQL. Made by SqlStore."""

    def __init__(self, database: Database) -> None:
        self._read = database.read
        self._write = database.write

    def found(self, authorities_: Sequence[KnownAuthority], *, at: datetime, by: str) -> bool:
        return self._write(authorities.found, authorities_, at, by)

    def list_authorities(self) -> list[KnownAuthority]:
        return self._read(authorities.list_authorities)

    def revision(self) -> int:
        return self._read(authorities.revision)

    def happenings(self, *, limit: int = 100) -> list[AuthorityHappening]:
        return self._read(authorities.happenings, limit)

    def act(self, decide: Decide, *, at: datetime, by: str, without_leaves: str = "") -> AuthorityHappening:
        return self._write(authorities.act, decide, at, by, without_leaves)

    def latest_bundle(self) -> BundleRecord | None:
        return self._read(authorities.latest_bundle)

    def note_trust(self, device_id: str, ack: TrustAck, *, at: datetime) -> None:
        self._write(trust.note_trust, device_id, ack, at)

    def trust_of(self, device_id: str) -> int:
        return self._read(trust.trust_of, device_id)

    def claim_pushes(
        self, device_ids: Sequence[str], *, version: int, at: datetime, again: Callable[[int], timedelta]
    ) -> list[str]:
        return self._write(trust.claim_pushes, device_ids, version, at, again)

    def count_trust(self, version: int, *, seen_since: datetime) -> TrustCount:
        return self._read(trust.count_trust, version, seen_since)

    def page_laggards(self, version: int, *, seen_since: datetime, after: str = "", limit: int = 100) -> list[Laggard]:
        return self._read(trust.page_laggards, version, seen_since, after, limit)

    def note_broker(self, report: PeerReport) -> None:
        self._write(trust.note_broker, report)

    def brokers(self, *, since: datetime) -> list[PeerReport]:
        return self._read(trust.brokers, since)

    def note_replica(self, report: PeerReport) -> None:
        self._write(trust.note_replica, report)

    def replicas(self, *, since: datetime) -> list[PeerReport]:
        return self._read(trust.replicas, since)

    def count_leaves(self, issuer_sha256: str, *, at: datetime) -> int:
        return self._read(authorities.count_leaves, issuer_sha256, at)

    def page_leaves(self, issuer_sha256: str, *, at: datetime, after: str = "", limit: int = 100) -> list[Leaf]:
        return self._read(authorities.page_leaves, issuer_sha256, at, after, limit)
