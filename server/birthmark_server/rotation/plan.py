"""The campaign planner: pure. Time and randomness are passed in, facts in, decisions out.

Holds whatever happens: never more devices under way than the cap; never a stage before the one before it has ended,
with enough of it done and its hold lifted; an abort is final; each device is told once, in one stage.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Final

from birthmark_server.campaigns import (
    OPEN,
    BadCampaign,
    Campaign,
    CampaignEvent,
    CampaignState,
    Candidate,
    Count,
    Decision,
    DryRun,
    Facts,
    Forecast,
    Hold,
    HourLoad,
    Strategy,
    campaign_after,
)
from birthmark_server.fleet import Selector
from birthmark_server.rotation.outside_check import origin_of
from birthmark_server.rotation.windows import check_window, within

OFFLINE: Final = timedelta(days=1)
"""A device not seen for so long counts as offline in a dry run. Agents say something every few hours."""
MESSAGES_PER_DEVICE: Final = 8
"""cmd, ack, nonce, csr, cert, hello on the new connection, active; one to spare for a command that is sent again."""
_MINUTE: Final = timedelta(minutes=1)
_YEAR_MINUTES: Final = 366 * 1440
_MOST: Final = 1_000_000

BLOCKED: Final = "blocked: revoked, denied or retired"
UNSUPPORTED: Final = "unsupported: it has no operational certificate that stands; it comes home over EST"


def check_strategy(strategy: Strategy) -> Strategy:
    """Return it; raise BadCampaign saying what is out of range."""
    for name, value, low, high in (
        ("canaries", strategy.canaries, 0, _MOST),
        ("most_at_once", strategy.most_at_once, 1, _MOST),
        ("success_percent", strategy.success_percent, 0, 100),
        ("abort_percent", strategy.abort_percent, 1, 100),
        ("abort_sample", strategy.abort_sample, 1, _MOST),
        ("deadline_s", strategy.deadline_s, 60, 90 * 86_400),
    ):
        if not low <= value <= high:
            raise BadCampaign(f"{name}: want {low} to {high}, got {value}")
    stages = strategy.stages
    if not stages or stages[-1] != 100 or list(stages) != sorted(set(stages)) or stages[0] < 1:
        raise BadCampaign(f"stages: want percentages that rise to 100, as 10,50,100; got {','.join(map(str, stages))}")
    if len(stages) > 100:
        raise BadCampaign(f"stages: want at most 100, got {len(stages)}")
    rate = strategy.rate
    if rate and not (1 <= rate.base <= rate.most <= _MOST and 1 <= rate.factor <= 10):
        raise BadCampaign(
            f"rate: want a base of 1 to the most per minute, and a factor of 1 to 10; "
            f"got {rate.base}, {rate.factor:g}, {rate.most}"
        )
    for window in strategy.windows:
        check_window(window)
    if (strategy.hold is Hold.CHECK) != bool(strategy.check_url):
        raise BadCampaign("an outside check needs its URL, and a URL is for nothing else")
    if strategy.check_url:
        try:
            origin_of(strategy.check_url)
        except ValueError as error:
            raise BadCampaign(f"check: {error}") from None
    return strategy


def check_selector(selector: Selector, candidates: Sequence[Candidate]) -> None:
    """Raise BadCampaign where a selector names devices that are not there, or matches none."""
    named = {device_id for one in selector[:1] for device_id in one.device_ids}
    missing = sorted(named - {one.device_id for one in candidates})
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise BadCampaign(f"not on record, or not matched by the rest: {', '.join(missing[:5])}{more}")
    if not candidates:
        raise BadCampaign("the selection is empty: no device matches all of it")


# -- who, and when


def objection(candidate: Candidate) -> str:
    """Return why a device can't be told now, empty where it can."""
    if not candidate.active:
        return BLOCKED
    if candidate.not_after is None:
        return UNSUPPORTED
    return f"busy: {candidate.busy_with}" if candidate.busy_with else ""


