"""`birthmark campaign`: rotate many devices' certificates, in stages, from a chair.

What it needs is behind one service (rotation/campaigning.py); the servers do the work.
"""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from birthmark_server.campaigns import OPEN, CampaignState, DeviceState, DryRun, Member, Selector
from birthmark_server.cli import campaign_options as given
from birthmark_server.cli.output import Column, Json, Limit, heading, moment, plain, print_json, say, show, show_fields
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.roles import STEERING
from birthmark_server.rotation.campaigning import CampaignService, View
from birthmark_server.store.protocol import Store

app = typer.Typer(no_args_is_help=True, help="Campaigns: rotate many devices' certificates, in stages.")

Name = Annotated[str, typer.Argument(help="The campaign's name.")]
Reason = Annotated[str, typer.Option(help="Why; it is on record.")]

_LOOK_S: Final = 0.5
_STYLES: Final = {
    CampaignState.RUNNING: "green",
    CampaignState.PAUSED: "yellow",
    CampaignState.HOLDING: "yellow",
    CampaignState.DONE: "dim",
    CampaignState.ABORTED: "red",
}
_VIEWS: Final = (
    Column[View]("campaign", lambda view: view.campaign.campaign_id),
    Column[View]("state", lambda view: view.campaign.state.value, lambda view: _STYLES[view.campaign.state]),
    Column[View]("stage", lambda view: f"{view.campaign.stage + 1} of {len(view.counts)}"),
    Column[View]("devices", lambda view: view.total.total),
    Column[View]("done", lambda view: view.total.done),
    Column[View]("failed", lambda view: view.total.failed),
    Column[View]("begun", lambda view: view.campaign.created_at),
    Column[View]("by", lambda view: view.campaign.created_by),
    Column[View]("because", lambda view: view.campaign.reason),
)
_MEMBERS: Final = (
    Column[Member]("device", lambda member: member.device_id),
    Column[Member]("stage", lambda member: member.stage + 1),
    Column[Member]("state", lambda member: member.state.value),
    Column[Member]("code", lambda member: member.code),
    Column[Member]("detail", lambda member: member.detail),
)


def _actor(context: typer.Context, store: Store, operator: Path | None) -> str:
    return workplace(context).actor(store, operator, allowed=STEERING, what="campaigns")


@contextmanager
def _service(context: typer.Context) -> Iterator[tuple[CampaignService, Store]]:
    with workplace(context).sql_store() as store:
        yield CampaignService(campaigns=store.campaigns, now=now, seed=lambda: secrets.randbits(64)), store


def _selector(
    context: typer.Context,
    device: list[str] | None,
    model: str,
    batch: str,
    issued_by: str,
    expiring_before: str,
    never_rotated: bool,
) -> Selector:
    issuer = ""
    if issued_by:
        from birthmark_server.ca.authority import Authority

        folder = Path(workplace(context).settings().ca.folder)
        issuer = Authority.load(folder, passphrase=None, now=now()).issuer_named(issued_by).sha256
    until = given.moment_of(expiring_before)
    return Selector(tuple(dict.fromkeys(device or ())), model, batch, issuer, until, never_rotated)


@app.command()
def plan(
    context: typer.Context,
    device: given.DeviceIds = None,
    model: given.Model = "",
    batch: given.Batch = "",
    issued_by: given.IssuedBy = "",
    expiring_before: given.Expiring = "",
    never_rotated: given.NeverRotated = False,
    canaries: given.Canaries = 0,
    stages: given.Stages = "100",
    rate: given.RateText = "",
    window: given.Windows = None,
    at_once: given.AtOnce = 500,
    success: given.Success = 95,
    abort_at: given.Abort = 20,
    abort_sample: given.Sample = 10,
    approval: given.Approval = False,
    check: given.Check = "",
    late_joiners: given.LateJoiners = False,
    deadline: given.Deadline = "24h",
    as_json: Json = False,
) -> None:
    """Say what a campaign would do, and do nothing: who, who not and why, the load of each hour, when it would end.

    Example:  birthmark campaign plan --expiring-before 10d --canaries 5 --stages 10,50,100
    """
    selector = _selector(context, device, model, batch, issued_by, expiring_before, never_rotated)
    strategy = given.strategy(
        canaries=canaries,
        stages=stages,
        rate=rate,
        window=window,
        at_once=at_once,
        success=success,
        abort_at=abort_at,
        abort_sample=abort_sample,
        approval=approval,
        check=check,
        late_joiners=late_joiners,
        deadline=deadline,
    )
    with _service(context) as (service, _):
        dry = service.plan(selector, strategy)
    if as_json:
        print_json(plain(dry))
    else:
        _show_dry_run(dry)


