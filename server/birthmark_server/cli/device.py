"""`birthmark device`: the devices on record, and what an operator may do to one."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from birthmark_server.cli.cut_off import cut_off
from birthmark_server.cli.device_standing import DeviceId, quarantine, readmit, restore, retire, revoke
from birthmark_server.cli.evidence_words import describe
from birthmark_server.cli.output import (
    Column,
    Json,
    Limit,
    heading,
    moment,
    pages,
    plain,
    print_json,
    say,
    show,
    show_fields,
    show_one,
    who,
)
from birthmark_server.cli.software_device import add_software
from birthmark_server.cli.workplace import OperatorFile, now, workplace
from birthmark_server.domain import (
    BoardSwap,
    CertificateRecord,
    DenyEntry,
    Device,
    DeviceRevocation,
    DeviceState,
)
from birthmark_server.errors import Malformed
from birthmark_server.store.protocol import Store

app = typer.Typer(
    no_args_is_help=True, help="Devices on record: look, quarantine, revoke, retire, deny, let back in, swap a board."
)
app.command("add-software")(add_software)
for verb in (quarantine, restore, revoke, readmit, retire):
    app.command()(verb)

SWAP_WINDOW: Final = timedelta(hours=24)
"""How long after its approval the new board may come (design: within 24 hours)."""

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
    Column[Device]("device", lambda device: device.device_id),
    Column[Device]("serial", lambda device: device.serial),
    Column[Device]("model", lambda device: device.model),
    Column[Device]("state", lambda device: device.state.value, lambda device: _STATE_STYLES.get(device.state, "dim")),
    Column[Device]("proof", lambda device: device.assurance.value),
    Column[Device]("enrolled", lambda device: device.enrolled_at),
    Column[Device]("last seen", lambda device: device.last_seen_at),
)

_CERTIFICATES = (
    Column[CertificateRecord]("profile", lambda record: record.profile.value),
    Column[CertificateRecord]("serial number", lambda record: record.serial_number),
    Column[CertificateRecord]("sha256", lambda record: record.sha256, "dim"),
    Column[CertificateRecord]("from", lambda record: record.not_before),
    Column[CertificateRecord]("until", lambda record: record.not_after),
    Column[CertificateRecord](
        "revoked",
        lambda record: (
            f"{moment(record.revoked_at)} {record.reason or ''} by {who(record.revoked_by)}"
            if record.revoked_at
            else "-"
        ),
    ),
)

_DENIALS = (
    Column[DenyEntry]("device", lambda entry: entry.device_id),
    Column[DenyEntry]("serial", lambda entry: entry.serial),
    Column[DenyEntry]("EK", lambda entry: entry.ek_sha256, "dim"),
    Column[DenyEntry]("why", lambda entry: entry.reason),
    Column[DenyEntry]("denied by", lambda entry: entry.denied_by),
    Column[DenyEntry]("at", lambda entry: entry.denied_at),
)


@app.command("list")
def list_devices(
    context: typer.Context,
    state: Annotated[DeviceState | None, typer.Option(help="Only those in this state.")] = None,
    model: Annotated[str, typer.Option(help="Only those of this model.")] = "",
    batch: Annotated[str, typer.Option(help="Only those born in this batch.")] = "",
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List the devices on record, by id.

    Example:  birthmark device list --state revoked --json
    """
    with workplace(context).store() as store:
        devices = list(
            pages(
                lambda after, size: store.list_devices(state=state, model=model, batch=batch, after=after, limit=size),
                lambda device: device.device_id,
                limit=limit,
            )
        )
    show(
        devices,
        _DEVICES,
        as_json=as_json,
        empty="no such devices; who was sent away: birthmark refusal list",
    )


@app.command("show")
def show_device(context: typer.Context, device_id: DeviceId, as_json: Json = False) -> None:
    """Show one device: its record, what operators did to it, its certificates, and what each decision rested on.

    The epoch counts what was decided about the device (birth, swap, quarantine, revocation, their end): an answer to a
    request that began under an older one is never given.

    Example:  birthmark device show edge-000042
    """
    with workplace(context).store() as store:
        device = store.get_device(device_id)
        swaps = store.device_swaps(device_id)
        revocations = store.device_revocations(device_id)
        denial = store.denied_match(device_id=device_id, serial=device.serial)
        certificates = store.device_certificates(device_id)
        evidence = store.device_evidence(device_id)
    if as_json:
        print_json(
            {
                "device": plain(device),
                "swap": plain(next((swap for swap in swaps if swap.ended_at is None), None)),
                "past_swaps": plain([swap for swap in swaps if swap.ended_at is not None]),
                "revocations": plain(revocations),
                "denial": plain(denial),
                "certificates": plain(certificates),
                "evidence": [
                    {"at": plain(at), "kind": item.kind, "verifier_version": item.verifier_version,
                     "roots_version": item.roots_version, "parts": {name: data.hex() for name, data in item.parts}}
                    for at, item in evidence
                ],
            }
        )  # fmt: skip
        return
    show_one(device, as_json=False)
    for swap in swaps:
        heading("board swap")
        show_fields(_swap_words(swap))
    for revocation in revocations:
        heading(_WITHDRAWALS[revocation.state][0])
        show_fields(_revocation_words(revocation))
    if denial is not None:
        heading("denied for good")
        show_fields((("by", f"{denial.denied_by}, {moment(denial.denied_at)}"), ("why", denial.reason)))
    heading("certificates")
    show(certificates, _CERTIFICATES, as_json=False, empty="no certificates")
    for at, item in evidence:
        heading("evidence")
        show_fields(describe(at, item))


