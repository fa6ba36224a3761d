"""The desk's part about authorities: its port, and the adapter that does it on the record. desk.py has the rules."""

from typing import Final, Protocol

from cryptography import x509

from birthmark_server.authorities import AuthorityHappening, AuthorityState
from birthmark_server.ca.profile import CaKind
from birthmark_server.roles import VOUCHING, Role, require
from birthmark_server.rollover.readiness import Readiness
from birthmark_server.rollover.service import Listed, Progress, RolloverService
from birthmark_server.web.api import authority_views as views
from birthmark_server.web.api.lists import page_of

DEVICES_WAIT: Final = "it waits for its devices, brokers and servers: birthmark ca status {name} --watch"


class AuthorityDesk(Protocol):
    """What operators do with authorities. Each act raises UnknownAuthority, IllegalMove, and what else is in its way
    (rollover/errors.py); it is a security officer's."""

    def authorities(self, *, after: str = "", limit: int = 100) -> views.AuthorityPage:
        """By name: on record, or in the CA folder only."""

    def authority(self, name: str) -> views.AuthorityStatus:
        """How far it is, and who or what is in its way."""

    def laggards(self, name: str, *, after: str = "", limit: int = 100) -> views.LaggardPage:
        """The devices that have not acknowledged a bundle with it."""

    def leaves(self, name: str, *, after: str = "", limit: int = 100) -> views.LeafPage:
        """The certificates that stand below it."""

    def stage(self, name: str) -> views.AuthorityMoved:
        """Have it believed; it issues nothing yet."""

    def withdraw(self, name: str) -> views.AuthorityMoved:
        """Undo its staging."""

    def activate(self, name: str, activation: views.Activation) -> views.AuthorityMoved:
        """Have it issue. Raise QuorumMissing."""

    def retire(self, name: str) -> views.AuthorityMoved:
        """Have it believed no more. Raise LeavesStand, QuorumMissing."""

    def restore(self, name: str) -> views.AuthorityMoved:
        """Undo its retirement."""


class StoreAuthorityDesk:
    """AuthorityDesk on the record, in one operator's name and role (None: nobody's role is asked for)."""

    def __init__(self, rollover: RolloverService, *, by: str, role: Role | None) -> None:
        self._rollover = rollover
        self._by = by
        self._role = role

    def authorities(self, *, after: str = "", limit: int = 100) -> views.AuthorityPage:
        shown = map(authority_view, self._rollover.listed())
        return page_of(views.AuthorityPage, shown, lambda one: one.name, after, limit)

    def authority(self, name: str) -> views.AuthorityStatus:
        return status_view(self._rollover.status(name))

    def laggards(self, name: str, *, after: str = "", limit: int = 100) -> views.LaggardPage:
        found = self._rollover.laggards(name, after=after, limit=limit + 1)
        shown = tuple(map(views.LaggardView.model_validate, found[:limit]))
        return views.LaggardPage(items=shown, next=shown[-1].device_id if len(found) > limit else None)

    def leaves(self, name: str, *, after: str = "", limit: int = 100) -> views.LeafPage:
        found = self._rollover.leaves(name, after=after, limit=limit + 1)
        shown = tuple(map(views.LeafView.model_validate, found[:limit]))
        return views.LeafPage(items=shown, next=shown[-1].sha256 if len(found) > limit else None)

    def stage(self, name: str) -> views.AuthorityMoved:
        self._require("staging authorities")
        return self._moved(self._rollover.stage(name, by=self._by))

    def withdraw(self, name: str) -> views.AuthorityMoved:
        self._require("withdrawing authorities")
        return self._moved(self._rollover.withdraw(name, by=self._by))

    def activate(self, name: str, activation: views.Activation) -> views.AuthorityMoved:
        self._require("activating authorities")
        done = self._rollover.activate(name, by=self._by, quorum=activation.quorum, force=activation.force)
        return self._moved(done)

    def retire(self, name: str) -> views.AuthorityMoved:
        self._require("retiring authorities")
        return self._moved(self._rollover.retire(name, by=self._by))

    def restore(self, name: str) -> views.AuthorityMoved:
        self._require("restoring authorities")
        return self._moved(self._rollover.restore(name, by=self._by))

    def _require(self, what: str) -> None:
        require(self._role, VOUCHING, what)

    def _moved(self, done: AuthorityHappening) -> views.AuthorityMoved:
        listed = next(one for one in self._rollover.listed() if one.authority.name == done.name)
        return views.AuthorityMoved(authority=authority_view(listed), act=views.HappeningView.model_validate(done))


