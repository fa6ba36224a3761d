"""Who must know an authority before it issues, and who does not yet: the quorum, by kind (ADR 0101).

    root          devices seen lately, by the bundle that they acknowledged; each server
    Fleet, Infra  each broker, by what its gate goes by; each server. Devices need nothing: their peers show the chain.
    Birth         each server: nobody else ever meets one

A device that was not seen for long counts for nothing here: it is shown the way home by the link in its peers' chains
when it wakes (docs/protocol.md 12). A server that has not said anything for a minute is not running, and opens only
what is in force when it starts. A broker is never forgotten so quickly: it may run all the same.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from birthmark_server.authorities import KnownAuthority, Laggard, PeerReport, TrustCount
from birthmark_server.ca.profile import CaKind
from birthmark_server.store.authority_protocol import AuthorityStore

SERVERS_STALE: Final = timedelta(minutes=1)
BROKERS_STALE: Final = timedelta(minutes=1)
BROKERS_FORGOTTEN: Final = timedelta(days=30)
NAMED: Final = 10
"""How many devices are named where some would break; all of them are in the pages of a status."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A broker or a server. missing: why it would break, in words; empty if it knows the authority."""

    report: PeerReport
    missing: str


@dataclass(frozen=True, slots=True)
class Readiness:
    """devices: of those seen since `window` ago; None where devices need not know it. laggards: the first of those that
    do not. brokers, servers: all that count; none where they need not know it."""

    devices: TrustCount | None
    laggards: tuple[Laggard, ...]
    brokers: tuple[Peer, ...]
    servers: tuple[Peer, ...]

    @property
    def peers_missing(self) -> tuple[str, ...]:
        """What is missing at servers and brokers."""
        return tuple(each.missing for each in (*self.servers, *self.brokers) if each.missing)

    @property
    def devices_missing(self) -> int:
        """How many devices do not know it."""
        return self.devices.seen - self.devices.acknowledged if self.devices else 0

    @property
    def percent(self) -> float:
        """How many of the devices know it; 100 where there are none."""
        if self.devices is None or self.devices.seen == 0:
            return 100.0
        return 100.0 * self.devices.acknowledged / self.devices.seen

    @property
    def missing(self) -> int:
        """How many devices, brokers and servers do not know it."""
        return self.devices_missing + len(self.peers_missing)

    def why_not(self, quorum: float) -> str:
        """Return who would break, in words; empty where brokers and servers all know it, and devices enough."""
        sentences = [*self.peers_missing]
        if self.devices is not None and self.percent < quorum:
            named = ", ".join(f"{one.device_id} (seen {one.last_seen_at:%Y-%m-%d %H:%MZ})" for one in self.laggards)
            more = self.devices_missing - len(self.laggards)
            sentences.append(
                f"{self.devices_missing} of {self.devices.seen} devices have not acknowledged it, "
                f"{self.percent:.2f} % have and {quorum:g} % are wanted: {named}"
                + (f" and {more} more" if more > 0 else "")
            )
        return "; ".join(sentences)


def readiness(store: AuthorityStore, one: KnownAuthority, *, window: timedelta, now: datetime) -> Readiness:
    """Ask the record who knows this authority."""
    servers = store.replicas(since=now - SERVERS_STALE)
    brokers = store.brokers(since=now - BROKERS_FORGOTTEN) if one.ca_kind in (CaKind.FLEET, CaKind.INFRA) else []
    devices: TrustCount | None = None
    laggards: tuple[Laggard, ...] = ()
    if one.ca_kind is CaKind.ROOT:
        devices = store.count_trust(one.since, seen_since=now - window)
        if devices.acknowledged < devices.seen:
            laggards = tuple(store.page_laggards(one.since, seen_since=now - window, limit=NAMED))
    return Readiness(
        devices=devices,
        laggards=laggards,
        brokers=tuple(Peer(each, _broker_missing(each, one, now)) for each in brokers),
        servers=tuple(Peer(each, _server_missing(each, one)) for each in servers),
    )


def _server_missing(report: PeerReport, one: KnownAuthority) -> str:
    if one.sha256 in report.issuers:
        return ""
    return f"server {report.name} has not loaded it: {report.detail or 'it reads its CA folder when it starts'}"


def _broker_missing(report: PeerReport, one: KnownAuthority, now: datetime) -> str:
    if one.sha256 not in report.issuers:
        return f"broker {report.name} does not go by it{f': {report.detail}' if report.detail else ''}"
    if now - report.heard_at > BROKERS_STALE:
        return f"broker {report.name} was last heard at {report.heard_at:%Y-%m-%d %H:%M:%SZ}"
    return ""