def _swap_words(swap: BoardSwap) -> Iterator[tuple[str, object]]:
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


def _revocation_words(revocation: DeviceRevocation) -> Iterator[tuple[str, object]]:
    yield "by", f"{who(revocation.by)}, {moment(revocation.at)}"
    if revocation.state is not DeviceState.QUARANTINED:
        yield "why", revocation.reason.value
    if revocation.note:
        yield "note", revocation.note
    if revocation.lifted_at is not None:
        yield _WITHDRAWALS[revocation.state][1], f"{who(revocation.lifted_by)}, {moment(revocation.lifted_at)}"


@app.command("denials")
def list_denials(context: typer.Context, as_json: Json = False) -> None:
    """List what was denied for good, and by whom; of what was never seen too.

    Example:  birthmark device denials --json
    """
    with workplace(context).store() as store:
        denials = store.list_denied()
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
    keys = tuple(_sha256(value) for value in ek or ())
    if not (device_id or serial or keys):
        raise typer.BadParameter("want a device id, --serial or --ek")
    with workplace(context).store() as store:
        if device_id:
            store.get_device(device_id)
        actor = workplace(context).actor(store, operator)
        met = store.deny(
            DenyEntry(
                device_id=device_id, serial=serial, ek_sha256=keys, reason=reason, denied_by=actor, denied_at=now()
            )
        )
        certificates = [record for met_id in met for record in store.device_certificates(met_id)]
    say(f"denied for good, says {actor}: {', '.join(filter(None, (device_id, serial, *keys)))}")
    if met:
        say(f"devices on record that this ends: {', '.join(met)}")
    cut_off(workplace(context).settings(), certificates, denied_ids=met)


@app.command()
def swap(
    context: typer.Context,
    device_id: DeviceId,
    operator: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Who asks or approves: their certificate with its key, PEM or PKCS #12."),
    ],
    new_ek: Annotated[
        str,
        typer.Option(metavar="SHA256", help="The EK of the new board's TPM; with --approve: approve this one only."),
    ] = "",
    approve: Annotated[bool, typer.Option("--approve", help="Approve what another operator asked for.")] = False,
) -> None:
    """Give a device another board: one operator asks, another approves.

    At the approval every old certificate is revoked and the old TPM is denied. The board with the new EK, and no other,
    may then enroll as this device within 24 hours.

    Example:  birthmark device swap edge-000042 --new-ek 5d41...c592 --operator alice.pem

              birthmark device swap edge-000042 --approve --new-ek 5d41...c592 --operator bob.pem

    What waits for approval: birthmark device show ID.
    """
    if not (approve or new_ek):
        raise typer.BadParameter("want --new-ek SHA256 (to ask) or --approve (as another operator)")
    ek_sha256 = new_ek and _sha256(new_ek)
    with workplace(context).store() as store:
        name = workplace(context).operator(store, operator).name
        if approve:
            old = _approve(store, device_id, ek_sha256, name)
            cut_off(workplace(context).settings(), old)
        else:
            _ask(store, device_id, ek_sha256, name)


def _ask(store: Store, device_id: str, new_ek: str, name: str) -> None:
    store.request_swap(BoardSwap(device_id=device_id, new_ek_sha256=new_ek, requested_by=name, requested_at=now()))
    say(f"{name} asks for a new board for {device_id}, with EK {new_ek}; another operator approves that:")
    say(f"  birthmark device swap {device_id} --approve --new-ek {new_ek} --operator FILE")


def _approve(store: Store, device_id: str, new_ek: str, name: str) -> list[CertificateRecord]:
    """Return the old board's certificates, all revoked now."""
    at = now()
    approved = store.approve_swap(device_id, new_ek_sha256=new_ek, by=name, at=at, expires_at=at + SWAP_WINDOW)
    say(
        f"{approved.requested_by} asked, {name} approved: the TPM with EK {approved.new_ek_sha256} may enroll as "
        f"{device_id} until {moment(approved.expires_at)}"
    )
    return store.device_certificates(device_id)


def _sha256(value: str) -> str:
    digest = value.lower().replace(":", "")
    if len(digest) != 64 or any(character not in "0123456789abcdef" for character in digest):
        raise Malformed(f"want the SHA-256 of an EK in 64 hex digits, got {value[:80]!r}")
    return digest
