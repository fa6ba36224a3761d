"""The contract: selecting devices, tags, groups, agents, kept answers, pages of refusals."""

from datetime import timedelta

import pytest

from birthmark_server.domain import DeviceState, Refusal, RevocationReason
from birthmark_server.fleet import MOST_TAGS, DaysLeft, DeviceFilter, Group, KeptAnswer, NextAction
from birthmark_server.store.errors import AlreadyExists, TooManyTags, UnknownDevice, UnknownGroup
from birthmark_server.store.protocol import Store
from birthmark_server.web.api.health import outlook
from store.values import DAY, HOUR, ISSUER, MINUTE, NOW, bear, certificate, denial, device, give_nonce, issuance

OTHER_ISSUER = "16" * 32


def ids(store: Store, *filters: DeviceFilter) -> list[str]:
    return [found.device_id for found in store.select_devices(filters)]


def rotate(store: Store, number: int, name: str, *, ends: timedelta, issuer: str = ISSUER) -> str:
    """Give a device an operational certificate; return its SHA-256."""
    of = store.get_device(device(number).device_id)
    record = certificate(f"op {number} {name}", of.device_id, issuer_sha256=issuer, not_after=NOW + ends)
    store.commit_issuance(issuance(of, name, give_nonce(store, of.device_id, name), certificate=record))
    return record.sha256


