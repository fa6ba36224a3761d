"""The contract: campaigns, their members, and that no two servers take the same step."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from birthmark_server.campaigns import (
    Campaign,
    CampaignEvent,
    CampaignState,
    Count,
    Decision,
    DeviceState,
    Facts,
    Hold,
    NotNow,
    Rate,
    Strategy,
    Window,
)
from birthmark_server.domain import DeviceState as Standing
from birthmark_server.domain import RevocationReason
from birthmark_server.fleet import DeviceFilter, Selector
from birthmark_server.jobs import Job, JobState
from birthmark_server.store.errors import AlreadyExists, UnknownCampaign
from birthmark_server.store.sql.store import SqlStore
from store.contract_jobs import issue, new_job
from store.values import DAY, HOUR, ISSUER, MINUTE, NOW, bear
from store.world import World, race

FULL = Strategy(
    canaries=2,
    stages=(10, 100),
    rate=Rate(1, 1.5, 9),
    windows=(Window(60, 120, (0, 6)),),
    hold=Hold.CHECK,
    check_url="https://x",
    late_joiners=True,
)
EVERYTHING = DeviceFilter(
    ("dev-000001",), Standing.ACTIVE, "m", "b", ("t", "u"), ("i", "j"), NOW, NOW + timedelta(days=1), True
)
EVERYBODY: Selector = ()
TELL_ALL = Decision(start=100)


def campaign(name: str = "c", strategy: Strategy = FULL, selector: Selector = EVERYBODY) -> Campaign:
    return Campaign(name, CampaignState.RUNNING, selector, strategy, "alice", NOW, opened_at=NOW)


def begun(store: SqlStore, stages: Sequence[Sequence[int]]) -> Campaign:
    new = campaign()
    store.campaigns.add_campaign(new, [[f"dev-{one:06}" for one in stage] for stage in stages])
    return new


def always(decision: Decision, _: Facts) -> Decision:
    return decision


def end(store: SqlStore, job: Job, state: JobState) -> None:
    store.jobs.change_job(job, replace(job, state=state, send_at=None, code="why", detail="said", ended_at=NOW + HOUR))


def tally(store: SqlStore) -> None:
    """The counts are those of the members, counted one by one."""
    seen = store.campaigns.counts("c")
    members = store.campaigns.members("c", limit=1000)
    for stage, count in enumerate(seen):
        here = [one.state for one in members if one.stage == stage]
        assert count == Count(**{state.value: here.count(state) for state in DeviceState})
    assert sum(one.total for one in seen) == len(members)


class CampaignContract:
    """`store` has MODEL."""

    def test_a_campaign_is_kept_as_it_is(self, store: SqlStore) -> None:
        bear(store, 1)
        full = replace(campaign(selector=(EVERYTHING, DeviceFilter(tags=("late",)))), rollout_at=NOW, reason="because")
        store.campaigns.add_campaign(full, [["dev-000001"]])
        assert store.campaigns.get_campaign("c") == full
        assert store.campaigns.page_campaigns() == [full]
        with pytest.raises(AlreadyExists):
            store.campaigns.add_campaign(full, [])
        with pytest.raises(UnknownCampaign):
            store.campaigns.get_campaign("other")
        (happening,) = store.campaigns.happenings("c")
        assert (happening.event, happening.by, happening.at) == (CampaignEvent.STARTED, "alice", NOW)

    def test_devices_are_told_in_their_turn(self, store: SqlStore) -> None:
        for number in range(5):
            bear(store, number)
        begun(store, [[3, 1], [0, 2, 4]])
        assert store.campaigns.counts("c") == (Count(queued=2), Count(queued=3))
        assert store.campaigns.step(partial(always, Decision(start=1)), at=NOW) == 1
        assert [one.device_id for one in store.campaigns.members("c") if one.job_id] == ["dev-000003"]
        job = store.jobs.open_job("dev-000003")
        assert job is not None
        assert (job.campaign_id, job.deadline, job.created_by) == ("c", NOW + DAY, "alice")
        assert store.campaigns.step(partial(always, TELL_ALL), at=NOW + MINUTE) == 1
        assert store.campaigns.counts("c") == (Count(running=2), Count(queued=3))
        assert store.campaigns.step(partial(always, Decision(open_next=True)), at=NOW + 2 * MINUTE) == 1
        store.campaigns.step(partial(always, TELL_ALL), at=NOW + 3 * MINUTE)
        assert store.campaigns.counts("c") == (Count(running=2), Count(running=3))

    def test_the_planner_sees_the_facts(self, store: SqlStore) -> None:
        for number in range(4):
            bear(store, number)
        new = begun(store, [[0, 1, 2, 3]])
        store.campaigns.step(partial(always, Decision(start=3)), at=NOW)
        end(store, store.jobs.get_job("c-0-0"), JobState.DONE)
        end(store, store.jobs.get_job("c-1-0"), JobState.EXPIRED)
        seen: list[Facts] = []

        def look(facts: Facts) -> Decision:
            seen.append(facts)
            return Decision()

        assert store.campaigns.step(look, at=NOW + MINUTE / 2) == 0
        assert store.campaigns.step(look, at=NOW + MINUTE) == 0
        counts = (Count(queued=1, running=1, done=1, failed=1),)
        assert seen == [Facts(new, counts, 3), Facts(new, counts, 0)]

    def test_whoever_can_have_no_job_when_its_turn_comes_is_skipped_with_the_reason(self, store: SqlStore) -> None:
        blocked, busy = bear(store, 1), bear(store, 2)
        begun(store, [[1, 2]])
        store.revoke_device(blocked.device_id, reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="bob")
        store.jobs.open_jobs([new_job(busy)])
        assert store.campaigns.step(partial(always, TELL_ALL), at=NOW) == 2
        assert store.campaigns.counts("c") == (Count(skipped=2),)
        assert [one.detail for one in store.campaigns.members("c")] == [
            "the device is revoked",
            "the device has another job",
        ]

    def test_an_abort_cancels_what_can_be_and_skips_the_rest_for_ever(self, store: SqlStore) -> None:
        for number in range(3):
            bear(store, number)
        begun(store, [[0, 1, 2]])
        store.campaigns.step(partial(always, Decision(start=2)), at=NOW)
        issued = store.jobs.get_job("c-1-0")
        store.jobs.change_job(issued, replace(issued, state=JobState.ISSUED))
        aborted = store.campaigns.happen("c", CampaignEvent.ABORTED, by="bob", at=NOW + HOUR, reason="enough")
        assert (aborted.state, aborted.ended_at, aborted.reason) == (CampaignState.ABORTED, NOW + HOUR, "enough")
        assert store.campaigns.counts("c") == (Count(running=1, cancelled=1, skipped=1),)
        cancelled = store.jobs.get_job("c-0-0")
        assert (cancelled.state, cancelled.code, cancelled.detail) == (JobState.CANCELLED, "campaign-aborted", "enough")
        for event in CampaignEvent:
            with pytest.raises(NotNow):
                store.campaigns.happen("c", event, by="bob", at=NOW)
        assert store.campaigns.step(partial(always, TELL_ALL), at=NOW + DAY) is None
        assert [one.event for one in store.campaigns.happenings("c")] == [CampaignEvent.STARTED, CampaignEvent.ABORTED]

    def test_a_retry_queues_the_failed_in_the_open_stage(self, store: SqlStore) -> None:
        for number in range(3):
            bear(store, number)
        begun(store, [[0], [1, 2]])
        store.campaigns.step(partial(always, TELL_ALL), at=NOW)
        end(store, store.jobs.get_job("c-0-0"), JobState.FAILED)
        (first, *_) = store.campaigns.members("c")
        assert (first.state, first.code, first.detail) == (DeviceState.FAILED, "why", "said")
        store.campaigns.step(partial(always, Decision(open_next=True)), at=NOW + MINUTE)
        store.campaigns.happen("c", CampaignEvent.RETRIED, by="bob", at=NOW)
        assert store.campaigns.counts("c") == (Count(), Count(queued=3))
        assert store.campaigns.step(partial(always, TELL_ALL), at=NOW + 2 * MINUTE) == 3
        again = store.jobs.open_job("dev-000000")
        assert again is not None
        assert again.job_id == "c-0-1"

    def test_what_is_counted_once_is_what_the_members_say_after_every_kind_of_step(self, store: SqlStore) -> None:
        for number in range(12):
            issue(store, bear(store, number), "first", NOW)
        begun(store, [range(3), range(3, 8), range(8, 11)])
        store.revoke_device("dev-000003", reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="bob")
        outcomes = [JobState.DONE, JobState.FAILED, JobState.EXPIRED, JobState.REFUSED]
        steps = [TELL_ALL, Decision(), Decision(open_next=True), TELL_ALL, Decision(), Decision(open_next=True)]
        for turn, decision in enumerate([*steps, Decision(start=2), Decision()]):
            store.campaigns.step(partial(always, decision), at=NOW + turn * MINUTE)
            tally(store)
            running = [one for one in store.campaigns.members("c") if one.state is DeviceState.RUNNING]
            for member, outcome in zip(running[1:], outcomes, strict=False):
                end(store, store.jobs.get_job(member.job_id), outcome)
                tally(store)
        store.campaigns.happen("c", CampaignEvent.RETRIED, by="bob", at=NOW)
        tally(store)
        store.campaigns.step(partial(always, Decision(start=2)), at=NOW + HOUR)
        tally(store)
        store.campaigns.happen("c", CampaignEvent.ABORTED, by="bob", at=NOW)
        tally(store)
        assert sum(one.total for one in store.campaigns.counts("c")) == 12  # one joined late

    def test_late_joiners_come_into_the_stage_that_opens(self, store: SqlStore) -> None:
        bear(store, 1)
        bear(store, 2)
        begun(store, [[1], [2]])
        issue(store, bear(store, 3), "first", NOW)
        store.campaigns.step(partial(always, Decision(open_next=True)), at=NOW)
        assert store.campaigns.counts("c") == (Count(queued=1), Count(queued=2))

    def test_who_comes_to_match_all_filters_later_joins(self, store: SqlStore) -> None:
        new = campaign(selector=(DeviceFilter(tags=("plant-7",)), DeviceFilter(never_rotated=True)))
        for number in range(1, 5):
            issue(store, bear(store, number), "first", NOW)
        store.campaigns.add_campaign(new, [["dev-000001"], []])
        for number in (2, 3):
            store.change_tags(f"dev-00000{number}", add=["plant-7"], remove=[])
        issue(store, store.get_device("dev-000003"), "second", NOW)
        store.campaigns.step(partial(always, Decision(open_next=True)), at=NOW + MINUTE)
        assert [one.device_id for one in store.campaigns.members("c")] == ["dev-000001", "dev-000002"]

    def test_no_two_servers_take_the_same_step(self, world: World, store: SqlStore) -> None:
        for number in range(12):
            bear(store, number)
        begun(store, [list(range(12))])
        other = world.open()
        for turn in range(3):
            at = NOW + turn * MINUTE
            race(
                *(
                    partial(one.campaigns.step, partial(always, Decision(start=2)), at=at)
                    for one in (store, other, store, other)
                )
            )
        jobs = [one.job_id for one in store.campaigns.members("c") if one.job_id]
        assert len(jobs) == len(set(jobs)) == 6

    def test_campaigns_take_turns(self, store: SqlStore) -> None:
        bear(store, 1)
        for name in ("a", "b"):
            store.campaigns.add_campaign(campaign(name), [["dev-000001"]])
        seen: list[str] = []

        def look(facts: Facts) -> Decision:
            seen.append(facts.campaign.campaign_id)
            return Decision()

        while store.campaigns.step(look, at=NOW) is not None:
            pass
        assert sorted(seen) == ["a", "b"]

    def test_a_check_is_leased(self, world: World, store: SqlStore) -> None:
        bear(store, 1)
        begun(store, [[1]])
        lease = timedelta(seconds=30)
        assert store.campaigns.claim_check(at=NOW, lease=lease) is None
        store.campaigns.happen("c", CampaignEvent.HELD, by="", at=NOW)
        other = world.open()
        claims = race(*(partial(one.campaigns.claim_check, at=NOW, lease=lease) for one in (store, other)))
        assert sorted(one is None for one in claims) == [False, True]
        assert store.campaigns.claim_check(at=NOW + lease / 2, lease=lease) is None
        assert store.campaigns.claim_check(at=NOW + lease, lease=lease) is not None

    def test_candidates_match_all_of_a_selector(self, store: SqlStore) -> None:
        never, once, twice = bear(store, 1), bear(store, 2), bear(store, 3)
        issue(store, once, "a", NOW)
        issue(store, twice, "a", NOW)
        issue(store, twice, "b", NOW + MINUTE)
        store.revoke_device(bear(store, 4).device_id, reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="alice")
        store.jobs.open_jobs([new_job(once)])
        everybody = store.campaigns.candidates((), at=NOW)
        assert [(one.device_id[-1], one.active, one.not_after, one.busy_with) for one in everybody] == [
            ("1", True, None, ""),
            ("2", True, NOW + 30 * DAY, "job job-dev-000002-a"),
            ("3", True, NOW + 30 * DAY, ""),
            ("4", False, None, ""),
        ]

        def matched(*filters: DeviceFilter) -> str:
            return "".join(one.device_id[-1] for one in store.campaigns.candidates(filters, at=NOW))

        assert matched(DeviceFilter(never_rotated=True)) == "124"
        assert matched(DeviceFilter(issued_by=(ISSUER,))) == "23"
        assert matched(DeviceFilter(issued_by=("another",))) == ""
        assert matched(DeviceFilter(issued_by=("another", ISSUER))) == "23"
        assert matched(DeviceFilter(expiring_before=NOW + 30 * DAY)) == ""
        assert matched(DeviceFilter(expiring_before=NOW + 31 * DAY)) == "23"
        assert matched(DeviceFilter(device_ids=(never.device_id, twice.device_id, "dev-9"))) == "13"
        assert matched(DeviceFilter(model="other")) == ""
        assert matched(DeviceFilter(state=Standing.REVOKED)) == "4"
        assert matched(DeviceFilter(last_seen_before=NOW)) == ""
        store.change_tags(once.device_id, add=["plant-7"], remove=[])
        store.change_tags(twice.device_id, add=["plant-7", "blue"], remove=[])
        assert matched(DeviceFilter(tags=("plant-7",))) == "23"
        assert matched(DeviceFilter(tags=("plant-7",)), DeviceFilter(tags=("blue",))) == "3"
        assert matched(DeviceFilter(device_ids=(twice.device_id,)), DeviceFilter(never_rotated=True)) == ""

    def test_a_certificate_that_has_expired_can_not_be_rotated_over_the_broker(self, store: SqlStore) -> None:
        issue(store, bear(store, 1), "a", NOW)
        soon = (DeviceFilter(expiring_before=NOW + 90 * DAY),)
        assert [one.not_after for one in store.campaigns.candidates(soon, at=NOW)] == [NOW + 30 * DAY]
        assert [one.not_after for one in store.campaigns.candidates(soon, at=NOW + 30 * DAY)] == [None]

    def test_campaigns_are_read_by_pages_newest_first(self, store: SqlStore) -> None:
        for number in (1, 2):
            bear(store, number)
        for number, name in enumerate("badec"):
            device = f"dev-00000{1 + number % 2}"
            store.campaigns.add_campaign(replace(campaign(name), created_at=NOW + (number // 2) * MINUTE), [[device]])
        store.campaigns.happen("a", CampaignEvent.PAUSED, by="bob", at=NOW)

        def names(**wanted: Any) -> str:
            return "".join(one.campaign_id for one in store.campaigns.page_campaigns(**wanted))

        assert names() == "cdeab"
        assert names(limit=2) == "cd"
        assert names(limit=2, after="d") == "ea"
        assert names(after="b") == names(after="gone") == ""
        assert names(state=CampaignState.PAUSED) == "a"
        assert names(device_id="dev-000002") == "ea"
        assert names(device_id="dev-000002", after="e", state=CampaignState.RUNNING) == ""

    def test_devices_are_read_by_pages_of_one_state(self, store: SqlStore) -> None:
        for number in range(8):
            bear(store, number)
        begun(store, [range(6), [6, 7]])
        store.revoke_device("dev-000000", reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="bob")
        store.campaigns.step(partial(always, TELL_ALL), at=NOW)
        for number, outcome in ((1, JobState.DONE), (2, JobState.EXPIRED), (3, JobState.REFUSED), (4, JobState.DONE)):
            end(store, store.jobs.get_job(f"c-{number}-0"), outcome)
        expected = {"skipped": "0", "done": "14", "failed": "23", "running": "5", "queued": "67", "cancelled": ""}
        for turn in range(2):
            for state in DeviceState:
                found = store.campaigns.members("c", state=state)
                assert "".join(one.device_id[-1] for one in found) == expected[state.value], (turn, state)
                assert {one.state for one in found} <= {state}
            store.campaigns.step(partial(always, Decision()), at=NOW + MINUTE)  # now they are counted
        (second,) = store.campaigns.members("c", state=DeviceState.FAILED, after="dev-000002", limit=1)
        assert second.device_id == "dev-000003"
