"""What `birthmark campaign plan` and `start` are given, and how it is read: words of the command line to values."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from birthmark_server.campaigns import BadCampaign, Hold, Rate, Strategy, Window
from birthmark_server.cli.workplace import now

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}

DeviceIds = Annotated[
    list[str] | None, typer.Option("--device", metavar="ID", help="Only this device; may be repeated.")
]
Model = Annotated[str, typer.Option(help="Only devices of this model.")]
Batch = Annotated[str, typer.Option(help="Only devices of this batch.")]
IssuedBy = Annotated[
    str, typer.Option(metavar="CA", help="Only devices whose certificate this CA issued, as in fleet-2026.")
]
Expiring = Annotated[
    str,
    typer.Option(
        "--expiring-before", metavar="WHEN", help="Only those that expire before then: 2026-12-31, or 7d from now."
    ),
]
NeverRotated = Annotated[bool, typer.Option("--never-rotated", help="Only devices that have their first certificate.")]
Canaries = Annotated[int, typer.Option(help="How many devices go first.")]
Stages = Annotated[str, typer.Option(help="Percent of the others by the end of each stage, rising to 100.")]
RateText = Annotated[
    str,
    typer.Option("--rate", metavar="BASE,FACTOR,MOST", help="Devices per minute: the first, its growth, the most."),
]
Windows = Annotated[
    list[str] | None,
    typer.Option("--window", metavar="22:00-04:00", help="Only then, UTC; `sat,sun 08:00-20:00` too; repeatable."),
]
AtOnce = Annotated[int, typer.Option("--at-once", help="How many devices may be under way at the same time.")]
Success = Annotated[int, typer.Option(help="Percent of a stage that must be done before the next one opens.")]
Abort = Annotated[int, typer.Option("--abort-at", help="Percent of failures at which everything stops for good.")]
Sample = Annotated[int, typer.Option("--abort-sample", help="But not before so many devices have ended.")]
Approval = Annotated[bool, typer.Option("--approval", help="Hold between stages until birthmark campaign approve.")]
Check = Annotated[str, typer.Option(metavar="URL", help="Hold between stages until a GET of this URL says 2xx.")]
LateJoiners = Annotated[
    bool, typer.Option("--late-joiners", help="Let devices in that come to match, at the opening of each stage.")
]
Deadline = Annotated[
    str, typer.Option(metavar="24h", help="For each device, from its turn: minutes m, hours h, days d.")
]


def strategy(
    *,
    canaries: int,
    stages: str,
    rate: str,
    window: list[str] | None,
    at_once: int,
    success: int,
    abort_at: int,
    abort_sample: int,
    approval: bool,
    check: str,
    late_joiners: bool,
    deadline: str,
) -> Strategy:
    """Return the strategy that these words mean; raise BadCampaign. The ranges are the planner's to check."""
    if approval and check:
        raise BadCampaign("a campaign holds for an approval or for a check, not for both")
    return Strategy(
        canaries=canaries,
        stages=tuple(_number(text, "--stages") for text in stages.split(",")),
        rate=_rate(rate) if rate else None,
        windows=tuple(_window(text) for text in window or ()),
        most_at_once=at_once,
        success_percent=success,
        abort_percent=abort_at,
        abort_sample=abort_sample,
        hold=Hold.APPROVAL if approval else Hold.CHECK if check else Hold.NONE,
        check_url=check,
        late_joiners=late_joiners,
        deadline_s=int(span(deadline, "--deadline").total_seconds()),
    )


def moment_of(text: str) -> datetime | None:
    """Return a time: a date, a date with a time, or a span from now; None for an empty text."""
    if not text:
        return None
    if re.fullmatch(r"[0-9]+[mhd]", text):
        return now() + span(text, "--expiring-before")
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise BadCampaign(f"--expiring-before: want 2026-12-31, or a span as in 7d, got {text!r}") from None
    return found.replace(tzinfo=found.tzinfo or UTC)


def span(text: str, option: str) -> timedelta:
    """Return a span as in 90m, 24h or 7d."""
    match = re.fullmatch(r"([1-9][0-9]{0,5})([mhd])", text)
    if not match:
        raise BadCampaign(f"{option}: want a number and m, h or d, as in 24h, got {text!r}")
    return timedelta(seconds=int(match[1]) * _UNITS[match[2]])


def _number(text: str, option: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text.strip(), re.ASCII):
        raise BadCampaign(f"{option}: want numbers, got {text!r}")
    return int(text)


def _rate(text: str) -> Rate:
    match = re.fullmatch(r"([0-9]{1,6}),([0-9]{1,3}(?:\.[0-9]{1,3})?),([0-9]{1,6})", text, re.ASCII)
    if not match:
        raise BadCampaign(f"--rate: want BASE,FACTOR,MOST as in 10,2,500, got {text!r}")
    return Rate(int(match[1]), float(match[2]), int(match[3]))


def _window(text: str) -> Window:
    match = re.fullmatch(r"(?:([a-z,]+) )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", text, re.ASCII)
    if not match or not (int(match[3]) < 60 and int(match[5]) < 60):
        raise BadCampaign(f"--window: want 22:00-04:00 or sat,sun 08:00-20:00, got {text!r}")
    names = match[1].split(",") if match[1] else list(_DAYS)
    if unknown := [name for name in names if name not in _DAYS]:
        raise BadCampaign(f"--window: want days of {','.join(_DAYS)}, got {unknown[0]!r}")
    begins, ends = int(match[2]) * 60 + int(match[3]), int(match[4]) * 60 + int(match[5])
    return Window(begins, ends, tuple(sorted({_DAYS.index(name) for name in names})))
