"""The planner: what it refuses, whom it picks, and what holds for every campaign whatever happens to it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from birthmark_server.campaigns import (
    CAMPAIGN_TRANSITIONS,
    OPEN,
    BadCampaign,
    Campaign,
    CampaignEvent,
    CampaignState,
    Candidate,
    Count,
    DeviceState,
    Facts,
    Hold,
    NotNow,
    Rate,
    Strategy,
    Window,
)
from birthmark_server.fleet import DeviceFilter
from birthmark_server.rotation import plan, windows

NOON = datetime(2030, 1, 7, 12, tzinfo=UTC)  # a Monday
OUTCOMES = (DeviceState.DONE, DeviceState.FAILED)


def campaign(strategy: Strategy, **more: Any) -> Campaign:
    new = Campaign("c", CampaignState.RUNNING, (), strategy, "alice", NOON, opened_at=NOON)
    return replace(new, **more)


def facts(strategy: Strategy, *counts: Count, started: int = 0, **more: Any) -> Facts:
    return Facts(campaign(strategy, **more), counts, started)


# -- what is refused


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (Strategy(canaries=-1), "canaries"),
        (Strategy(most_at_once=0), "most_at_once"),
        (Strategy(success_percent=101), "success_percent: want 0 to 100, got 101"),
        (Strategy(abort_percent=0), "abort_percent"),
        (Strategy(abort_sample=0), "abort_sample"),
        (Strategy(deadline_s=59), "deadline_s"),
        (Strategy(stages=()), "stages"),
        (Strategy(stages=(10, 50)), "rise to 100"),
        (Strategy(stages=(50, 10, 100)), "rise to 100"),
        (Strategy(stages=(10, 10, 100)), "rise to 100"),
        (Strategy(stages=(0, 100)), "rise to 100"),
        (Strategy(stages=(50, 101)), "rise to 100"),
        (Strategy(rate=Rate(0, 2, 10)), "rate"),
        (Strategy(rate=Rate(20, 2, 10)), "rate"),
        (Strategy(rate=Rate(1, 0.5, 10)), "rate"),
        (Strategy(rate=Rate(1, float("nan"), 10)), "rate"),
        (Strategy(windows=(Window(60, 60),)), "window"),
        (Strategy(windows=(Window(0, 1440),)), "window"),
        (Strategy(windows=(Window(0, 1, ()),)), "window"),
        (Strategy(windows=(Window(0, 1, (7,)),)), "window"),
        (Strategy(hold=Hold.CHECK), "URL"),
        (Strategy(check_url="http://x"), "URL"),
        (Strategy(hold=Hold.CHECK, check_url="ftp://x"), "http"),
    ],
)
def test_a_strategy_out_of_range_is_refused_by_name(bad: Strategy, said: str) -> None:
    with pytest.raises(BadCampaign, match=said):
        plan.check_strategy(bad)


def test_a_selection_of_nobody_or_of_strangers_is_refused() -> None:
    with pytest.raises(BadCampaign, match="empty"):
        plan.check_selector((), [])
    with pytest.raises(BadCampaign, match=r"not on record.*dev-9"):
        plan.check_selector((DeviceFilter(device_ids=("dev-1", "dev-9")),), [Candidate("dev-1", True, NOON, NOON)])


# -- who


def test_a_dry_run_says_who_and_why_not() -> None:
    candidates = [
        Candidate("dev-1", True, NOON, NOON),
        Candidate("dev-2", True, NOON - timedelta(days=3), NOON),
        Candidate("dev-3", False, NOON, NOON),
        Candidate("dev-4", True, NOON, None),
        Candidate("dev-5", True, NOON, NOON, busy_with="campaign summer"),
    ]
    told = plan.dry_run(candidates, Strategy(canaries=1), now=NOON, random=Random(1))
    assert sorted(one for stage in told.stages for one in stage) == ["dev-1", "dev-2"]
    assert told.offline == ("dev-2",)
    assert told.left_out == {
        "dev-3": plan.BLOCKED,
        "dev-4": plan.UNSUPPORTED,
        "dev-5": "busy: campaign summer",
    }


@given(
    number=st.integers(0, 300),
    canaries=st.integers(0, 20),
    stages=st.sets(st.integers(1, 99), max_size=5),
    seed=st.integers(),
)
def test_every_device_is_in_exactly_one_stage(number: int, canaries: int, stages: set[int], seed: int) -> None:
    ids = [f"dev-{one}" for one in range(number)]
    strategy = plan.check_strategy(Strategy(canaries=canaries, stages=(*sorted(stages), 100)))
    made = plan.into_stages(ids, strategy, Random(seed))
    assert sorted(one for stage in made for one in stage) == sorted(ids)
    assert all(made) or made == ((),)
    if canaries and number:
        assert len(made[0]) == min(canaries, number)


def test_the_same_randomness_gives_the_same_canaries() -> None:
    ids = [f"dev-{one}" for one in range(50)]
    first, again, other = (plan.into_stages(ids, Strategy(canaries=5), Random(seed)) for seed in (1, 1, 2))
    assert first == again != other


# -- when


@pytest.mark.parametrize(
    ("window", "at", "open_"),
    [
        (Window(12 * 60, 13 * 60), NOON, True),
        (Window(12 * 60, 13 * 60), NOON + timedelta(hours=1), False),
        (Window(12 * 60, 13 * 60, (1,)), NOON, False),
        (Window(22 * 60, 4 * 60, (0,)), NOON + timedelta(hours=11), True),
        (Window(22 * 60, 4 * 60, (0,)), NOON + timedelta(hours=15, minutes=59), True),
        (Window(22 * 60, 4 * 60, (0,)), NOON + timedelta(hours=16), False),
        (Window(22 * 60, 4 * 60, (0,)), NOON - timedelta(hours=11), False),
    ],
)
def test_windows_open_and_close(window: Window, at: datetime, open_: bool) -> None:
    assert windows.within((window,), at) is open_
    told = plan.decide(facts(Strategy(windows=(window,)), Count(queued=5)), now=at).start
    assert told == (5 if open_ else 0)


def test_a_rate_grows_by_its_factor_up_to_its_most() -> None:
    strategy = Strategy(rate=Rate(10, 2, 50), most_at_once=10_000)
    rates = [
        plan.decide(facts(strategy, Count(queued=9999), rollout_at=NOON), now=NOON + timedelta(minutes=minute)).start
        for minute in (0, 1, 2, 3, 1000)
    ]
    assert rates == [10, 20, 40, 50, 50]
    assert plan.decide(facts(strategy, Count(queued=9999), started=7, rollout_at=NOON), now=NOON).start == 3


def test_a_stage_that_did_not_reach_its_threshold_pauses_the_campaign() -> None:
    strategy = Strategy(abort_sample=1000)
    for done, failed, event in ((95, 5, None), (94, 6, CampaignEvent.PAUSED)):
        decision = plan.decide(facts(strategy, Count(done=done, failed=failed), Count(queued=1)), now=NOON)
        assert (decision.event, decision.open_next) == (event, event is None)
        assert event is None or decision.reason.startswith("stage 1: 94 of 100 done, want 95 %")


def test_an_abort_wants_its_sample() -> None:
    strategy = Strategy(abort_percent=20, abort_sample=10)
    few, many = Count(queued=9, done=7, failed=2), Count(queued=9, done=8, failed=2)
    assert plan.decide(facts(strategy, few), now=NOON).event is None
    for state in OPEN:
        aborted = plan.decide(facts(strategy, many, state=state), now=NOON)
        assert aborted.event is CampaignEvent.ABORTED
        assert "2 of 10 failed" in aborted.reason


def test_a_hold_waits_before_each_stage() -> None:
    strategy = Strategy(hold=Hold.APPROVAL)
    waits = facts(strategy, Count(done=5), Count(queued=5), Count(queued=5))
    assert plan.decide(waits, now=NOON).event is CampaignEvent.HELD
    assert plan.decide(waits, now=NOON).reason == "before stage 2: wants approval"
    held = plan.happened(waits.campaign, CampaignEvent.HELD, now=NOON)
    approved = plan.happened(held, CampaignEvent.APPROVED, now=NOON)
    assert plan.decide(replace(waits, campaign=approved), now=NOON).open_next
    second = plan.next_stage(approved, now=NOON)
    again = replace(waits, campaign=second, counts=(Count(done=5), Count(done=5), Count(queued=5)))
    assert plan.decide(again, now=NOON).event is CampaignEvent.HELD


# -- how long


def test_a_forecast_adds_up() -> None:
    seen = plan.forecast([5, 100, 900], Strategy(canaries=5, most_at_once=50), now=NOON)
    assert sum(hour.devices for hour in seen.hours) == 1005
    assert sum(hour.messages for hour in seen.hours) == 1005 * plan.MESSAGES_PER_DEVICE
    assert seen.ends_at == NOON + timedelta(minutes=1 + 1 + 3)


def test_a_forecast_keeps_to_windows_and_rate() -> None:
    strategy = Strategy(rate=Rate(10, 1, 10), windows=(Window(13 * 60, 14 * 60),))
    seen = plan.forecast([900], strategy, now=NOON)
    assert [(hour.hour.day, hour.hour.hour, hour.devices) for hour in seen.hours] == [(7, 13, 600), (8, 13, 300)]


# -- whatever happens


class CampaignMachine(RuleBasedStateMachine):
    """One campaign over a few devices, whose jobs end as they like, at any time."""

    strategy: Strategy
    campaign: Campaign
    stages: tuple[tuple[str, ...], ...]

    @initialize(
        number=st.integers(1, 24),
        canaries=st.integers(0, 3),
        stages=st.sets(st.integers(1, 99), max_size=2),
        cap=st.integers(1, 6),
        success=st.integers(0, 100),
        abort=st.integers(1, 100),
        sample=st.integers(1, 30),
        hold=st.booleans(),
        rate=st.none() | st.integers(1, 3),
    )
    def begin(self, **of: Any) -> None:
        self.strategy = plan.check_strategy(
            Strategy(
                canaries=of["canaries"],
                stages=(*sorted(of["stages"]), 100),
                rate=of["rate"] and Rate(of["rate"], 2, 10),
                most_at_once=of["cap"],
                success_percent=of["success"],
                abort_percent=of["abort"],
                abort_sample=of["sample"],
                hold=Hold.APPROVAL if of["hold"] else Hold.NONE,
            )
        )
        self.now = NOON
        self.stages = plan.into_stages([f"d{one}" for one in range(of["number"])], self.strategy, Random(7))
        self.states = dict.fromkeys((one for stage in self.stages for one in stage), DeviceState.QUEUED)
        self.started: list[datetime] = []
        self.told: set[str] = set()
        self.aborted = False
        self.approved: set[int] = set()
        self.campaign = campaign(self.strategy, rollout_at=None if self.strategy.canaries else NOON)

    def counts(self) -> tuple[Count, ...]:
        return tuple(
            Count(*(sum(self.states[one] is state for one in stage) for state in DeviceState)) for stage in self.stages
        )

    @rule()
    def step(self) -> None:
        recent = sum(self.now - one < timedelta(minutes=1) for one in self.started)
        decision = plan.decide(Facts(self.campaign, self.counts(), recent), now=self.now)
        assert bool(decision.start) + bool(decision.event) + decision.open_next <= 1
        if decision.open_next:
            self._check_threshold()
            self.campaign = plan.next_stage(self.campaign, now=self.now)
        elif decision.event:
            if decision.event is CampaignEvent.FINISHED:
                self._check_threshold()
            self._happen(decision.event)
        else:
            assert decision.start == 0 or self.campaign.state is CampaignState.RUNNING
            queued = [one for one in self.stages[self.campaign.stage] if self.states[one] is DeviceState.QUEUED]
            assert decision.start <= len(queued)
            for one in queued[: decision.start]:
                assert one not in self.told
                self.told.add(one)
                self.started.append(self.now)
                self.states[one] = DeviceState.RUNNING

    def _check_threshold(self) -> None:
        here = self.counts()[self.campaign.stage]
        assert here.queued == here.running == 0
        assert here.done * 100 >= self.strategy.success_percent * (here.done + here.failed)
        if self.strategy.hold is not Hold.NONE and self.campaign.stage + 1 < len(self.stages):
            assert self.campaign.stage in self.approved

    def _happen(self, event: CampaignEvent) -> None:
        before = self.campaign.state
        try:
            self.campaign = plan.happened(self.campaign, event, now=self.now)
        except NotNow:
            assert (before, event) not in CAMPAIGN_TRANSITIONS
            return
        if event is CampaignEvent.APPROVED:
            self.approved.add(self.campaign.stage)
        if event is CampaignEvent.ABORTED:
            self.aborted = True
            for one, state in self.states.items():
                if state is DeviceState.QUEUED:
                    self.states[one] = DeviceState.SKIPPED
                elif state is DeviceState.RUNNING and len(one) % 2:  # those whose certificate is out go on
                    self.states[one] = DeviceState.CANCELLED

    @rule(which=st.integers(0, 100), outcome=st.sampled_from(OUTCOMES))
    def a_device_ends(self, which: int, outcome: DeviceState) -> None:
        running = [one for one, state in self.states.items() if state is DeviceState.RUNNING]
        if running:
            self.states[running[which % len(running)]] = outcome

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(
        event=st.sampled_from(
            [CampaignEvent.PAUSED, CampaignEvent.RESUMED, CampaignEvent.APPROVED, CampaignEvent.APPROVED]
        )
    )
    def somebody_acts(self, event: CampaignEvent) -> None:
        self._happen(event)

    @precondition(lambda self: len(self.told) > 5)
    @rule()
    def somebody_aborts(self) -> None:
        self._happen(CampaignEvent.ABORTED)

    @invariant()
    def never_beyond_the_cap(self) -> None:
        if hasattr(self, "states"):
            running = sum(state is DeviceState.RUNNING for state in self.states.values())
            assert running <= self.strategy.most_at_once

    @invariant()
    def never_a_later_stage(self) -> None:
        if hasattr(self, "states"):
            for place, stage in enumerate(self.stages):
                assert place <= self.campaign.stage or not self.told & set(stage)

    @invariant()
    def an_abort_is_final(self) -> None:
        if getattr(self, "aborted", False):
            assert self.campaign.state is CampaignState.ABORTED
            assert self.campaign.ended_at is not None

    def teardown(self) -> None:
        """Drive it to its end: every device has then exactly one outcome."""
        if not hasattr(self, "states"):
            return
        for _ in range(10_000):
            if self.campaign.state not in OPEN and DeviceState.RUNNING not in self.states.values():
                break
            self.step()
            self.a_device_ends(0, DeviceState.DONE)
            self.time_passes(61)
            if self.campaign.state is CampaignState.HOLDING:
                self._happen(CampaignEvent.APPROVED)
            elif self.campaign.state is CampaignState.PAUSED:
                here = self.counts()[self.campaign.stage]
                stuck = here.queued == here.running == 0 and here.failed
                self._happen(CampaignEvent.ABORTED if stuck else CampaignEvent.RESUMED)
        outcomes = set(DeviceState) - {DeviceState.QUEUED, DeviceState.RUNNING}
        assert set(self.states.values()) <= outcomes
        if self.campaign.state is CampaignState.DONE:
            assert set(self.states.values()) <= set(OUTCOMES)


TestCampaign = CampaignMachine.TestCase
TestCampaign.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_an_aborted_campaign_has_no_way_on() -> None:
    assert not [one for one in CAMPAIGN_TRANSITIONS if one[0] is CampaignState.ABORTED]
    for event in CampaignEvent:
        with pytest.raises(NotNow):
            plan.happened(campaign(Strategy(), state=CampaignState.ABORTED), event, now=NOON)
