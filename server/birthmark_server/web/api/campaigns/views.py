"""What operators get to see of campaigns. Stages are counted from 1, here as in words."""

from typing import Annotated

from pydantic import Field

from birthmark_server.campaigns import CampaignEvent, CampaignState, Count, DeviceState, DryRun, Happening, Member
from birthmark_server.domain import DeviceState as Standing
from birthmark_server.fleet import DeviceFilter, NextAction
from birthmark_server.rotation.campaigning import View as Seen
from birthmark_server.web.api.campaigns.bodies import StrategyValue, strategy_value
from birthmark_server.web.api.values import Moment, View
from birthmark_server.web.api.views import Page


class CountView(View):
    """How many devices stand where. The last four are outcomes; skipped: never told."""

    queued: int
    running: int
    done: int
    failed: int
    cancelled: int
    skipped: int
    total: int


class CampaignView(View):
    """One campaign as it stands. stage: the open one, counted from 1; stages: the counts of each, the first one first.

    reason: why it stands where it stands, empty where it just runs. revision: rises with each change of it.
    """

    campaign_id: str
    state: CampaignState
    stage: int
    stages: tuple[CountView, ...]
    total: CountView
    reason: str
    created_by: str
    created_at: Moment
    opened_at: Annotated[Moment | None, Field(description="When the open stage was.")]
    ended_at: Moment | None
    revision: int


class FilterView(View):
    """What a campaign's devices matched when it was started, with times in place of spans. issued_by: SHA-256."""

    device_ids: tuple[str, ...]
    state: Standing | None
    model: str
    batch: str
    tags: tuple[str, ...]
    issued_by: tuple[str, ...]
    expiring_before: Moment | None
    last_seen_before: Moment | None
    never_rotated: bool
    next_action: NextAction | None
    at: Annotated[Moment | None, Field(description="When that came next.")]


class HappeningView(View):
    """One event of a campaign. by: empty for the server itself."""

    at: Moment
    event: CampaignEvent
    by: str
    reason: str


class CampaignDetail(View):
    """One campaign with what it was asked to do and what happened to it. selection: all of these must match; none,
    every device."""

    campaign: CampaignView
    selection: tuple[FilterView, ...]
    strategy: StrategyValue
    happenings: tuple[HappeningView, ...]


class MemberView(View):
    """A device in a campaign. stage: counted from 1. code, detail: why, where it is not done."""

    device_id: str
    stage: int
    state: DeviceState
    job_id: str
    code: str
    detail: str


class HourView(View):
    """What a campaign asks of CA and broker in one hour, if all goes well."""

    hour: Moment
    devices: int
    signatures: int
    messages: int


class ForecastView(View):
    """What a campaign would be. stages: devices of each that would answer at once. ends_at: null where its windows
    never let it end within a year."""

    stages: tuple[int, ...]
    hours: tuple[HourView, ...]
    ends_at: Moment | None


class PlanView(View):
    """Who would be told, in which stage; who not, and why; who was not seen for a day: each gets its job when it says
    hello. Who is a canary is drawn anew when the campaign is started."""

    stages: tuple[tuple[str, ...], ...]
    left_out: dict[str, str]
    offline: tuple[str, ...]
    forecast: ForecastView | None


class CampaignPage(Page[CampaignView]):
    """A part of the campaigns, newest first."""


class MemberPage(Page[MemberView]):
    """A part of a campaign's devices, by id."""


def campaign_view(seen: Seen) -> CampaignView:
    """Return one campaign as it stands."""
    campaign = seen.campaign
    return CampaignView(
        campaign_id=campaign.campaign_id,
        state=campaign.state,
        stage=campaign.stage + 1,
        stages=tuple(map(_count, seen.counts)),
        total=_count(seen.total),
        reason=campaign.reason,
        created_by=campaign.created_by,
        created_at=campaign.created_at,
        opened_at=campaign.opened_at,
        ended_at=campaign.ended_at,
        revision=campaign.revision,
    )


def campaign_detail(seen: Seen, happenings: list[Happening]) -> CampaignDetail:
    """Return one campaign with all but its devices."""
    return CampaignDetail(
        campaign=campaign_view(seen),
        selection=tuple(map(_filter, seen.campaign.selector)),
        strategy=strategy_value(seen.campaign.strategy),
        happenings=tuple(map(HappeningView.model_validate, happenings)),
    )


def member_view(member: Member) -> MemberView:
    """Return one device of a campaign."""
    return MemberView(
        device_id=member.device_id,
        stage=member.stage + 1,
        state=member.state,
        job_id=member.job_id,
        code=member.code,
        detail=member.detail,
    )


def plan_view(dry: DryRun) -> PlanView:
    """Return what a campaign would be."""
    return PlanView(
        stages=dry.stages,
        left_out=dict(dry.left_out),
        offline=dry.offline,
        forecast=None if dry.forecast is None else ForecastView.model_validate(dry.forecast),
    )


def _count(count: Count) -> CountView:
    return CountView.model_validate(count)


def _filter(one: DeviceFilter) -> FilterView:
    return FilterView.model_validate(one)
