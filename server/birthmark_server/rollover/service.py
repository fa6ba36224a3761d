"""What operators do with authorities: one small service behind the command line and the API.

Whoever calls it has proven who `by` is and that they may. Everything is checked before anything is written, and once
more, as far as it follows from the record alone, in the transaction that writes (decisions.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from birthmark_server.authorities import (
    IN_FORCE,
    AuthorityHappening,
    AuthorityState,
    KnownAuthority,
    Laggard,
    Leaf,
)
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.profile import CaKind
from birthmark_server.rollover import decisions
from birthmark_server.rollover.decisions import Folder, Weighed
from birthmark_server.rollover.errors import QuorumMissing
from birthmark_server.rollover.readiness import NAMED, SERVERS_STALE, Readiness, readiness
from birthmark_server.rollover.record import first_record, folder_of
from birthmark_server.store.authority_protocol import AuthorityStore
from birthmark_server.store.errors import LeavesStand

WINDOW: Final = timedelta(days=30)
"""A device that was seen within this time must know a root before it issues."""
_BY: Final = "service:server"


@dataclass(frozen=True, slots=True)
class Listed:
    """One authority as it is listed. here: it is in this CA folder, and its root has not revoked it. root: its name."""

    authority: KnownAuthority
    here: bool
    root: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one authority is. leaves: certificates that stand below it, the first of them named; below: issuing CAs
    below a root that are believed. version: of the bundle in force. happenings: of this authority, newest first.
    former: the one that issued before it, as far as it is superseded and not retired; empty without one."""

    listed: Listed
    ready: Readiness
    leaves: int
    named: tuple[Leaf, ...]
    below: tuple[str, ...]
    former: str
    version: int
    happenings: tuple[AuthorityHappening, ...]