class FleetContract:
    def test_devices_are_selected_by_what_they_are_and_all_filters_must_hold(self, store: Store) -> None:
        for number in range(1, 5):
            bear(store, number)
        store.revoke_device("dev-000002", reason=RevocationReason.SUPERSEDED, at=NOW, by="alice")
        store.change_tags("dev-000003", add=["blue", "plant-7"], remove=[])
        store.change_tags("dev-000004", add=["blue"], remove=[])
        assert ids(store) == [f"dev-00000{number}" for number in range(1, 5)]
        assert ids(store, DeviceFilter(state=DeviceState.REVOKED)) == ["dev-000002"]
        assert ids(store, DeviceFilter(tags=("blue",))) == ["dev-000003", "dev-000004"]
        assert ids(store, DeviceFilter(tags=("blue", "plant-7"))) == ["dev-000003"]
        assert ids(store, DeviceFilter(tags=("blue",)), DeviceFilter(tags=("plant-7",))) == ["dev-000003"]
        assert ids(store, DeviceFilter(model="no such")) == []
        assert [d.device_id for d in store.select_devices((), after="dev-000002", limit=1)] == ["dev-000003"]

    def test_active_devices_are_counted_by_the_days_that_they_have_left(self, store: Store) -> None:
        for number in range(1, 7):
            bear(store, number)
        rotate(store, 1, "a", ends=HOUR)
        rotate(store, 2, "a", ends=HOUR)
        rotate(store, 2, "b", ends=5 * DAY)  # the later one counts
        rotate(store, 3, "a", ends=40 * DAY)
        rotate(store, 4, "a", ends=5 * DAY)
        store.revoke_device("dev-000004", reason=RevocationReason.SUPERSEDED, at=NOW, by="alice")
        revoked = rotate(store, 5, "a", ends=5 * DAY)
        store.revoke_certificate(revoked, reason=RevocationReason.SUPERSEDED, at=NOW, by="alice")
        assert store.count_days_left([0, 1, 7], at=NOW) == DaysLeft((0, 1, 1, 1), without=2)
        assert store.count_days_left([0, 1, 7], at=NOW + 2 * HOUR) == DaysLeft((1, 0, 1, 1), without=2)
        assert store.count_days_left([], at=NOW) == DaysLeft((3,), without=2)

    def test_devices_are_selected_by_the_certificate_that_they_live_by(self, store: Store) -> None:
        for number in range(1, 4):
            bear(store, number)
        rotate(store, 1, "a", ends=5 * DAY)
        rotate(store, 2, "a", ends=5 * DAY)
        newest = rotate(store, 2, "b", ends=25 * DAY, issuer=OTHER_ISSUER)
        soon = DeviceFilter(expiring_before=NOW + 6 * DAY)
        assert ids(store, soon) == ["dev-000001"]
        assert ids(store, DeviceFilter(issued_by=(OTHER_ISSUER,))) == ["dev-000002"]
        assert ids(store, DeviceFilter(issued_by=(ISSUER, OTHER_ISSUER))) == ["dev-000001", "dev-000002"]
        assert ids(store, DeviceFilter(issued_by=(ISSUER,))) == ["dev-000001"]
        assert ids(store, DeviceFilter(never_rotated=True)) == ["dev-000001", "dev-000003"]
        store.revoke_certificate(newest, reason=RevocationReason.SUPERSEDED, at=NOW, by="alice")
        assert ids(store, soon) == ["dev-000001", "dev-000002"]
        facts = store.device_facts(["dev-000002", "dev-000003", "nobody"])
        in_use = facts["dev-000002"].certificate
        assert in_use is not None
        assert (in_use.not_after, in_use.issuer_sha256) == (NOW + 5 * DAY, ISSUER)
        assert facts["dev-000003"].certificate is None
        assert facts["nobody"].tags == ()

    def test_devices_are_selected_by_what_comes_next_as_their_health_says_it(self, store: Store) -> None:
        for number in range(1, 9):
            bear(store, number)
        for number in (2, 3, 4, 5, 6, 7):
            rotate(store, number, "a", ends=(number * 10 - 10) * DAY)
        rotate(store, 3, "b", ends=25 * DAY)
        store.quarantine_device("dev-000005", at=NOW, by="alice")
        store.revoke_device("dev-000006", reason=RevocationReason.SUPERSEDED, at=NOW, by="alice")
        store.retire_device("dev-000007", reason=RevocationReason.CESSATION_OF_OPERATION, at=NOW, by="alice")
        store.deny(denial(device_id="dev-000008"))
        seen: set[NextAction] = set()
        for at in (
            NOW,
            NOW + 7.5 * DAY,
            NOW + 7.6 * DAY,
            NOW + 10 * DAY,
            NOW + 11 * DAY,
            NOW + 20 * DAY,
            NOW + 26 * DAY,
        ):
            facts = store.device_facts(ids(store))
            expected: dict[NextAction, list[str]] = {action: [] for action in NextAction}
            for found in store.select_devices(()):
                action = outlook(found, facts[found.device_id].certificate, now=at).action
                expected[action].append(found.device_id)
            for action in NextAction:
                assert ids(store, DeviceFilter(next_action=action, at=at)) == expected[action], (at, action)
            seen |= {action for action, devices in expected.items() if devices}
        assert seen == set(NextAction)

    def test_devices_are_selected_by_their_last_sign_of_life(self, store: Store) -> None:
        for number in (1, 2):
            bear(store, number)
        store.touch_device("dev-000002", at=NOW + DAY)
        assert ids(store, DeviceFilter(last_seen_before=NOW + HOUR)) == ["dev-000001"]
        assert ids(store, DeviceFilter(last_seen_before=NOW + 2 * DAY)) == ["dev-000001", "dev-000002"]

    def test_tags_come_and_go_and_are_bounded(self, store: Store) -> None:
        bear(store, 1)
        assert store.change_tags("dev-000001", add=["b", "a"], remove=[]) == ("a", "b")
        assert store.change_tags("dev-000001", add=["a", "c"], remove=["a", "b", "none"]) == ("a", "c")
        assert store.device_facts(["dev-000001"])["dev-000001"].tags == ("a", "c")
        with pytest.raises(TooManyTags):
            store.change_tags("dev-000001", add=[f"t{number}" for number in range(MOST_TAGS)], remove=[])
        assert store.device_facts(["dev-000001"])["dev-000001"].tags == ("a", "c")
        with pytest.raises(UnknownDevice):
            store.change_tags("nobody", add=["a"], remove=[])

    def test_the_last_word_of_an_agent_is_kept(self, store: Store) -> None:
        bear(store, 1)
        store.note_agent("dev-000001", agent="birthmark-agent/2", at=NOW + MINUTE)
        store.note_agent("dev-000001", agent="birthmark-agent/1", at=NOW)
        store.note_agent("nobody", agent="birthmark-agent/1", at=NOW)
        facts = store.device_facts(["dev-000001"])["dev-000001"]
        assert (facts.agent, facts.agent_heard_at) == ("birthmark-agent/2", NOW + MINUTE)

    def test_groups_are_saved_once_under_a_name(self, store: Store) -> None:
        blue, red = Group("blue", '{"tag":["blue"]}', "alice", NOW), Group("red", "{}", "bob", NOW)
        store.save_group(red)
        store.save_group(blue)
        store.save_group(Group("blue", blue.query, "bob", NOW + DAY))
        assert store.list_groups() == [blue, red]
        with pytest.raises(AlreadyExists):
            store.save_group(Group("blue", "{}", "alice", NOW))
        store.remove_group("blue")
        for gone in (store.get_group, store.remove_group):
            with pytest.raises(UnknownGroup):
                gone("blue")

    def test_refusals_are_read_by_pages_while_new_ones_come(self, store: Store) -> None:
        def refuse(detail: str) -> None:
            store.record_refusal(Refusal(NOW, "r", "est", "192.0.2.1", "ek-untrusted", detail, "dev-000001"))

        for detail in "abc":
            refuse(detail)
        first = store.page_refusals(limit=2)
        refuse("d")
        rest = store.page_refusals(before=first[-1][0], limit=2)
        assert [refusal.detail for _, refusal in first + rest] == ["c", "b", "a"]
        assert store.page_refusals(code="other") == []
        assert len(store.page_refusals(code="ek-untrusted", device_id="dev-000001", since=NOW)) == 4

    def test_a_key_is_taken_once_and_its_answer_kept_until_it_expires(self, store: Store) -> None:
        def take(caller: str = "alice", *, digest: str = "d", after: timedelta = timedelta(0)) -> KeptAnswer | None:
            at = NOW + after
            return store.take_key(
                caller, "k", request_sha256=digest, at=at, lease_until=at + MINUTE, expires_at=NOW + DAY
            )

        assert take() is None
        assert take() == KeptAnswer("d", 0, "", b"")
        assert take("bob") is None  # another caller's keys are others
        assert take(after=MINUTE, digest="another") == KeptAnswer("d", 0, "", b"")
        assert take(after=MINUTE) is None  # whoever took it is gone
        store.keep_answer("alice", "k", status=201, media_type="application/json", body=b"{}")
        store.drop_key("alice", "k")  # an answer stays
        assert take(after=HOUR, digest="another") == KeptAnswer("d", 201, "application/json", b"{}")
        assert take(after=DAY) is None
        store.drop_key("alice", "k")
        assert take(after=MINUTE) is None
        assert store.purge_expired(at=NOW + 2 * DAY) == 2