def authority_view(listed: Listed) -> views.AuthorityView:
    """Return one authority as operators see it."""
    one = listed.authority
    return views.AuthorityView(
        name=one.name,
        kind=one.ca_kind,
        state=one.state,
        sha256=one.sha256,
        root=listed.root,
        not_after=x509.load_der_x509_certificate(one.certificate).not_valid_after_utc,
        since=one.since,
        here=listed.here,
        changed_at=one.changed_at if one.revision else None,
        changed_by=one.changed_by,
    )


def status_view(progress: Progress) -> views.AuthorityStatus:
    """Return how far one authority is."""
    ready, one = progress.ready, progress.listed.authority
    devices = None
    if ready.devices is not None:
        devices = views.DeviceCount(
            seen=ready.devices.seen,
            acknowledged=ready.devices.acknowledged,
            laggards=tuple(map(views.LaggardView.model_validate, ready.laggards)),
        )
    return views.AuthorityStatus(
        authority=authority_view(progress.listed),
        version=progress.version,
        devices=devices,
        brokers=tuple(
            views.PeerView(name=each.report.name, heard_at=each.report.heard_at, missing=each.missing)
            for each in ready.brokers
        ),
        servers=tuple(
            views.PeerView(name=each.report.name, heard_at=each.report.heard_at, missing=each.missing)
            for each in ready.servers
        ),
        leaves=progress.leaves,
        first_leaves=tuple(map(views.LeafView.model_validate, progress.named)),
        below=progress.below,
        happenings=tuple(map(views.HappeningView.model_validate, progress.happenings)),
        ready=one.state is AuthorityState.ACTIVE or not ready.why_not(100.0),
        next=tuple(next_steps(progress, ready)),
    )


def next_steps(progress: Progress, ready: Readiness) -> list[str]:
    """Return what there is to do with an authority that stands so, and what undoes what was done."""
    one = progress.listed.authority
    name = one.name
    match one.state:
        case AuthorityState.NEW:
            return [f"have it believed: birthmark ca stage {name}"]
        case AuthorityState.STAGED:
            broken = ready.why_not(100.0)
            go_on = DEVICES_WAIT.format(name=name) if broken else f"let it issue: birthmark ca activate {name}"
            return [go_on, f"undo: birthmark ca withdraw {name}"]
        case AuthorityState.ACTIVE:
            return [f"undo: birthmark ca activate {progress.former}"] if progress.former else []
        case AuthorityState.SUPERSEDED:
            return [*_emptying(progress), f"let it issue again: birthmark ca activate {name}"]
        case AuthorityState.RETIRED:
            return [f"undo: birthmark ca restore {name}"]


def _emptying(progress: Progress) -> list[str]:
    one, name = progress.listed.authority, progress.listed.authority.name
    if one.ca_kind is CaKind.ROOT:
        below = [f"retire what stands below it: {', '.join(progress.below)}"] if progress.below else []
        return below or [f"have it believed no more: birthmark ca retire {name}"]
    if not progress.leaves:
        return [f"have it believed no more: birthmark ca retire {name}"]
    if one.ca_kind is CaKind.FLEET:
        return [f"move its devices: birthmark campaign start NAME --issued-by {name}"]
    if one.ca_kind is CaKind.INFRA:
        return ["issue its certificates anew: birthmark certificate issue, birthmark operator add; revoke the old ones"]
    return ["it stays for as long as its devices live: birth certificates have no end"]
