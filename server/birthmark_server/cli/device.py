"""`birthmark device`: the devices on record, and what an operator may do to one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Final

import typer

from birthmark_server.cli.board_swap import ek_digest, swap_board
from birthmark_server.cli.broker_told import require_told
from birthmark_server.cli.device_options import WhichOfGroup
from birthmark_server.cli.device_standing import DeviceId, quarantine, readmit, restore, retire, revoke
from birthmark_server.cli.evidence_words import describe
from birthmark_server.cli.option_groups import grouped
from birthmark_server.cli.output import (
    Column,
    Json,
    Limit,
    heading,
    moment,
    parts,
    print_json,
    say,
    show,
    show_fields,
    who,
)
from birthmark_server.cli.software_device import add_software
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import DeviceState, Evidence
from birthmark_server.fleet import NextAction
from birthmark_server.web.api.bodies import Denial, TagChange
from birthmark_server.web.api.views import (
    CertificateView,
    DenialView,
    DeviceDetail,
    DeviceView,
    Health,
    RevocationView,
    SwapView,
)

app = typer.Typer(
    no_args_is_help=True,
    help="Devices on record: look, tag, quarantine, revoke, retire, deny, let back in, swap a board.",
)
app.command("add-software")(add_software)
app.command("swap")(swap_board)
for verb in (quarantine, restore, revoke, readmit, retire):
    app.command()(verb)


def _days_style(health: Health) -> str:
    late = health.next_action in (NextAction.RENEWAL_DUE, NextAction.RECOVERY)
    return "yellow" if late else ""


_STATE_STYLES: Final = {
    DeviceState.ACTIVE: "green",
    DeviceState.QUARANTINED: "yellow",
    DeviceState.REVOKED: "red",
    DeviceState.DENIED: "red bold",
}
_WITHDRAWALS: Final = {
    DeviceState.QUARANTINED: ("quarantine", "restored by"),
    DeviceState.REVOKED: ("revocation", "readmitted by"),
    DeviceState.RETIRED: ("retirement", "readmitted by"),
}
"""What each is called, and its end."""

_DEVICES = (
    Column[DeviceView]("device", lambda device: device.device_id),
    Column[DeviceView]("serial", lambda device: device.serial),
    Column[DeviceView]("model", lambda device: device.model),
    Column[DeviceView](
        "state", lambda device: device.state.value, lambda device: _STATE_STYLES.get(device.state, "dim")
    ),
    Column[DeviceView]("proof", lambda device: device.assurance.value),
    Column[DeviceView]("enrolled", lambda device: device.enrolled_at),
    Column[DeviceView]("last seen", lambda device: device.last_seen_at),
    Column[DeviceView]("days left", lambda device: device.health.days_left, lambda device: _days_style(device.health)),
    Column[DeviceView]("next", lambda device: device.health.next_action.value),
    Column[DeviceView]("tags", lambda device: device.tags),
)

_CERTIFICATES = (
    Column[CertificateView]("profile", lambda record: record.profile.value),
    Column[CertificateView]("serial number", lambda record: record.serial_number),
    Column[CertificateView]("sha256", lambda record: record.sha256, "dim"),
    Column[CertificateView]("from", lambda record: record.not_before),
    Column[CertificateView]("until", lambda record: record.not_after),
    Column[CertificateView](
        "revoked",
        lambda record: (
            f"{moment(record.revoked_at)} {record.reason or ''} by {who(record.revoked_by)}"
            if record.revoked_at
            else "-"
        ),
    ),
)

_DENIALS = (
    Column[DenialView]("device", lambda entry: entry.device_id),
    Column[DenialView]("serial", lambda entry: entry.serial),
    Column[DenialView]("EK", lambda entry: entry.ek_sha256, "dim"),
    Column[DenialView]("why", lambda entry: entry.reason),
    Column[DenialView]("denied by", lambda entry: entry.denied_by),
    Column[DenialView]("at", lambda entry: entry.denied_at),
)


@app.command("list")
@grouped
def list_devices(context: typer.Context, which: WhichOfGroup, limit: Limit = 1000, as_json: Json = False) -> None:
    """List the devices on record, by id.

    Example:  birthmark device list --tag plant-7 --expiring-before 7d --json
    """
    query = which.query()
    with workplace(context).desk() as desk:
        devices = list(parts(lambda after, size: desk.devices(query, after=after, limit=size), limit=limit))
    show(devices, _DEVICES, as_json=as_json, empty="no such devices; who was sent away: birthmark refusal list")


@app.command("show")
def show_device(context: typer.Context, device_id: DeviceId, as_json: Json = False) -> None:
    """Show one device: its record, its health, what operators did to it, its certificates, and what each decision
    rested on.

    The epoch counts what was decided about the device (birth, swap, quarantine, revocation, their end): an answer to a
    request that began under an older one is never given.

    Example:  birthmark device show edge-000042
    """
    with workplace(context).desk() as desk:
        detail = desk.device(device_id)
    if as_json:
        print_json(detail.model_dump(mode="json"))
        return
    _show_detail(detail)


def _show_detail(detail: DeviceDetail) -> None:
    record = {name: getattr(detail.device, name) for name in DeviceView.model_fields if name != "health"}
    show_fields((name.replace("_", " "), value) for name, value in record.items())
    heading("health")
    show_fields((name.replace("_", " "), value) for name, value in detail.device.health)
    for swap in (*filter(None, [detail.swap]), *detail.past_swaps):
        heading("board swap")
        show_fields(_swap_words(swap))
    for revocation in detail.revocations:
        heading(_WITHDRAWALS[revocation.state][0])
        show_fields(_revocation_words(revocation))
    if detail.denial is not None:
        heading("denied for good")
        denied_by = f"{detail.denial.denied_by}, {moment(detail.denial.denied_at)}"
        show_fields((("by", denied_by), ("why", detail.denial.reason)))
    heading("certificates")
    show(detail.certificates, _CERTIFICATES, as_json=False, empty="no certificates")
    for item in detail.evidence:
        heading("evidence")
        parts_ = tuple((name, bytes.fromhex(data)) for name, data in item.parts.items())
        show_fields(describe(item.at, Evidence(item.kind, item.verifier_version, item.roots_version, parts_)))


def _swap_words(swap: SwapView) -> Iterator[tuple[str, object]]:
    yield "new EK", swap.new_ek_sha256
    yield "asked by", f"{swap.requested_by}, {moment(swap.requested_at)}"
    if swap.approved_at is not None:
        yield "approved by", f"{swap.approved_by}, {moment(swap.approved_at)}"
    if swap.ended_at is not None:
        yield "ended", moment(swap.ended_at)
        return
    if swap.approved_at is None:
        yield "approved by", "nobody yet; another operator: birthmark device swap ID --approve --new-ek SHA256"
        return
    over = swap.expires_at is not None and swap.expires_at <= now()
    yield "may enroll until", f"{moment(swap.expires_at)}{', which is over: ask anew' if over else ''}"


def _revocation_words(revocation: RevocationView) -> Iterator[tuple[str, object]]:
    yield "by", f"{who(revocation.by)}, {moment(revocation.at)}"
    if revocation.state is not DeviceState.QUARANTINED:
        yield "why", revocation.reason.value
    if revocation.note:
        yield "note", revocation.note
    if revocation.lifted_at is not None:
        yield _WITHDRAWALS[revocation.state][1], f"{who(revocation.lifted_by)}, {moment(revocation.lifted_at)}"


@app.command("denials")
def list_denials(context: typer.Context, limit: Limit = 1000, as_json: Json = False) -> None:
    """List what was denied for good, and by whom; of what was never seen too.

    Example:  birthmark device denials --json
    """
    with workplace(context).desk() as desk:
        denials = list(parts(lambda after, size: desk.denials(after=after, limit=size), limit=limit))
    show(denials, _DENIALS, as_json=as_json, empty="nothing is denied")


@app.command()
def deny(
    context: typer.Context,
    reason: Annotated[str, typer.Option(help="Why, for whoever reads the list later.")],
    device_id: Annotated[str, typer.Argument(metavar="[ID]", help="The device's id.")] = "",
    serial: Annotated[str, typer.Option(help="A serial number that must never enroll.")] = "",
    ek: Annotated[list[str] | None, typer.Option(metavar="SHA256", help="An EK that must never enroll.")] = None,
    operator: OperatorFile = None,
) -> None:
    """Deny a device for good: its id, its serial number, its EK, and for batch windows every other EK that it showed.

    Works for devices that were never seen too, by serial number or EK.

    Example:  birthmark device deny edge-000042 --reason "stolen from the van, case 7731"
    """
    keys = tuple(ek_digest(value) for value in ek or ())
    if not (device_id or serial or keys):
        raise typer.BadParameter("want a device id, --serial or --ek")
    denial = Denial(device_id=device_id or None, serial=serial or None, ek_sha256=keys, reason=reason)
    with workplace(context).desk(operator) as desk:
        cut = desk.deny(denial)
    say(f"denied for good, says {cut.by}: {', '.join(filter(None, (device_id, serial, *keys)))}")
    if cut.devices:
        say(f"devices on record that this ends: {', '.join(cut.devices)}")
    require_told(cut.broker)


@app.command()
def tag(
    context: typer.Context,
    device_id: DeviceId,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="What to call it: a-z, 0-9 and '._:-'.")],
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Give a device tags, for lists, groups and campaigns.

    Example:  birthmark device tag edge-000042 plant-7 canary
    """
    _change_tags(context, device_id, TagChange(add=tuple(tags)), operator, as_json=as_json)


@app.command()
def untag(
    context: typer.Context,
    device_id: DeviceId,
    tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="What to call it no longer.")],
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Take tags off a device; one that it does not have is no error.

    Example:  birthmark device untag edge-000042 canary
    """
    _change_tags(context, device_id, TagChange(remove=tuple(tags)), operator, as_json=as_json)


def _change_tags(
    context: typer.Context, device_id: str, change: TagChange, operator: Path | None, *, as_json: bool
) -> None:
    with workplace(context).desk(operator) as desk:
        tagged = desk.change_tags(device_id, change)
    if as_json:
        print_json(tagged.model_dump())
    else:
        say(f"{device_id}: {', '.join(tagged.tags) or 'no tags'}")
