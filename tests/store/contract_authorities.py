"""The contract: authorities and the acts that move them, trust bundles, and who knows them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pytest

from birthmark_server.authorities import (
    AuthorityAct,
    AuthorityState,
    KnownAuthority,
    Laggard,
    Leaf,
    PeerReport,
    TrustCount,
)
from birthmark_server.ca.profile import CaKind
from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_server.store.authority_protocol import AuthorityStore, Decide, Decision
from birthmark_server.store.authority_states import require_legal
from birthmark_server.store.errors import IllegalMove, IssuerSuperseded, LeavesStand
from birthmark_server.store.journal import read_journal
from birthmark_server.store.sql.store import SqlStore
from birthmark_wire.trust import MOST_VERSION, TrustAck, TrustBundle, most_version
from store.values import DAY, HOUR, MINUTE, NOW, bear, certificate, come_home, digest, give_nonce, issuance
from store.world import World, outcomes, race


def authority(name: str, state: AuthorityState = AuthorityState.NEW, kind: CaKind = CaKind.FLEET) -> KnownAuthority:
    return KnownAuthority(
        name=name,
        ca_kind=kind,
        sha256=digest(name),
        root_sha256=digest("root"),
        certificate=f"DER of {name}".encode(),
        state=state,
        since=0,
        revision=0,
        changed_at=NOW,
        changed_by="",
    )


FOUND = (authority("fleet-2026", AuthorityState.ACTIVE), authority("root", AuthorityState.ACTIVE, CaKind.ROOT))


def moving(name: str, act: AuthorityAct, *, contents: bytes | None = None) -> Decide:
    """Move one authority as the table says; the bundle's only root is `contents`."""

    def decide(known: Sequence[KnownAuthority], following: int) -> Decision:
        one = next((one for one in known if one.name == name), authority(name))
        after = require_legal(name, one.state, act)
        bundle = None if contents is None else TrustBundle(1, NOW, (contents,))
        return Decision(act, name, (replace(one, state=after, since=following),), bundle)

    return decide


def standings(store: SqlStore) -> dict[str, AuthorityState]:
    return {one.name: one.state for one in store.authorities.list_authorities()}


def seen(store: SqlStore, version: int) -> TrustCount:
    return store.authorities.count_trust(version, seen_since=NOW - DAY)


def laggards(store: SqlStore, version: int) -> list[str]:
    return [one.device_id for one in store.authorities.page_laggards(version, seen_since=NOW - DAY)]


def claim(store: SqlStore, *ids: str, version: int = 1, after: timedelta = timedelta(0)) -> list[str]:
    return store.authorities.claim_pushes(
        list(ids), version=version, at=NOW + after, again=lambda sends: (sends + 1) * MINUTE
    )


def stage(store: SqlStore, name: str = "fleet-2027", contents: bytes = b"r") -> int:
    """Stage; return the bundle's version."""
    done = store.authorities.act(moving(name, AuthorityAct.STAGE, contents=contents), at=NOW, by="alice")
    return done.version


