"""What the database says of authorities, and a server's CA folder: held together, every second.

The first server of an installation finds nothing on record, and puts there what its folder comes to: of each kind the
newest below the first root issues, and the older ones are believed, as they ever were. From then on the record decides,
on all servers alike; what is new in a folder is nothing until it is staged. A server says in the record what it loaded.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.authorities import IN_FORCE, AuthorityState, KnownAuthority, PeerReport
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.errors import AuthorityBroken
from birthmark_server.ca.standing import Standing
from birthmark_server.rollover.bundle import links_of
from birthmark_server.rollover.decisions import Folder
from birthmark_server.store.authority_protocol import AuthorityStore

POLL: Final = timedelta(seconds=1)
REPORT_EVERY: Final = timedelta(seconds=10)
_BY: Final = "service:server"
_log: Final = logging.getLogger(__name__)


def folder_of(authority: Authority, *, now: datetime) -> Folder:
    """Return what a CA folder holds, but for what its roots have revoked; all of it standing as new."""
    members = [member for member in authority.authorities() if not member.revoked]
    roots = {member.name: member.sha256 for member in members}
    return Folder(
        members=tuple(
            KnownAuthority(
                name=member.name,
                ca_kind=member.kind,
                sha256=member.sha256,
                root_sha256=roots[member.root],
                certificate=member.certificate.public_bytes(Encoding.DER),
                state=AuthorityState.NEW,
                since=0,
                revision=0,
                changed_at=now,
                changed_by="",
            )
            for member in members
        ),
        links=links_of(authority),
    )


def first_record(authority: Authority, *, now: datetime) -> list[KnownAuthority]:
    """Return where the authorities of a folder stand at an installation's first start: a root beside the first, and
    what is below it, is new, since no device was ever told of it."""
    force = authority.in_force
    active = {force.root.sha256, *(issuer.sha256 for issuer in (force.birth, force.fleet, force.infra))}

    def stands(one: KnownAuthority) -> AuthorityState:
        if one.sha256 in active:
            return AuthorityState.ACTIVE
        return AuthorityState.SUPERSEDED if one.root_sha256 == force.root.sha256 else AuthorityState.NEW

    return [replace(one, state=stands(one)) for one in folder_of(authority, now=now).members]


def standing_of(known: Sequence[KnownAuthority], authority: Authority) -> Standing:
    """Return what a server has to go by: who issues, and what of its folder is not believed."""
    if not known:
        return Standing()
    believed = {one.sha256 for one in known if one.state in IN_FORCE}
    return Standing(
        active={one.ca_kind: one.sha256 for one in known if one.state is AuthorityState.ACTIVE},
        retired=frozenset(member.sha256 for member in authority.authorities() if member.sha256 not in believed),
    )


def follow(authority: Authority, store: AuthorityStore, *, now: datetime) -> list[KnownAuthority]:
    """Have a CA folder go by the record, once; begin the record if there is none. Return what is on record. Raise
    AuthorityBroken where what issues is not in the folder."""
    known = store.list_authorities()
    if not known:
        store.found(first_record(authority, now=now), at=now, by=_BY)
        known = store.list_authorities()
    try:
        authority.follow(standing_of(known, authority))
    except AuthorityBroken as broken:
        raise AuthorityBroken(f"{broken}: bring it there, or have another one issue (birthmark ca list)") from None
    return known


class RecordKeeper:
    """Has one server follow the record. name: the server's own; `refresh` is to be called every POLL.

    changed: called after each act that was followed.
    """

    def __init__(
        self,
        *,
        store: AuthorityStore,
        authority: Authority,
        name: str,
        now: Callable[[], datetime],
        changed: Callable[[], None],
    ) -> None:
        self._store = store
        self._authority = authority
        self._name = name
        self._now = now
        self._changed = changed
        self._revision = -1
        self._report_at: datetime | None = None
        self._behind = ""
        self._lock = threading.Lock()

    def open(self) -> None:
        """Follow for the first time. Raise AuthorityBroken: this server must not serve."""
        self._follow()

    def refresh(self) -> None:
        """Follow what was done since, and report."""
        with self._lock:
            try:
                self._follow()
                self._behind = ""
            except AuthorityBroken as broken:
                if str(broken) != self._behind:
                    _log.error("authorities not followed", extra={"fields": {"reason": str(broken)}})
                    self._report_at = None
                self._behind = str(broken)
            self._report()

    def _follow(self) -> None:
        revision = self._store.revision()
        if revision == self._revision:
            return
        follow(self._authority, self._store, now=self._now())
        self._changed()
        if self._revision != -1:
            _log.info("authorities followed", extra={"fields": {"act": revision}})
        self._revision = revision or self._store.revision()
        self._report_at = None

    def _report(self) -> None:
        now = self._now()
        if self._report_at is not None and timedelta(0) <= now - self._report_at < REPORT_EVERY:
            return
        loaded = tuple(sorted(member.sha256 for member in self._authority.authorities() if not member.revoked))
        self._store.note_replica(PeerReport(self._name, loaded, now, self._behind))
        self._report_at = now
