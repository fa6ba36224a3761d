"""Each act on an authority as a decision: which authorities move, and what the bundle then says; or why not.

Pure: from the authorities on record, as the store has locked them, to store.authority_protocol.Decision. Who would
break is counted elsewhere (readiness.py) and passed in. What holds after every act: at most one authority of a kind is
active; what is believed stands below a root that is, but for a Birth CA, to whose root a link may lead; every believed
root can be reached from every other that was there before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from birthmark_server.authorities import IN_FORCE, AuthorityAct, AuthorityState, KnownAuthority
from birthmark_server.ca.profile import CaKind
from birthmark_server.rollover.bundle import RootLink, compose
from birthmark_server.rollover.errors import AuthorityDiffers, LinkMissing, NotThisFirst
from birthmark_server.store.authority_protocol import Decision
from birthmark_server.store.authority_states import require_legal
from birthmark_server.store.errors import UnknownAuthority

Known = Sequence[KnownAuthority]


@dataclass(frozen=True, slots=True)
class Folder:
    """What a CA folder holds, as far as acts go by it: its authorities (standing as new ones), and its links."""

    members: tuple[KnownAuthority, ...]
    links: tuple[RootLink, ...]

    def member(self, name: str) -> KnownAuthority | None:
        """The authority of that name; None if there is none, or its root has revoked it."""
        return next((one for one in self.members if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Weighed:
    """What is known of who would break, and what the operator said to it."""

    quorum: float = 0.0
    missing: int = 0
    forced: bool = False


def find(known: Known, folder: Folder, name: str) -> KnownAuthority:
    """Return the authority as it is on record, or as it is in the folder. Raise UnknownAuthority, AuthorityDiffers."""
    recorded = next((one for one in known if one.name == name), None)
    here = folder.member(name)
    if recorded and here and recorded.sha256 != here.sha256:
        raise AuthorityDiffers(f"{name} in this CA folder is another one than the {name} on record")
    found = recorded or here
    if found is None:
        raise UnknownAuthority(f"no authority is called {name!r}: birthmark ca list")
    return found


def stage(known: Known, folder: Folder, name: str, following: int) -> Decision:
    """Have it believed, from the next bundle on."""
    one = find(known, folder, name)
    after = require_legal(name, one.state, AuthorityAct.STAGE)
    _require_here(folder, name)
    if one.ca_kind is CaKind.ROOT:
        _require_link(known, folder, one)
    else:
        _require_root(known, one, IN_FORCE, "stage")
    return _decide(AuthorityAct.STAGE, known, folder, replace(one, state=after, since=_since(one, following)))


def withdraw(known: Known, folder: Folder, name: str) -> Decision:
    """Undo its staging."""
    one = find(known, folder, name)
    after = require_legal(name, one.state, AuthorityAct.WITHDRAW)
    for below in _below(known, one):
        raise NotThisFirst(f"{below.name} is {below.state}, and stands below {name}: withdraw it first")
    return _decide(AuthorityAct.WITHDRAW, known, folder, replace(one, state=after))


def activate(known: Known, folder: Folder, name: str, weighed: Weighed) -> Decision:
    """Have it issue, in place of the one that does."""
    one = find(known, folder, name)
    after = require_legal(name, one.state, AuthorityAct.ACTIVATE)
    _require_here(folder, name)
    if one.ca_kind is not CaKind.ROOT:
        _require_root(known, one, IN_FORCE - {AuthorityState.STAGED}, "activate")
    former = [
        replace(other, state=AuthorityState.SUPERSEDED)
        for other in known
        if other.ca_kind is one.ca_kind and other.state is AuthorityState.ACTIVE
    ]
    decision = _decide(AuthorityAct.ACTIVATE, known, folder, replace(one, state=after), *former)
    return replace(decision, quorum=weighed.quorum, missing=weighed.missing, forced=weighed.forced)


def retire(known: Known, folder: Folder, name: str) -> Decision:
    """Have it believed no more. That no certificate stands below it is the store's to see."""
    one = find(known, folder, name)
    after = require_legal(name, one.state, AuthorityAct.RETIRE)
    others = [other for other in known if other.ca_kind is CaKind.ROOT and other.state in IN_FORCE and other is not one]
    reached = {link.subject for link in folder.links if link.issuer in {other.sha256 for other in others}}
    for below in _below(known, one):
        if below.ca_kind is not CaKind.BIRTH:
            raise NotThisFirst(f"{below.name} is {below.state}, and stands below {name}: retire it first")
        if one.sha256 not in reached:
            raise LinkMissing(
                f"{below.name} stands below {name}, and its certificates have no end; no link from another root leads "
                f"to {name}: birthmark root cross-sign, at that root"
            )
    return _decide(AuthorityAct.RETIRE, known, folder, replace(one, state=after))


def restore(known: Known, folder: Folder, name: str, following: int) -> Decision:
    """Undo its retirement: believed again, from the next bundle on; it issues nothing until it is activated."""
    one = find(known, folder, name)
    after = require_legal(name, one.state, AuthorityAct.RESTORE)
    _require_here(folder, name)
    if one.ca_kind is CaKind.ROOT:
        _require_link(known, folder, one)
    else:
        _require_root(known, one, IN_FORCE, "restore")
    return _decide(AuthorityAct.RESTORE, known, folder, replace(one, state=after, since=_since(one, following)))


def _decide(act: AuthorityAct, known: Known, folder: Folder, one: KnownAuthority, *more: KnownAuthority) -> Decision:
    changed = (one, *more)
    if one.ca_kind is CaKind.BIRTH:  # nobody is told of those
        return Decision(act, one.name, changed)
    moved = {each.name for each in changed}
    after = [each for each in known if each.name not in moved] + list(changed)
    bundle = compose(after, folder.links)
    return Decision(act, one.name, changed, None if bundle == compose(known, folder.links) else bundle)


def _since(one: KnownAuthority, following: int) -> int:
    return 0 if one.ca_kind is CaKind.BIRTH else following


def _below(known: Known, root: KnownAuthority) -> list[KnownAuthority]:
    """The issuing CAs below a root that are believed."""
    if root.ca_kind is not CaKind.ROOT:
        return []
    return [
        one
        for one in known
        if one.ca_kind is not CaKind.ROOT and one.root_sha256 == root.sha256 and one.state in IN_FORCE
    ]


def _require_here(folder: Folder, name: str) -> None:
    if folder.member(name) is None:
        raise UnknownAuthority(f"{name} is not in this CA folder, or its root has revoked it")


def _require_link(known: Known, folder: Folder, root: KnownAuthority) -> None:
    believed = {one.sha256: one.name for one in known if one.ca_kind is CaKind.ROOT and one.state in IN_FORCE}
    if not any(link.subject == root.sha256 and link.issuer in believed for link in folder.links):
        raise LinkMissing(
            f"no link leads from {' or '.join(sorted(believed.values()))} to {root.name}: "
            "birthmark root cross-sign, at the old root; then bring the link into the CA folder"
        )


def _require_root(known: Known, one: KnownAuthority, states: frozenset[AuthorityState], act: str) -> None:
    root = next((each for each in known if each.sha256 == one.root_sha256), None)
    if root is None or root.state not in states:
        state, name = (root.state, root.name) if root else (AuthorityState.NEW, "its root")
        raise NotThisFirst(
            f"{name}, above {one.name}, is {state}: it must be {' or '.join(sorted(states))} to {act} {one.name}"
        )