class AuthorityContract:
    """`store` is a SqlStore; `world` opens it again."""

    def test_the_first_start_puts_authorities_on_record_and_no_other_does(self, store: SqlStore) -> None:
        known: AuthorityStore = store.authorities
        assert (known.list_authorities(), known.revision()) == ([], 0)
        assert known.found(FOUND, at=NOW, by="service:server")
        assert not known.found([authority("fleet-2027", AuthorityState.ACTIVE)], at=NOW, by="service:server")
        assert standings(store) == {"fleet-2026": AuthorityState.ACTIVE, "root": AuthorityState.ACTIVE}
        one = known.list_authorities()[0]
        assert one == replace(FOUND[0], revision=1, changed_by="service:server")
        assert (known.revision(), known.latest_bundle()) == (1, None)

    def test_two_first_starts_at_once_are_one(self, store: SqlStore, world: World) -> None:
        other = world.open()
        results = race(*(partial(each.authorities.found, FOUND, at=NOW, by="s") for each in (store, other)))
        assert sorted(results) == [False, True]
        assert [one.act for one in store.authorities.happenings()] == [AuthorityAct.FOUND]

    def test_an_act_moves_authorities_and_is_kept_with_who_did_it(self, store: SqlStore) -> None:
        store.authorities.found(FOUND, at=NOW, by="s")
        done = store.authorities.act(moving("fleet-2027", AuthorityAct.STAGE), at=NOW + HOUR, by="alice")
        assert (done.revision, done.act, done.name, done.by, done.version) == (
            2, AuthorityAct.STAGE, "fleet-2027", "alice", 0,
        )  # fmt: skip
        assert store.authorities.happenings(limit=1) == [done]
        one = next(one for one in store.authorities.list_authorities() if one.name == "fleet-2027")
        assert (one.state, one.revision, one.changed_at, one.changed_by) == (
            AuthorityState.STAGED, 2, NOW + HOUR, "alice",
        )  # fmt: skip

    def test_what_the_decision_refuses_changes_nothing(self, store: SqlStore) -> None:
        stage(store)
        before = (store.authorities.list_authorities(), store.authorities.happenings())
        with pytest.raises(IllegalMove, match="fleet-2027 is staged; to stage one, it must be new"):
            stage(store)
        assert (store.authorities.list_authorities(), store.authorities.happenings()) == before

    def test_acts_at_once_come_one_after_the_other(self, store: SqlStore, world: World) -> None:
        stores = [store, world.open(), world.open()]
        results = race(*(partial(stage, each) for each in stores))
        assert outcomes(results) == {"ok": 1, "IllegalMove": 2}
        names = ["a", "b", "c"]
        works = [partial(stage, each, name, name.encode()) for each, name in zip(stores, names, strict=True)]
        assert sorted(race(*works)) == [2, 3, 4]
        assert store.authorities.revision() == 4

    def test_a_bundle_that_says_nothing_new_makes_no_version(self, store: SqlStore) -> None:
        assert stage(store, "a") == 1
        first = store.authorities.latest_bundle()
        assert first is not None
        assert TrustBundle.decode(first.payload) == TrustBundle(1, NOW.replace(microsecond=0), (b"r",))
        assert stage(store, "b") == 1
        assert store.authorities.latest_bundle() == first
        assert stage(store, "c", b"other") == 2

    def test_a_version_is_above_all_that_a_device_says_it_has(self, store: SqlStore) -> None:
        bear(store, 1)
        store.authorities.note_trust("dev-000001", TrustAck(7), at=NOW)
        assert stage(store) == 8
        assert seen(store, 8) == TrustCount(1, 0)

    @pytest.mark.parametrize("claimed", [MOST_VERSION, MOST_VERSION - 1, most_version(NOW) + 1])
    def test_no_device_uses_up_the_versions_by_what_it_says(self, store: SqlStore, claimed: int) -> None:
        bear(store, 1)
        store.authorities.note_trust("dev-000001", TrustAck(claimed), at=NOW)
        for number, name in enumerate(("a", "b", "c"), 1):
            assert stage(store, name, name.encode()) == number
            latest = store.authorities.latest_bundle()
            assert latest is not None
            assert TrustBundle.decode(latest.payload).version == number

    def test_no_act_that_wants_no_leaves_while_one_stands(self, store: SqlStore) -> None:
        bear(store, 1)
        record = certificate("leaf", "dev-000001", issuer_sha256=digest("fleet-2027"), not_after=NOW + DAY)
        of = store.get_device("dev-000001")
        store.commit_issuance(issuance(of, "leaf", give_nonce(store, of.device_id), certificate=record))
        issuer = digest("fleet-2027")
        leaf = Leaf(record.sha256, CertificateProfile.LDEVID.value, "dev-000001", NOW + DAY)
        assert store.authorities.page_leaves(issuer, at=NOW) == [leaf]
        assert store.authorities.page_leaves(issuer, at=NOW, after=record.sha256) == []
        decide = moving("fleet-2027", AuthorityAct.STAGE)
        with pytest.raises(LeavesStand, match="of fleet-2027 that stand, neither expired nor revoked: 1"):
            store.authorities.act(decide, at=NOW, by="alice", without_leaves=issuer)
        assert store.authorities.list_authorities() == []
        assert store.authorities.count_leaves(issuer, at=NOW + 2 * DAY) == 0
        store.revoke_certificate(record.sha256, reason=RevocationReason.SUPERSEDED, at=NOW, by="alice")
        assert store.authorities.count_leaves(issuer, at=NOW) == 0
        store.authorities.act(decide, at=NOW, by="alice", without_leaves=issuer)

    def test_who_answers_for_revoked_certificates_keeps_no_authority_from_retiring(self, store: SqlStore) -> None:
        record = certificate("responder", profile=CertificateProfile.OCSP, issuer_sha256=digest("fleet-2027"))
        store.add_infrastructure_certificate(record, by="service:server")
        assert store.authorities.count_leaves(digest("fleet-2027"), at=NOW) == 0
        assert store.authorities.page_leaves(digest("fleet-2027"), at=NOW) == []
        decide = moving("fleet-2027", AuthorityAct.STAGE)
        store.authorities.act(decide, at=NOW, by="alice", without_leaves=digest("fleet-2027"))

    def test_leaves_of_the_infrastructure_are_named_by_their_subject(self, store: SqlStore) -> None:
        record = certificate("srv-a", profile=CertificateProfile.SERVER, issuer_sha256=digest("infra"))
        store.add_infrastructure_certificate(record, by="alice")
        assert [one.subject for one in store.authorities.page_leaves(digest("infra"), at=NOW)] == ["CN=srv-a"]

    def test_nothing_goes_on_record_from_an_authority_that_does_not_issue(self, store: SqlStore) -> None:
        """A server learns of an activation within a second: what it signs until then, nobody is given."""
        store.authorities.found(FOUND, at=NOW, by="s")
        of = bear(store, 1)
        nonce = give_nonce(store, of.device_id)
        old, new = digest("fleet-2026"), digest("fleet-2027")

        def issue(name: str, issuer: str) -> None:
            record = certificate(name, of.device_id, issuer_sha256=issuer)
            store.commit_issuance(issuance(of, name, nonce, certificate=record))

        stage(store)
        with pytest.raises(IssuerSuperseded, match="fleet-2027 is staged and issues nothing"):
            issue("early", new)

        def activate(known: Sequence[KnownAuthority], _following: int) -> Decision:
            states = {"fleet-2026": AuthorityState.SUPERSEDED, "fleet-2027": AuthorityState.ACTIVE}
            changed = tuple(replace(one, state=states[one.name]) for one in known if one.name in states)
            return Decision(AuthorityAct.ACTIVATE, "fleet-2027", changed)

        store.authorities.act(activate, at=NOW, by="alice")
        with pytest.raises(IssuerSuperseded, match="fleet-2026 is superseded and issues nothing"):
            issue("late", old)
        assert store.authorities.count_leaves(old, at=NOW) == 0
        responder = certificate("responder", profile=CertificateProfile.OCSP, issuer_sha256=old)
        store.add_infrastructure_certificate(responder, by="service:server")
        issue("in time", new)  # the nonce was not used up by what was refused

    def test_a_restored_backup_knows_every_act_and_every_bundle(
        self, store: SqlStore, world: World, other_world: World
    ) -> None:
        store.authorities.found(FOUND, at=NOW, by="s")
        stage(store)
        withdraw = moving("fleet-2027", AuthorityAct.WITHDRAW, contents=b"other")
        store.authorities.act(withdraw, at=NOW, by="bob")
        told = [entry for line in read_journal(world.folder / "journal-0") for entry in line.entries]
        other = other_world.open(create=True)
        for entries in (told, told[::-1]):  # again, and in any order
            other.replay(entries)
            assert other.authorities.list_authorities() == store.authorities.list_authorities()
            assert other.authorities.happenings() == store.authorities.happenings()
            assert other.authorities.latest_bundle() == store.authorities.latest_bundle()
        assert other.replay(told) == 0


