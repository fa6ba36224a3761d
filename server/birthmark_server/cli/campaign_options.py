"""How a campaign goes about it: the options of `birthmark campaign plan` and `start`, and what they mean."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from birthmark_server.campaigns import BadCampaign, Hold
from birthmark_server.web.api.campaigns.bodies import RateValue, StrategyValue

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True)
class How:
    """See campaigns.Strategy. The ranges are the planner's to check."""

    canaries: Annotated[int, typer.Option(help="How many devices go first.")] = 0
    stages: Annotated[str, typer.Option(help="Percent of the others by the end of each stage, rising to 100.")] = "100"
    rate: Annotated[
        str, typer.Option(metavar="BASE,FACTOR,MOST", help="Devices per minute: the first, its growth, the most.")
    ] = ""
    window: Annotated[
        list[str] | None,
        typer.Option(metavar="22:00-04:00", help="Only then, UTC; `sat,sun 08:00-20:00` too; repeatable."),
    ] = None
    at_once: Annotated[int, typer.Option(help="How many devices may be under way at the same time.")] = 500
    success: Annotated[int, typer.Option(help="Percent of a stage that must be done before the next one opens.")] = 95
    abort_at: Annotated[int, typer.Option(help="Percent of failures at which everything stops for good.")] = 20
    abort_sample: Annotated[int, typer.Option(help="But not before so many devices have ended.")] = 10
    approval: Annotated[
        bool, typer.Option("--approval", help="Hold between stages until birthmark campaign approve.")
    ] = False
    check: Annotated[str, typer.Option(metavar="URL", help="Hold between stages until a GET of this URL says 2xx.")] = (
        ""
    )
    late_joiners: Annotated[
        bool, typer.Option("--late-joiners", help="Let devices in that come to match, at the opening of each stage.")
    ] = False
    deadline: Annotated[
        str, typer.Option(metavar="24h", help="For each device, from its turn: minutes m, hours h, days d.")
    ] = "24h"

    def strategy(self) -> StrategyValue:
        """Return the strategy that these words mean; raise BadCampaign."""
        if self.approval and self.check:
            raise BadCampaign("a campaign holds for an approval or for a check, not for both")
        return StrategyValue(
            canaries=self.canaries,
            stages=tuple(_number(text, "--stages") for text in self.stages.split(",")),
            rate=_rate(self.rate) if self.rate else None,
            windows=tuple(self.window or ()),
            most_at_once=self.at_once,
            success_percent=self.success,
            abort_percent=self.abort_at,
            abort_sample=self.abort_sample,
            hold=Hold.APPROVAL if self.approval else Hold.CHECK if self.check else Hold.NONE,
            check_url=self.check,
            late_joiners=self.late_joiners,
            deadline_s=_seconds(self.deadline, "--deadline"),
        )


def _seconds(text: str, option: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text, re.ASCII)
    if not match:
        raise BadCampaign(f"{option}: want a number and m, h or d, as in 24h, got {text!r}")
    return int(match[1]) * _UNITS[match[2]]


def _number(text: str, option: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text.strip(), re.ASCII):
        raise BadCampaign(f"{option}: want numbers, got {text!r}")
    return int(text)


def _rate(text: str) -> RateValue:
    match = re.fullmatch(r"([0-9]{1,6}),([0-9]{1,3}(?:\.[0-9]{1,3})?),([0-9]{1,6})", text, re.ASCII)
    if not match:
        raise BadCampaign(f"--rate: want BASE,FACTOR,MOST as in 10,2,500, got {text!r}")
    return RateValue(base=int(match[1]), factor=float(match[2]), most=int(match[3]))
