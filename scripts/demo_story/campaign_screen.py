"""How a campaign is drawn: one mark for each device, stage by stage; and the table at its end."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from rich.console import Group
from rich.table import Table
from rich.text import Text

from birthmark_server.campaigns import OPEN, DeviceState
from demo_story.campaign_record import Ending, Look, astray
from demo_story.rollover_record import Home, Rollover
from demo_story.screen import Screen

_MARKS: Final = {
    DeviceState.QUEUED: ("·", "dim"),
    DeviceState.RUNNING: ("▸", "yellow"),
    DeviceState.DONE: ("✓", "green"),
    DeviceState.FAILED: ("✗", "bold red"),
    DeviceState.CANCELLED: ("-", "dim"),
    DeviceState.SKIPPED: ("-", "red"),
}
_ROW: Final = 40
_TITLES: Final = ("device", "stage", "outcome", "took", "certificate", "live below", "on record")
_WIDE_ONLY: Final = ("took", "certificate")


@dataclass(frozen=True, slots=True)
class Happened:
    """What was done to two devices, and seen of it.

    cut_ms: from the command to the closed socket. refused: how often the revoked device has come back in vain.
    """

    failed_device: str
    failed_code: str
    failed_detail: str
    revoked_device: str
    cut_ms: float
    refused: int


class CampaignScreen:
    """Draws each look in a terminal, and says what is new anywhere else."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._told: set[tuple[str, ...]] = set()

    def update(self, look: Look) -> None:
        """Show how it stands."""
        self._screen.draw(drawn(look))
        for happening in look.happenings:
            self._once(f"campaign {happening.event.value} by {happening.by or 'the server'}", happening.reason)
        for one in look.members:
            if one.state is not DeviceState.QUEUED:
                line = f"{one.device_id}: stage {one.stage + 1}, {one.state.value}"
                self._once(line, one.code or one.detail, one.job_id)

    def _once(self, line: str, why: str, *more: str) -> None:
        if (line, why, *more) not in self._told:
            self._told.add((line, why, *more))
            self._screen.line(f"{line} ({why})" if why else line)


def drawn(look: Look) -> Group:
    """Return a mark for each device, stage by stage, and below it why the campaign stands where it stands."""
    campaign = look.view.campaign
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for title in (f"{campaign.campaign_id}: {campaign.state.value}", "", "done", "failed", "skipped"):
        grid.add_column(title, justify="left" if title not in ("done", "failed", "skipped") else "right")
    for number, count in enumerate(look.view.counts):
        mark = "▸" if number == campaign.stage and campaign.state in OPEN else " "
        marks = Text()
        for place, one in enumerate(look.stage(number)):
            marks.append("\n" if place and place % _ROW == 0 else "")
            marks.append(*_MARKS[one.state])
        grid.add_row(f"{mark} stage {number + 1}", marks, str(count.done), str(count.failed), str(count.skipped))
    legend = "✓ done  ▸ under way  · queued  ✗ failed  - skipped"
    why = [Text(campaign.reason or legend, style="yellow" if campaign.reason else "dim")]
    return Group(Text(), grid, *why, *(Text(line, style="yellow") for line in look.troubles))


def ending(
    endings: Sequence[Ending], happened: Happened, rolled: Rollover, *, wall_s: float, wide: bool = True
) -> Group:
    """Return the last table, and the lines below it."""
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    titles = [title for title in _TITLES if wide or title not in _WIDE_ONLY]
    for title in titles:
        grid.add_column(title)
    for one in sorted(endings, key=lambda one: (one.member.stage, one.member.device_id)):
        cells = dict(zip(_TITLES, _cells(one, happened, rolled), strict=True))
        grid.add_row(*(cells[title] for title in titles))
    rotated, gone = sum(one.rotated for one in endings), sum(one.gone for one in endings)
    home = len(rolled.homes) - len(rolled.strayed)
    good = not astray(endings, revoked=happened.revoked_device) and not rolled.strayed
    style = "bold green" if good else "bold red"
    return Group(
        Text(),
        grid,
        Text(),
        Text.assemble(
            (f"{rotated} of {len(endings)} devices", style),
            f" rotated from a chair; {gone} revoked on the way, its socket closed ",
            (f"{happened.cut_ms:.0f} ms", "bold"),
            " after the command",
        ),
        Text.assemble(
            (f"{home} of {len(rolled.homes)}", style),
            f" then moved from {rolled.old} ({rolled.states[rolled.old]}) to {rolled.new} "
            f"({rolled.states[rolled.new]}), {len(rolled.sleepers)} of them after a sleep; ",
            (f"{wall_s:.1f} s", "bold"),
            " in all",
        ),
    )


def _cells(one: Ending, happened: Happened, rolled: Rollover) -> list[Text]:
    member, home = one.member, rolled.homes.get(one.member.device_id)
    why = member.detail if member.state is not DeviceState.DONE else ""
    if member.device_id == happened.failed_device:
        why = f"first: {happened.failed_code}"
    elif member.device_id == happened.revoked_device:
        why = f"came back, refused: {happened.refused}x"
    elif home is not None and home.home_s is not None:
        why = f"slept; home after {home.home_s:.1f} s"
    mark, style = _MARKS[member.state]
    serials = dict.fromkeys([one.before, one.after, *([home.serial] if home else [])])
    return [
        Text(member.device_id, style="cyan"),
        Text(str(member.stage + 1)),
        Text.assemble((mark, style), f" {member.state.value}"),
        Text(f"{one.took_s:5.2f} s" if one.took_s is not None else ""),
        Text(" → ".join(serial[:8] for serial in serials), style="dim"),
        _live_below(home, rolled),
        Text(why, no_wrap=True),
    ]


def _live_below(home: Home | None, rolled: Rollover) -> Text:
    """The CA of the certificate that the broker shows."""
    if home is None or not home.live:
        return Text("gone", style="red")
    return Text(home.below, style="green") if home.there(rolled.new) else Text(home.live[:8], style="red")


def result(
    look: Look, endings: Sequence[Ending], happened: Happened, rolled: Rollover, *, wall_s: float
) -> dict[str, object]:
    """Return the end as one JSON object."""
    return {
        "campaign": {
            "name": look.view.campaign.campaign_id,
            "state": look.view.campaign.state.value,
            "happenings": [
                {"event": one.event.value, "by": one.by, "reason": one.reason, "at": one.at.isoformat()}
                for one in look.happenings
            ],
        },
        "devices": [
            {
                "device_id": one.member.device_id,
                "stage": one.member.stage + 1,
                "outcome": one.member.state.value,
                "detail": one.member.detail,
                "took_s": one.took_s,
                "before": one.before,
                "after": one.after,
                "retired": one.retired,
                "live": one.live,
            }
            for one in endings
        ],
        **asdict(happened),
        "rollover": asdict(rolled),
        "complete": not astray(endings, revoked=happened.revoked_device) and not rolled.strayed,
        "wall_s": round(wall_s, 2),
    }
