"""How campaigns look: a line in a list, a picture with a bar for each stage, a plan."""

from collections.abc import Sequence
from typing import Final

from rich.table import Table

from birthmark_server.campaigns import OPEN, CampaignState, DeviceState, Hold
from birthmark_server.cli.output import Column, counted, heading, moment, show_fields
from birthmark_server.web.api.campaigns.views import (
    CampaignView,
    CountView,
    FilterView,
    HappeningView,
    MemberView,
    PlanView,
)

_BAR: Final = 20
"""The widest bar, in cells."""
_STYLES: Final = {
    CampaignState.RUNNING: "green",
    CampaignState.PAUSED: "yellow",
    CampaignState.HOLDING: "yellow",
    CampaignState.DONE: "dim",
    CampaignState.ABORTED: "red",
}
CAMPAIGNS: Final = (
    Column[CampaignView]("campaign", lambda one: one.campaign_id),
    Column[CampaignView]("state", lambda one: one.state.value, lambda one: _STYLES[one.state]),
    Column[CampaignView]("stage", lambda one: f"{one.stage} of {len(one.stages)}"),
    Column[CampaignView]("devices", lambda one: one.total.total),
    Column[CampaignView]("done", lambda one: one.total.done),
    Column[CampaignView]("failed", lambda one: one.total.failed),
    Column[CampaignView]("begun", lambda one: one.created_at),
    Column[CampaignView]("by", lambda one: one.created_by),
    Column[CampaignView]("because", lambda one: one.reason),
)
MEMBERS: Final = (
    Column[MemberView]("device", lambda one: one.device_id),
    Column[MemberView]("stage", lambda one: one.stage),
    Column[MemberView]("state", lambda one: one.state.value),
    Column[MemberView]("code", lambda one: one.code),
    Column[MemberView]("detail", lambda one: one.detail),
)


def picture(campaign: CampaignView, *, width: int, note: str = "") -> Table:
    """Draw a campaign: a line for each stage. No number is cut: the bars give way where `width` cells are few.

    note: what stands below it, in place of why the campaign stands where it stands.
    """
    states = [state.value for state in DeviceState]
    cells = [[str(getattr(count, state)) for state in states] for count in campaign.stages]
    numbers = sum(max(len(state), *(len(row[place]) for row in cells)) + 1 for place, state in enumerate(states))
    stages = [_stage(campaign, number) for number in range(1, len(campaign.stages) + 1)]
    bar = max(1, min(_BAR, width - numbers - max(map(len, ["stage", *stages])) - 2))
    table = Table(
        title=f"{campaign.campaign_id}: [{_STYLES[campaign.state]}]{campaign.state.value}[/]",
        caption=note or _why(campaign) or None,
        title_justify="left",
        caption_justify="left",
        box=None,
        padding=(0, 1, 0, 0),
    )
    table.add_column("stage", no_wrap=True)
    table.add_column("", no_wrap=True, width=bar)
    for state in states:
        table.add_column(state, justify="right", no_wrap=True)
    for stage, count, row in zip(stages, campaign.stages, cells, strict=True):
        table.add_row(stage, _bar(count, bar), *row)
    return table


def _why(campaign: CampaignView) -> str:
    """Why it stands where it stands, and what a person can do about it."""
    if campaign.state is CampaignState.HOLDING and campaign.reason.endswith(Hold.APPROVAL.value):
        return f"{campaign.reason}: birthmark campaign approve {campaign.campaign_id}"
    return campaign.reason


def _stage(campaign: CampaignView, number: int) -> str:
    return f"{'>' if number == campaign.stage and campaign.state in OPEN else ' '} {number}"


def _bar(count: CountView, width: int) -> str:
    ended = count.done + count.failed + count.cancelled + count.skipped
    filled = width * ended // count.total if count.total else width
    return f"[green]{'█' * filled}[/][dim]{'░' * (width - filled)}[/]"


def show_selection(selection: Sequence[FilterView]) -> None:
    """Print what a campaign's devices matched."""
    heading("which devices")
    asked = [value for one in selection for value in one if value[1] not in ((), "", None, False)]
    show_fields((name.replace("_", " "), value) for name, value in asked or [("all", True)])


def show_happenings(happenings: Sequence[HappeningView]) -> None:
    """Print what happened to a campaign, oldest first."""
    heading("what happened")
    show_fields(
        (moment(one.at), f"{one.event.value} by {one.by or 'the server'}{': ' if one.reason else ''}{one.reason}")
        for one in happenings
    )


def show_plan(plan: PlanView) -> None:
    """Print what a campaign would do."""
    told, forecast = sum(map(len, plan.stages)), plan.forecast
    ends = moment(forecast.ends_at) if forecast and forecast.ends_at else "not within a year"
    offline = f"{len(plan.offline)}, each gets its job when it says hello" if plan.offline else "none"
    show_fields(
        [
            ("devices", told),
            ("of them offline", offline),
            ("left out", len(plan.left_out)),
            ("expected end", f"{ends}, holds and offline devices aside"),
        ]
    )
    heading("stages")
    show_fields((f"{number}", counted(len(stage), "device")) for number, stage in enumerate(plan.stages, 1))
    if plan.left_out:
        heading("left out, and why")
        show_fields(sorted(plan.left_out.items()))
    if forecast and forecast.hours:
        heading("load by the hour: devices, signatures, messages")
        show_fields(
            (moment(load.hour), f"{load.devices}  {load.signatures}  {load.messages}") for load in forecast.hours
        )
