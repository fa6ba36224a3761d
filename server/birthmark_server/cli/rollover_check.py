"""What `birthmark doctor` says of CAs that are being replaced."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from birthmark_server.authorities import IN_FORCE, ROLLED, AuthorityState, KnownAuthority, PeerReport
from birthmark_server.cli.output import moment
from birthmark_server.rollover.readiness import SERVERS_STALE
from birthmark_server.settings import Settings
from birthmark_server.store.authority_protocol import AuthorityStore

_LOAD: Final = "bring it into that server's CA folder (birthmark init --add ... --signed), and restart it"


@dataclass(frozen=True, slots=True)
class Waiting:
    """One sentence. wrong: something will break; otherwise something waits for a person."""

    wrong: bool
    seen: str
    advice: str


def look(store: AuthorityStore, settings: Settings, *, now: datetime) -> Iterator[Waiting]:
    """Yield what waits or is wrong; nothing while no CA is being replaced."""
    known = store.list_authorities()
    for one in known:
        if one.state is AuthorityState.STAGED:
            seen = f"{one.name} is staged since {moment(one.changed_at)}, and issues nothing yet"
            yield Waiting(False, seen, f"birthmark ca status {one.name}")
            if one.ca_kind in ROLLED and not settings.broker.command_certificate:
                yield Waiting(
                    True,
                    "nobody signs trust bundles on this server: no device is told of a new CA",
                    "set [broker] command_certificate and command_key (docs/campaigns.md)",
                )
    for report in store.replicas(since=now - SERVERS_STALE):
        yield from _server(report, known)


def _server(report: PeerReport, known: list[KnownAuthority]) -> Iterator[Waiting]:
    if report.detail:
        yield Waiting(True, f"server {report.name} does not follow the record: {report.detail}", _LOAD)
    for one in known:
        if one.state in IN_FORCE and one.sha256 not in report.issuers:
            yield Waiting(True, f"server {report.name} has not loaded {one.name}, which is {one.state}", _LOAD)