class TrustContract:
    """`store` is a SqlStore."""

    def test_devices_are_counted_and_named_by_what_they_acknowledged(self, store: SqlStore) -> None:
        for number in range(1, 5):
            bear(store, number)
        store.revoke_device("dev-000004", reason=RevocationReason.SUPERSEDED, at=NOW, by="alice")
        assert stage(store) == 1
        assert seen(store, 1) == TrustCount(3, 0)
        store.authorities.note_trust("dev-000001", TrustAck(1), at=NOW)
        store.authorities.note_trust("dev-000002", TrustAck(0, "trust-unlinked", "no link leads there"), at=NOW)
        store.authorities.note_trust("nobody", TrustAck(1), at=NOW)
        assert seen(store, 1) == TrustCount(3, 1)
        assert seen(store, 0) == TrustCount(3, 3)
        assert store.authorities.page_laggards(1, seen_since=NOW - DAY) == [
            Laggard("dev-000002", NOW, 0, "trust-unlinked", "no link leads there"),
            Laggard("dev-000003", NOW, 0, "", ""),
        ]
        page = store.authorities.page_laggards(1, seen_since=NOW - DAY, after="dev-000002", limit=1)
        assert [one.device_id for one in page] == ["dev-000003"]
        assert store.authorities.count_trust(1, seen_since=NOW + DAY) == TrustCount(0, 0)

    def test_a_version_of_another_history_counts_for_nothing(self, store: SqlStore) -> None:
        bear(store, 1)
        stage(store)
        store.authorities.note_trust("dev-000001", TrustAck(9), at=NOW)
        assert laggards(store, 1) == ["dev-000001"]

    def test_who_has_another_bundle_with_this_version_does_not_know_ours(self, store: SqlStore) -> None:
        bear(store, 1)
        assert stage(store) == 1  # of a database that was restored: it gave out another one before
        assert claim(store, "dev-000001") == ["dev-000001"]
        store.authorities.note_trust("dev-000001", TrustAck(1, "trust-stale", "it was another one"), at=NOW)
        assert (seen(store, 1), laggards(store, 1)) == (TrustCount(1, 0), ["dev-000001"])
        assert store.authorities.trust_of("dev-000001") == 0
        assert claim(store, "dev-000001", after=MINUTE) == ["dev-000001"]  # it may be a late word on an older one
        store.authorities.note_trust("dev-000001", TrustAck(1), at=NOW + MINUTE)
        assert (seen(store, 1), laggards(store, 1)) == (TrustCount(1, 1), [])
        assert claim(store, "dev-000001", after=10 * MINUTE) == []

    def test_an_older_word_never_replaces_a_newer_one(self, store: SqlStore) -> None:
        bear(store, 1)
        store.authorities.note_trust("dev-000001", TrustAck(2), at=NOW + MINUTE)
        store.authorities.note_trust("dev-000001", TrustAck(1), at=NOW)
        assert store.authorities.trust_of("dev-000001") == 2
        assert store.authorities.trust_of("nobody") == 0

    def test_a_birth_forgets_what_the_device_trusted(self, store: SqlStore) -> None:
        of = bear(store, 1)
        stage(store)
        store.authorities.note_trust(of.device_id, TrustAck(1), at=NOW)
        assert laggards(store, 1) == []
        store.commit_birth(come_home(store, of, "again"))
        assert store.authorities.trust_of(of.device_id) == 0
        assert laggards(store, 1) == [of.device_id]

    def test_a_push_is_claimed_once_until_its_time_is_over(self, store: SqlStore) -> None:
        for number in (1, 2):
            bear(store, number)
        assert claim(store, "dev-000001", "dev-000002", "nobody") == ["dev-000001", "dev-000002"]
        assert claim(store, "dev-000001", "dev-000002") == []
        store.authorities.note_trust("dev-000001", TrustAck(1), at=NOW)
        assert claim(store, "dev-000001", "dev-000002", after=MINUTE) == ["dev-000002"]
        assert claim(store, "dev-000002", after=2 * MINUTE) == []  # the second pause is longer
        assert claim(store, "dev-000002", after=3 * MINUTE) == ["dev-000002"]
        assert claim(store, "dev-000001", "dev-000002", version=2) == ["dev-000001", "dev-000002"]
        assert claim(store) == []

    def test_servers_share_the_pushes(self, store: SqlStore, world: World) -> None:
        names = [bear(store, number).device_id for number in range(1, 31)]
        stores = (store, world.open(), world.open())
        taken = race(*(partial(claim, each, *names) for each in stores))
        assert all(isinstance(each, list) for each in taken), taken
        told = [name for each in taken for name in each]
        assert len(told) == len(set(told))
        again = claim(store, *names)  # those that two would take at once were left to the next look
        assert sorted(told + again) == names

    @pytest.mark.parametrize("kind", ["broker", "replica"])
    def test_the_last_report_of_a_peer_stands(self, store: SqlStore, kind: str) -> None:
        known = store.authorities
        note, heard = {
            "broker": (known.note_broker, known.brokers),
            "replica": (known.note_replica, known.replicas),
        }[kind]
        note(PeerReport("b", ("aa", "bb"), NOW))
        note(PeerReport("a", (), NOW, "no key"))
        note(PeerReport("b", ("cc",), NOW + MINUTE))
        note(PeerReport("b", (), NOW))
        assert heard(since=NOW) == [PeerReport("a", (), NOW, "no key"), PeerReport("b", ("cc",), NOW + MINUTE)]
        assert [one.name for one in heard(since=NOW + MINUTE)] == ["b"]
