"""What operators send about campaigns. Ranges are the planner's to check, so that its words are the same everywhere."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field

from birthmark_server.campaigns import CampaignState, DeviceState, Hold, Rate, Strategy
from birthmark_server.rotation.windows import read_window, write_window
from birthmark_server.web.api.queries import DeviceQuery, PageQuery
from birthmark_server.web.api.values import DeviceId, Note, View

_USUAL: Final = Strategy()


class RateValue(View):
    """Devices told per minute: base in the first, times factor in each next one, never above most."""

    base: int
    factor: float
    most: int


class StrategyValue(View):
    """How a campaign goes about it: docs/campaigns.md has each with its meaning. Percentages are of 100."""

    canaries: Annotated[int, Field(description="Devices of the first stage, chosen at random; 0 for none.")] = (
        _USUAL.canaries
    )
    stages: Annotated[tuple[int, ...], Field(description="Percent of the others by each stage's end, up to 100.")] = (
        _USUAL.stages
    )
    rate: RateValue | None = None
    windows: Annotated[
        tuple[Annotated[str, Field(max_length=80)], ...],
        Field(max_length=100, description="When devices may be told, UTC: 22:00-04:00, or sat,sun 08:00-20:00."),
    ] = ()
    most_at_once: Annotated[int, Field(description="Jobs open at the same time.")] = _USUAL.most_at_once
    success_percent: int = _USUAL.success_percent
    abort_percent: int = _USUAL.abort_percent
    abort_sample: int = _USUAL.abort_sample
    hold: Annotated[Hold, Field(description="What lets it go on to each next stage.")] = _USUAL.hold
    check_url: Annotated[str, Field(max_length=2000, description="For the hold `check`: asked by GET until 2xx.")] = ""
    late_joiners: bool = _USUAL.late_joiners
    deadline_s: Annotated[int, Field(description="For each device, from its turn on.")] = _USUAL.deadline_s

    def meant(self) -> Strategy:
        """Return the strategy. Raise BadCampaign for a window that is none; plan.check_strategy checks the rest."""
        return Strategy(
            canaries=self.canaries,
            stages=self.stages,
            rate=Rate(self.rate.base, self.rate.factor, self.rate.most) if self.rate else None,
            windows=tuple(map(read_window, self.windows)),
            most_at_once=self.most_at_once,
            success_percent=self.success_percent,
            abort_percent=self.abort_percent,
            abort_sample=self.abort_sample,
            hold=self.hold,
            check_url=self.check_url,
            late_joiners=self.late_joiners,
            deadline_s=self.deadline_s,
        )


def strategy_value(strategy: Strategy) -> StrategyValue:
    """Return a strategy as it is sent and shown."""
    values = {name: getattr(strategy, name) for name in StrategyValue.model_fields if name != "windows"}
    return StrategyValue.model_validate({**values, "windows": tuple(map(write_window, strategy.windows))})


class CampaignPlan(View):
    """A campaign to think through. selection: what GET /v1/devices takes; without anything every device."""

    selection: DeviceQuery = DeviceQuery()
    strategy: StrategyValue = StrategyValue()


class NewCampaign(CampaignPlan):
    """A campaign to start. Its devices are those that match now and can be told; spans count from now."""

    name: Annotated[str, Field(max_length=64, description="1 to 40 of a-z, 0-9, and - within.")]


class Steering(StrEnum):
    """What an operator does with a campaign that was started. The last word of the path."""

    PAUSE = "pause"
    RESUME = "resume"
    APPROVE = "approve"
    RETRY = "retry"
    ABORT = "abort"


class SteeringReason(View):
    """Why; it is on record."""

    reason: Note = ""


class CampaignQuery(PageQuery):
    """Which campaigns. device_id: those that this device is in."""

    state: CampaignState | None = None
    device_id: DeviceId | None = None


class CampaignDeviceQuery(PageQuery):
    """Which of a campaign's devices."""

    state: DeviceState | None = None