def _show_dry_run(dry: DryRun) -> None:
    told = sum(map(len, dry.stages))
    ends = moment(dry.forecast.ends_at) if dry.forecast and dry.forecast.ends_at else "not within a year"
    show_fields(
        [
            ("devices", told),
            ("of them offline", f"{len(dry.offline)}, each gets its job when it says hello" if dry.offline else "none"),
            ("left out", len(dry.left_out)),
            ("expected end", f"{ends}, holds and offline devices aside"),
        ]
    )
    heading("stages")
    show_fields((f"{number}", f"{len(stage)} devices") for number, stage in enumerate(dry.stages, 1))
    if dry.left_out:
        heading("left out, and why")
        show_fields(sorted(dry.left_out.items()))
    if dry.forecast and dry.forecast.hours:
        heading("load by the hour: devices, signatures, messages")
        show_fields(
            (moment(load.hour), f"{load.devices}  {load.signatures}  {load.messages}") for load in dry.forecast.hours
        )


@app.command()
def start(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="A name for it: a-z, 0-9 and -.")],
    device: given.DeviceIds = None,
    model: given.Model = "",
    batch: given.Batch = "",
    issued_by: given.IssuedBy = "",
    expiring_before: given.Expiring = "",
    never_rotated: given.NeverRotated = False,
    canaries: given.Canaries = 0,
    stages: given.Stages = "100",
    rate: given.RateText = "",
    window: given.Windows = None,
    at_once: given.AtOnce = 500,
    success: given.Success = 95,
    abort_at: given.Abort = 20,
    abort_sample: given.Sample = 10,
    approval: given.Approval = False,
    check: given.Check = "",
    late_joiners: given.LateJoiners = False,
    deadline: given.Deadline = "24h",
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Start a campaign; the servers take it up within a second. See first what it would do: birthmark campaign plan.

    Example:  birthmark campaign start winter --expiring-before 10d --canaries 5 --stages 10,50,100 --approval
    """
    selector = _selector(context, device, model, batch, issued_by, expiring_before, never_rotated)
    strategy = given.strategy(
        canaries=canaries,
        stages=stages,
        rate=rate,
        window=window,
        at_once=at_once,
        success=success,
        abort_at=abort_at,
        abort_sample=abort_sample,
        approval=approval,
        check=check,
        late_joiners=late_joiners,
        deadline=deadline,
    )
    with _service(context) as (service, store):
        service.start(name, selector, strategy, by=_actor(context, store, operator))
        view = service.view(name)
    if as_json:
        print_json(plain(view))
    say(f"campaign {name} runs over {view.total.total} devices; see it with: birthmark campaign watch {name}")


@app.command()
def watch(context: typer.Context, name: Name, as_json: Json = False) -> None:
    """Draw a campaign live until it has ended, or holds for somebody. --json: one line for each change.

    Example:  birthmark campaign watch winter
    """
    with _service(context) as (service, _):
        view = service.view(name)
        if as_json:
            _watch_lines(service, view)
            return
        console = Console(highlight=False)
        with Live(_drawn(view), console=console, refresh_per_second=4) as live:
            while view.campaign.state in OPEN:
                time.sleep(_LOOK_S)
                view = service.view(name)
                live.update(_drawn(view))


def _watch_lines(service: CampaignService, view: View) -> None:
    import json

    seen = None
    while True:
        if view != seen:
            typer.echo(json.dumps(plain(view)))
            seen = view
        if view.campaign.state not in OPEN:
            return
        time.sleep(_LOOK_S)
        view = service.view(view.campaign.campaign_id)


def _drawn(view: View) -> Table:
    campaign = view.campaign
    title = f"{campaign.campaign_id}: [{_STYLES[campaign.state]}]{campaign.state.value}[/]"
    table = Table("stage", "", title=title, caption=campaign.reason or None, title_justify="left")
    for state in DeviceState:
        table.add_column(state.value, justify="right")
    for number, count in enumerate(view.counts):
        told = count.ended + count.cancelled + count.skipped
        filled = 20 * told // count.total if count.total else 20
        mark = ">" if number == campaign.stage and campaign.state in OPEN else " "
        bar = f"[green]{'█' * filled}[/][dim]{'░' * (20 - filled)}[/]"
        table.add_row(f"{mark} {number + 1}", bar, *(str(getattr(count, state.value)) for state in DeviceState))
    return table


@app.command("list")
def list_campaigns(context: typer.Context, as_json: Json = False) -> None:
    """List all campaigns, newest first.

    Example:  birthmark campaign list
    """
    with _service(context) as (service, _):
        views = service.views()
    show(views, _VIEWS, as_json=as_json, empty="no campaigns yet; see what one would do: birthmark campaign plan")


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
    with _service(context) as (service, _):
        view, happenings = service.view(name), service.happenings(name)
        members = [member for member, _ in zip(service.members(name, state=state), range(limit), strict=False)]
    if as_json:
        print_json({**plain(view), "happenings": plain(happenings), "devices": plain(members)})
        return
    Console(highlight=False).print(_drawn(view))
    heading("what happened")
    show_fields(
        (moment(one.at), f"{one.event.value} by {one.by or 'the server'}{': ' if one.reason else ''}{one.reason}")
        for one in happenings
    )
    heading("devices")
    show(members, _MEMBERS, as_json=False, empty="no such devices")


@app.command()
def pause(context: typer.Context, name: Name, reason: Reason = "", operator: OperatorFile = None) -> None:
    """Tell nobody any more. What is under way goes on.

    Example:  birthmark campaign pause winter --reason "storm at the plant"
    """
    with _service(context) as (service, store):
        service.pause(name, by=_actor(context, store, operator), reason=reason)
    say(f"campaign {name} is paused; go on with: birthmark campaign resume {name}")


@app.command()
def resume(context: typer.Context, name: Name, reason: Reason = "", operator: OperatorFile = None) -> None:
    """Go on after a pause.

    Example:  birthmark campaign resume winter
    """
    with _service(context) as (service, store):
        service.resume(name, by=_actor(context, store, operator), reason=reason)
    say(f"campaign {name} runs")


@app.command()
def approve(context: typer.Context, name: Name, reason: Reason = "", operator: OperatorFile = None) -> None:
    """Let a campaign that holds go on to its next stage.

    Example:  birthmark campaign approve winter --operator alice.pem
    """
    with _service(context) as (service, store):
        service.approve(name, by=_actor(context, store, operator), reason=reason)
    say(f"campaign {name} goes on to its next stage")


@app.command()
def abort(context: typer.Context, name: Name, reason: Reason = "", operator: OperatorFile = None) -> None:
    """End a campaign for good. A device whose new certificate is out finishes; the others keep the one that they have.

    Example:  birthmark campaign abort winter --reason "wrong CA"
    """
    with _service(context) as (service, store):
        service.abort(name, by=_actor(context, store, operator), reason=reason)
    say(f"campaign {name} is aborted, for good")


@app.command()
def retry(context: typer.Context, name: Name, reason: Reason = "", operator: OperatorFile = None) -> None:
    """Tell those that failed, or were skipped, once more. An aborted campaign stays aborted.

    Example:  birthmark campaign retry winter
    """
    with _service(context) as (service, store):
        service.retry(name, by=_actor(context, store, operator), reason=reason)
    say(f"campaign {name} tells those that failed once more")