class RolloverService:
    """authority: opens the CA folder, or is the one that this server has loaded. window: see WINDOW."""

    def __init__(
        self,
        *,
        store: AuthorityStore,
        authority: Callable[[], Authority],
        now: Callable[[], datetime],
        window: timedelta = WINDOW,
    ) -> None:
        self._store = store
        self._authority = authority
        self._now = now
        self._window = window

    # -- looking

    def listed(self) -> list[Listed]:
        """All authorities on record or in the folder: roots first, then by kind and name."""
        folder, known = self._folder(), self._known()
        named = {one.name: one for one in (*folder.members, *known)}
        roots = {one.sha256: one.name for one in named.values() if one.ca_kind is CaKind.ROOT}
        kinds = list(CaKind)
        ordered = sorted(named.values(), key=lambda one: (kinds.index(one.ca_kind), one.name))
        return [
            Listed(one, folder.member(one.name) is not None, roots.get(one.root_sha256, one.root_sha256))
            for one in ordered
        ]

    def status(self, name: str) -> Progress:
        """Raise UnknownAuthority, AuthorityDiffers."""
        folder, known, now = self._folder(), self._known(), self._now()
        one = decisions.find(known, folder, name)
        listed = next(each for each in self.listed() if each.authority.name == name)
        latest = self._store.latest_bundle()
        leaves = self._store.count_leaves(one.sha256, at=now)
        return Progress(
            listed=listed,
            ready=readiness(self._store, one, window=self._window, now=now),
            leaves=leaves,
            named=tuple(self._store.page_leaves(one.sha256, at=now, limit=NAMED)) if leaves else (),
            below=tuple(
                each.name
                for each in known
                if one.ca_kind is CaKind.ROOT
                and each.ca_kind is not CaKind.ROOT
                and each.root_sha256 == one.sha256
                and each.state in IN_FORCE
            ),
            former=_former(known, one),
            version=latest.version if latest else 0,
            happenings=tuple(each for each in self._store.happenings(limit=1000) if each.name == name),
        )

    def leaves(self, name: str, *, after: str = "", limit: int = 100) -> list[Leaf]:
        """The certificates that stand below it, by SHA-256."""
        one = decisions.find(self._known(), self._folder(), name)
        return self._store.page_leaves(one.sha256, at=self._now(), after=after, limit=limit)

    def laggards(self, name: str, *, after: str = "", limit: int = 100) -> list[Laggard]:
        """The devices seen lately that have not acknowledged a bundle with it, by id."""
        one = decisions.find(self._known(), self._folder(), name)
        seen_since = self._now() - self._window
        return self._store.page_laggards(one.since, seen_since=seen_since, after=after, limit=limit)

    def bundle_version(self) -> int:
        """The version of the trust bundle in force, 0 while there is none."""
        latest = self._store.latest_bundle()
        return latest.version if latest else 0

    # -- acting: each raises UnknownAuthority, IllegalMove, and what its decision raises (decisions.py)

    def stage(self, name: str, *, by: str) -> AuthorityHappening:
        """Have it believed; it issues nothing yet. Undone by withdraw."""
        folder = self._begun()
        return self._store.act(
            lambda known, following: decisions.stage(known, folder, name, following), at=self._now(), by=by
        )

    def withdraw(self, name: str, *, by: str) -> AuthorityHappening:
        """Undo its staging."""
        folder = self._begun()
        return self._store.act(lambda known, _: decisions.withdraw(known, folder, name), at=self._now(), by=by)

    def activate(self, name: str, *, by: str, quorum: float = 100.0, force: bool = False) -> AuthorityHappening:
        """Have it issue. quorum: percent of the devices that must know it, where devices must. Raise QuorumMissing
        naming who would break, unless force. Undone by activating the one before."""
        folder = self._begun()
        one = decisions.find(self._store.list_authorities(), folder, name)
        decisions.activate(self._store.list_authorities(), folder, name, Weighed())  # what can't be forced comes first
        ready = readiness(self._store, one, window=self._window, now=self._now())
        broken = ready.why_not(quorum)
        if broken and not force:
            raise QuorumMissing(f"{name} can't issue yet: {broken}")
        weighed = Weighed(quorum=quorum, missing=ready.missing, forced=force)
        return self._store.act(lambda known, _: decisions.activate(known, folder, name, weighed), at=self._now(), by=by)

    def retire(self, name: str, *, by: str) -> AuthorityHappening:
        """Have it believed no more. Raise LeavesStand naming what stands below it; QuorumMissing for devices that know
        no other root. Undone by restore."""
        folder, now = self._begun(), self._now()
        known = self._store.list_authorities()
        one = decisions.find(known, folder, name)
        decisions.retire(known, folder, name)
        self._require_followed()
        if one.ca_kind is CaKind.ROOT:
            self._require_heir(known, name)
        left = self._store.count_leaves(one.sha256, at=now)
        if left:
            named = ", ".join(
                f"{leaf.profile} of {leaf.subject}" for leaf in self._store.page_leaves(one.sha256, at=now, limit=NAMED)
            )
            more = f" and {left - NAMED} more" if left > NAMED else ""
            stand = "1 certificate below it stands" if left == 1 else f"{left} certificates below it stand"
            raise LeavesStand(
                f"{name} can't be retired yet: {stand}, neither expired nor revoked: {named}{more}; "
                f"how to move them: birthmark ca status {name}"
            )
        return self._store.act(
            lambda known, _: decisions.retire(known, folder, name), at=now, by=by, without_leaves=one.sha256
        )

    def restore(self, name: str, *, by: str) -> AuthorityHappening:
        """Undo its retirement, for as long as its certificate and key are in the folder."""
        folder = self._begun()
        return self._store.act(
            lambda known, following: decisions.restore(known, folder, name, following), at=self._now(), by=by
        )

    def _require_followed(self) -> None:
        """A server that could not follow the record may still issue from what is to be retired."""
        behind = [one for one in self._store.replicas(since=self._now() - SERVERS_STALE) if one.detail]
        if behind:
            raise QuorumMissing("; ".join(f"server {one.name} has not followed: {one.detail}" for one in behind))

    def _require_heir(self, known: list[KnownAuthority], name: str) -> None:
        heir = next(one for one in known if one.ca_kind is CaKind.ROOT and one.state is AuthorityState.ACTIVE)
        broken = readiness(self._store, heir, window=self._window, now=self._now()).why_not(100.0)
        if broken:
            raise QuorumMissing(f"without {name} they would break: {heir.name}: {broken}")

    # -- record and folder

    def _folder(self) -> Folder:
        return folder_of(self._authority(), now=self._now())

    def _known(self) -> list[KnownAuthority]:
        """What is on record; what the first start would put there, while nobody has started yet."""
        return self._store.list_authorities() or first_record(self._authority(), now=self._now())

    def _begun(self) -> Folder:
        """Return the folder, the record being there."""
        if not self._store.revision():
            self._store.found(first_record(self._authority(), now=self._now()), at=self._now(), by=_BY)
        return self._folder()


def _former(known: list[KnownAuthority], one: KnownAuthority) -> str:
    superseded = [each for each in known if each.ca_kind is one.ca_kind and each.state is AuthorityState.SUPERSEDED]
    return max(superseded, key=lambda each: (each.revision, each.name)).name if superseded else ""
