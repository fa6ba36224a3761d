"""What holds after every act, whatever the order in which operators try things."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birthmark_server.authorities import IN_FORCE, AuthorityAct, AuthorityState, KnownAuthority
from birthmark_server.ca.profile import CaKind
from birthmark_server.rollover import decisions
from birthmark_server.rollover.bundle import RootLink, compose
from birthmark_server.rollover.decisions import Folder, Weighed
from birthmark_server.rollover.errors import AuthorityDiffers, BundleFull, LinkMissing, NotThisFirst
from birthmark_server.store.authority_protocol import Decision
from birthmark_server.store.errors import IllegalMove, StoreRefused, UnknownAuthority

AT = datetime(2026, 3, 1, tzinfo=UTC)
ROOTS = ("root", "root-2030")


def one(name: str, kind: CaKind, root: str = "root", state: AuthorityState = AuthorityState.NEW) -> KnownAuthority:
    return KnownAuthority(name, kind, f"sha {name}", f"sha {root}", name.encode(), state, 0, 0, AT, "")


MEMBERS = tuple(one(root, CaKind.ROOT, root) for root in ROOTS) + tuple(
    one(f"{kind}-{root}", kind, root) for kind in (CaKind.BIRTH, CaKind.FLEET, CaKind.INFRA) for root in ROOTS
)
LINKS = (
    RootLink("sha root-2030", "sha root", b"new with old"),
    RootLink("sha root", "sha root-2030", b"old with new"),
)
FOLDER = Folder(MEMBERS, LINKS)
FIRST = [replace(each, state=AuthorityState.ACTIVE) for each in MEMBERS if each.root_sha256 == "sha root"]


def decide(known: list[KnownAuthority], act: AuthorityAct, name: str, folder: Folder = FOLDER) -> Decision:
    match act:
        case AuthorityAct.STAGE:
            return decisions.stage(known, folder, name, 7)
        case AuthorityAct.WITHDRAW:
            return decisions.withdraw(known, folder, name)
        case AuthorityAct.ACTIVATE:
            return decisions.activate(known, folder, name, Weighed())
        case AuthorityAct.RETIRE:
            return decisions.retire(known, folder, name)
        case _:
            return decisions.restore(known, folder, name, 7)


def after(known: list[KnownAuthority], decision: Decision) -> list[KnownAuthority]:
    moved = {each.name for each in decision.changed}
    return [each for each in known if each.name not in moved] + list(decision.changed)


ACTS = [act for act in AuthorityAct if act is not AuthorityAct.FOUND]


@given(st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from([each.name for each in MEMBERS])), max_size=40))
@settings(max_examples=300, deadline=None)
def test_whatever_is_tried_one_of_a_kind_issues_and_what_is_believed_leads_to_a_root(
    tries: list[tuple[AuthorityAct, str]],
) -> None:
    known = FIRST
    for act, name in tries:
        try:
            decision = decide(known, act, name)
        except StoreRefused:
            continue
        before, known = known, after(known, decision)
        states = {each.name: each.state for each in known}
        believed_roots = {each.sha256 for each in known if each.ca_kind is CaKind.ROOT and each.state in IN_FORCE}
        for kind in CaKind:
            assert [each.ca_kind for each in known if each.state is AuthorityState.ACTIVE].count(kind) == 1
        for each in known:
            if each.state in IN_FORCE and each.ca_kind is not CaKind.BIRTH:
                assert each.root_sha256 in believed_roots
            if each.state is AuthorityState.ACTIVE and each.ca_kind is not CaKind.BIRTH:
                root = next(root for root in known if root.sha256 == each.root_sha256)
                assert root.state in (AuthorityState.ACTIVE, AuthorityState.SUPERSEDED)
        bundle = compose(known, LINKS)
        active = next(each for each in known if each.ca_kind is CaKind.ROOT and each.state is AuthorityState.ACTIVE)
        assert bundle.roots[0] == active.certificate
        assert len(bundle.roots) == len(believed_roots)
        assert (decision.bundle is None) == (bundle == compose(before, LINKS))
        assert decision.bundle in (None, bundle)
        assert states[name] is not AuthorityState.NEW or act is AuthorityAct.WITHDRAW


def walk(*steps: tuple[AuthorityAct, str]) -> list[KnownAuthority]:
    known = FIRST
    for act, name in steps:
        known = after(known, decide(known, act, name))
    return known


S, A, R = AuthorityAct.STAGE, AuthorityAct.ACTIVATE, AuthorityAct.RETIRE
ROOT_ACTIVE = ((S, "root-2030"), (A, "root-2030"))
BELOW = tuple((act, f"{kind}-root-2030") for kind in ("fleet", "infra", "birth") for act in (S, A))


def test_a_root_is_replaced_in_this_order_and_its_birth_ca_outlives_it() -> None:
    known = walk(*ROOT_ACTIVE, *BELOW, (R, "fleet-root"), (R, "infra-root"), (R, "root"))
    states = {each.name: each.state.value for each in known}
    assert states["root"] == "retired"
    assert states["birth-root"] == "superseded"
    assert compose(known, LINKS).links == ()


@pytest.mark.parametrize(
    ("steps", "act", "name", "error", "words"),
    [
        ((), S, "nobody", UnknownAuthority, "no authority is called 'nobody'"),
        ((), S, "fleet-root", IllegalMove, "is active; to stage one, it must be new"),
        ((), A, "fleet-root", IllegalMove, "is active; to activate one, it must be staged or superseded"),
        ((), R, "fleet-root", IllegalMove, "is active; to retire one, it must be superseded"),
        ((), S, "fleet-root-2030", NotThisFirst, "its root, above fleet-root-2030, is new"),
        (((S, "root-2030"), (S, "fleet-root-2030")), A, "fleet-root-2030", NotThisFirst, "root-2030, above"),
        (
            ((S, "root-2030"), (S, "fleet-root-2030")),
            AuthorityAct.WITHDRAW, "root-2030", NotThisFirst, "withdraw it first",
        ),
        (ROOT_ACTIVE, R, "root", NotThisFirst, "retire it first"),
    ],
)  # fmt: skip
def test_what_is_not_in_its_turn_is_refused_saying_what_is(
    steps: tuple[tuple[AuthorityAct, str], ...],
    act: AuthorityAct,
    name: str,
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error, match=words):
        decide(walk(*steps), act, name)


def test_a_root_to_which_no_link_leads_is_not_staged() -> None:
    with pytest.raises(LinkMissing, match="no link leads from root to root-2030: birthmark root cross-sign"):
        decide(FIRST, S, "root-2030", Folder(MEMBERS, LINKS[1:]))


def test_a_root_above_a_birth_ca_is_not_retired_without_a_link_back() -> None:
    known = walk(*ROOT_ACTIVE, *BELOW, (R, "fleet-root"), (R, "infra-root"))
    with pytest.raises(LinkMissing, match="birth-root stands below root"):
        decide(known, R, "root", Folder(MEMBERS, LINKS[:1]))


def test_another_authority_of_the_same_name_is_no_match() -> None:
    other = replace(one("fleet-root", CaKind.FLEET), sha256="another")
    with pytest.raises(AuthorityDiffers):
        decide(FIRST, A, "fleet-root", Folder((other,), ()))


def test_what_is_not_in_the_folder_does_not_issue() -> None:
    known = walk((S, "root-2030"))
    with pytest.raises(UnknownAuthority, match="not in this CA folder"):
        decide(known, A, "root-2030", Folder(MEMBERS[:1], LINKS))


def test_a_bundle_holds_four_roots_and_no_more() -> None:
    roots = [one(f"root-{number}", CaKind.ROOT, f"root-{number}") for number in range(4)]
    links = tuple(RootLink(root.sha256, "sha root", b"link") for root in roots)
    known = [*FIRST, *(replace(root, state=AuthorityState.STAGED) for root in roots[:3])]
    with pytest.raises(BundleFull, match="retire or withdraw another one first"):
        decide(known, S, "root-3", Folder((*MEMBERS, *roots), links))


def test_an_activation_of_an_issuing_ca_tells_no_device_anything() -> None:
    known = [*FIRST, one("fleet-2", CaKind.FLEET)]
    folder = Folder((*MEMBERS, one("fleet-2", CaKind.FLEET)), LINKS)
    known = after(known, decide(known, S, "fleet-2", folder))
    assert decide(known, A, "fleet-2", folder).bundle is None


def test_nobody_is_told_of_a_birth_ca() -> None:
    folder = Folder((*MEMBERS, one("birth-2", CaKind.BIRTH)), LINKS)
    decision = decide(FIRST, S, "birth-2", folder)
    assert decision.bundle is None
    assert decision.changed[0].since == 0
