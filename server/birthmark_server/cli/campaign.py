"""`birthmark campaign`: rotate many devices' certificates, in stages, from a chair.

The servers do the work: a command plans, starts, steers or looks, here or from afar, through the desk.
"""

import json
import time
from collections.abc import Iterator
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live

from birthmark_server.campaigns import OPEN, CampaignState, DeviceState
from birthmark_server.cli.campaign_options import How
from birthmark_server.cli.campaign_pictures import (
    CAMPAIGNS,
    MEMBERS,
    picture,
    show_happenings,
    show_plan,
    show_selection,
)
from birthmark_server.cli.campaign_steering import HELP, Name, steering_command
from birthmark_server.cli.device_options import WhichOfGroup
from birthmark_server.cli.https import ServerUnreachable
from birthmark_server.cli.option_groups import grouped
from birthmark_server.cli.output import (
    Json,
    Limit,
    counted,
    end_drawing,
    heading,
    parts,
    plain,
    print_json,
    say,
    show,
)
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.web.api.campaigns.bodies import (
    CampaignDeviceQuery,
    CampaignPlan,
    CampaignQuery,
    NewCampaign,
    Steering,
)
from birthmark_server.web.api.campaigns.views import CampaignView
from birthmark_server.web.api.desk import Desk

app = typer.Typer(no_args_is_help=True, help="Campaigns: rotate many devices' certificates, in stages.")

_LOOK_S: Final = 0.5
_PATIENCE_S: Final = 60
_NO_ANSWER: Final = "no answer from the server; trying again"


@app.command()
@grouped
def plan(context: typer.Context, which: WhichOfGroup, how: How, as_json: Json = False) -> None:
    """Say what a campaign would do, and do nothing: who, who not and why, the load of each hour, when it would end.

    Example:  birthmark campaign plan --tag plant-7 --expiring-before 10d --canaries 5 --stages 10,50,100
    """
    asked = CampaignPlan(selection=which.query(), strategy=how.strategy())
    with workplace(context).desk() as desk:
        dry = desk.campaigns.plan(asked)
    if as_json:
        print_json(plain(dry))
    else:
        show_plan(dry)


@app.command()
@grouped
def start(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for it: a-z, 0-9 and -.")],
    which: WhichOfGroup,
    how: How,
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Start a campaign; the servers take it up within a second. See first what it would do: birthmark campaign plan.

    Example:  birthmark campaign start winter --expiring-before 10d --canaries 5 --stages 10,50,100 --approval
    """
    asked = NewCampaign(name=name, selection=which.query(), strategy=how.strategy())
    with workplace(context).desk(operator) as desk:
        begun = desk.campaigns.start(asked)
    if as_json:
        print_json(plain(begun))
    over = counted(begun.total.total, "device")
    say(f"campaign {name} runs over {over}; see it with: birthmark campaign watch {name}")


@app.command()
def watch(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Draw a campaign live until it has ended. --json: one line for each change. A server that is away for less than a
    minute is waited for.

    Example:  birthmark campaign watch winter
    """
    with workplace(context).desk() as desk:
        looks = _looks(desk, name)
        if as_json:
            _watch_lines(looks)
            return
        console = Console(highlight=False)
        seen = desk.campaigns.campaign(name).campaign
        with Live(picture(seen, width=console.width), console=console, refresh_per_second=4) as live:
            for look in looks:
                live.update(picture(look or seen, width=console.width, note="" if look else _NO_ANSWER))
                seen = look or seen
        end_drawing(console)


def _looks(desk: Desk, name: str) -> Iterator[CampaignView | None]:
    """Yield a campaign as it stands, again and again until it has ended; None while the server can't be reached, which
    ends the watch after a minute. The first look is never None."""
    answered = time.monotonic()
    look: CampaignView | None = desk.campaigns.campaign(name).campaign
    while True:
        yield look
        if look is not None and look.state not in OPEN:
            return
        time.sleep(_LOOK_S)
        try:
            look = desk.campaigns.campaign(name).campaign
            answered = time.monotonic()
        except ServerUnreachable:
            if time.monotonic() - answered > _PATIENCE_S:
                raise
            look = None


def _watch_lines(looks: Iterator[CampaignView | None]) -> None:
    before = None
    for look in looks:
        if look is not None and look != before:
            typer.echo(json.dumps(plain(look)))
            before = look


@app.command("list")
def list_campaigns(
    context: typer.Context,
    state: Annotated[CampaignState | None, typer.Option(help="Only those in this state.")] = None,
    device: Annotated[str, typer.Option(metavar="ID", help="Only those that this device is in.")] = "",
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List campaigns, newest first.

    Example:  birthmark campaign list --state running
    """
    query = CampaignQuery(state=state, device_id=device or None)
    with workplace(context).desk() as desk:
        found = list(parts(lambda after, size: desk.campaigns.campaigns(query, after=after, limit=size), limit=limit))
    show(found, CAMPAIGNS, as_json=as_json, empty="no campaigns; see what one would do: birthmark campaign plan")


@app.command("show")
def show_campaign(
    context: typer.Context,
    name: Name,
    state: Annotated[DeviceState | None, typer.Option(help="Only devices of this state.")] = None,
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """Show a campaign: its stages, what happened to it and by whom, and each device with its outcome and why.

    Example:  birthmark campaign show winter --state failed
    """
    query = CampaignDeviceQuery(state=state)
    with workplace(context).desk() as desk:
        detail = desk.campaigns.campaign(name)
        devices = list(
            parts(lambda after, size: desk.campaigns.devices(name, query, after=after, limit=size), limit=limit)
        )
    if as_json:
        print_json({**plain(detail), "devices": plain(devices)})
        return
    console = Console(highlight=False)
    console.print(picture(detail.campaign, width=console.width))
    show_selection(detail.selection)
    show_happenings(detail.happenings)
    heading("devices")
    show(devices, MEMBERS, as_json=False, empty="no such devices")


for _steering in Steering:
    app.command(_steering.value, help=HELP[_steering])(steering_command(_steering))