def into_stages(device_ids: Sequence[str], strategy: Strategy, random: Random) -> tuple[tuple[str, ...], ...]:
    """Return each device in one stage, in random order: canaries stand for the others only if nothing chose them.

    Stages that would be empty are left out, but one stays.
    """
    order = sorted(device_ids)
    random.shuffle(order)
    cuts = [min(strategy.canaries, len(order))]
    rest = len(order) - cuts[0]
    cuts += [cuts[0] + -(-rest * percent // 100) for percent in strategy.stages]
    stages = tuple(tuple(order[begin:end]) for begin, end in zip([0, *cuts], cuts, strict=False) if end > begin)
    return stages or ((),)


def dry_run(
    candidates: Sequence[Candidate], strategy: Strategy, *, now: datetime, random: Random, device_s: int = 10
) -> DryRun:
    """Return what a campaign would be. device_s: seconds that a device takes for a rotation."""
    objections = {one.device_id: objection(one) for one in candidates}
    told = [one for one in candidates if not objections[one.device_id]]
    offline = tuple(
        sorted(one.device_id for one in told if one.last_seen_at is None or now - one.last_seen_at > OFFLINE)
    )
    stages = into_stages([one.device_id for one in told], strategy, random)
    away = set(offline)
    online = [sum(device_id not in away for device_id in stage) for stage in stages]
    return DryRun(
        stages=stages,
        left_out={device_id: why for device_id, why in objections.items() if why},
        offline=offline,
        forecast=forecast(online, strategy, now=now, device_s=device_s),
    )


# -- what next


def decide(facts: Facts, *, now: datetime) -> Decision:
    """Return what to do with a campaign now."""
    campaign = facts.campaign
    if campaign.state not in OPEN:
        return Decision()
    if (why := too_many_failed(facts)) != "":
        return Decision(event=CampaignEvent.ABORTED, reason=why)
    if campaign.state is not CampaignState.RUNNING:
        return Decision()
    here = facts.counts[campaign.stage]
    if here.queued == 0 and here.running == 0:
        return _at_the_end_of_a_stage(facts)
    return Decision(start=room(facts, now=now))


def too_many_failed(facts: Facts) -> str:
    """Return why the campaign must be aborted, empty where it need not."""
    strategy = facts.campaign.strategy
    ended, failed = sum(one.ended for one in facts.counts), sum(one.failed for one in facts.counts)
    if ended >= strategy.abort_sample and failed * 100 >= strategy.abort_percent * ended:
        return f"{failed} of {ended} failed, and {strategy.abort_percent} % is too many"
    return ""


def _at_the_end_of_a_stage(facts: Facts) -> Decision:
    """Reasons count stages from 1, as the command line does."""
    campaign, here = facts.campaign, facts.counts[facts.campaign.stage]
    strategy = campaign.strategy
    if here.done * 100 < strategy.success_percent * here.ended:
        return Decision(
            event=CampaignEvent.PAUSED,
            reason=f"stage {campaign.stage + 1}: {here.done} of {here.ended} done, want {strategy.success_percent} %: "
            "retry those that failed, or abort",
        )
    if campaign.stage + 1 == len(facts.counts):
        return Decision(event=CampaignEvent.FINISHED)
    if strategy.hold is not Hold.NONE and campaign.approved <= campaign.stage:
        return Decision(event=CampaignEvent.HELD, reason=f"before stage {campaign.stage + 2}: wants {strategy.hold}")
    return Decision(open_next=True)


def room(facts: Facts, *, now: datetime) -> int:
    """Return how many more devices of the open stage may be told now."""
    campaign, strategy = facts.campaign, facts.campaign.strategy
    if not within(strategy.windows, now):
        return 0
    free = strategy.most_at_once - sum(one.running for one in facts.counts)
    if strategy.rate and campaign.rollout_at is not None:
        free = min(free, allowance(facts, now=now) - facts.started)
    return max(0, min(free, facts.counts[campaign.stage].queued))


def allowance(facts: Facts, *, now: datetime) -> int:
    """Return how many devices may be told within this minute, by the rate, since the canaries have passed."""
    rate, since = facts.campaign.strategy.rate, facts.campaign.rollout_at
    if rate is None or since is None:
        raise ValueError("there is no rate to go by")
    minutes = max(0, (now - since) // _MINUTE)
    # Beyond 2^20 everything is above any `most`; the power itself would overflow.
    return min(rate.most, int(rate.base * rate.factor ** min(minutes, 20 if rate.factor >= 2 else 400)))


def next_stage(campaign: Campaign, *, now: datetime) -> Campaign:
    """Return the campaign with its next stage open. The rate counts from the first stage after the canaries."""
    return replace(campaign, stage=campaign.stage + 1, opened_at=now, rollout_at=campaign.rollout_at or now, reason="")


def happened(campaign: Campaign, event: CampaignEvent, *, now: datetime, reason: str = "") -> Campaign:
    """Return the campaign after `event`; raise NotNow where that can't happen to it."""
    state = campaign_after(campaign.state, event)
    approved = campaign.stage + 1 if event is CampaignEvent.APPROVED else campaign.approved
    ended_at = None if state in OPEN else now
    return replace(campaign, state=state, approved=approved, reason=reason, ended_at=ended_at)


# -- how long


def forecast(online: Sequence[int], strategy: Strategy, *, now: datetime, device_s: int = 10) -> Forecast:
    """Play a campaign through, minute by minute, in which all goes well and every hold is lifted at once.

    online: how many devices of each stage would answer at once.
    """
    per_minute = max(1, 60 // device_s) * strategy.most_at_once if device_s < 60 else strategy.most_at_once
    minutes_each = max(1, -(-device_s // 60))
    campaign = Campaign(
        campaign_id="forecast",
        state=CampaignState.RUNNING,
        selector=(),
        strategy=replace(strategy, hold=Hold.NONE, check_url="", most_at_once=per_minute),
        created_by="",
        created_at=now,
        rollout_at=None if strategy.canaries else now,
    )
    queued, running, done = list(online), [0] * len(online), [0] * len(online)
    due: dict[int, tuple[int, int]] = {}
    hours: dict[datetime, int] = {}
    for minute in range(_YEAR_MINUTES):
        at = now + minute * _MINUTE
        stage, ended = due.pop(minute, (0, 0))
        running[stage] -= ended
        done[stage] += ended
        while True:
            counts = tuple(map(Count, queued, running, done))
            decision = decide(Facts(campaign, counts), now=at)
            if not decision.open_next:
                break
            campaign = next_stage(campaign, now=at)
        if decision.event is CampaignEvent.FINISHED:
            return Forecast(tuple(online), _loads(hours), at)
        stage = campaign.stage
        queued[stage] -= decision.start
        running[stage] += decision.start
        if decision.start:
            due[minute + minutes_each] = (stage, decision.start)
            hour = at.replace(minute=0, second=0, microsecond=0)
            hours[hour] = hours.get(hour, 0) + decision.start
    return Forecast(tuple(online), _loads(hours), None)


def _loads(hours: dict[datetime, int]) -> tuple[HourLoad, ...]:
    """Two signatures by our own keys for each device: its command's, and its certificate's."""
    return tuple(HourLoad(hour, number, 2 * number, MESSAGES_PER_DEVICE * number) for hour, number in hours.items())
