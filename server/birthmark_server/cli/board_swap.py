"""`birthmark device swap`: another board for a device, asked for by one operator and approved by another."""

from pathlib import Path
from typing import Annotated

import typer

from birthmark_server.cli.broker_told import require_told
from birthmark_server.cli.device_standing import DeviceId
from birthmark_server.cli.output import moment, say
from birthmark_server.cli.workplace import workplace
from birthmark_server.errors import Malformed
from birthmark_server.web.api.bodies import SwapApproval, SwapRequest
from birthmark_server.web.api.desk import Desk


def swap_board(
    context: typer.Context,
    device_id: DeviceId,
    operator: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="On the server's machine: who asks or approves: their certificate with its key, PEM or PKCS #12.",
        ),
    ] = None,
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
    place = workplace(context)
    if operator is None and place.remote() is None:
        raise typer.BadParameter("is missing: a board swap takes two proven operators", param_hint="--operator")
    ek_sha256 = new_ek and ek_digest(new_ek)
    with place.desk(operator) as desk:
        if approve:
            _approve(desk, device_id, ek_sha256)
        else:
            _ask(desk, device_id, ek_sha256)


def _ask(desk: Desk, device_id: str, new_ek: str) -> None:
    asked = desk.ask_swap(device_id, SwapRequest(new_ek_sha256=new_ek))
    say(f"{asked.requested_by} asks for a new board for {device_id}, with EK {new_ek}; another operator approves that:")
    say(f"  birthmark device swap {device_id} --approve --new-ek {new_ek} --operator FILE")


def _approve(desk: Desk, device_id: str, new_ek: str) -> None:
    done = desk.approve_swap(device_id, SwapApproval(new_ek_sha256=new_ek or None))
    swap = done.swap
    say(
        f"{swap.requested_by} asked, {swap.approved_by} approved: the TPM with EK {swap.new_ek_sha256} may enroll as "
        f"{device_id} until {moment(swap.expires_at)}"
    )
    require_told(done.cut.broker)


def ek_digest(value: str) -> str:
    """Return the SHA-256 of an EK, as typed, in 64 lower-case hex digits; raise Malformed."""
    digest = value.lower().replace(":", "")
    if len(digest) != 64 or any(character not in "0123456789abcdef" for character in digest):
        raise Malformed(f"want the SHA-256 of an EK in 64 hex digits, got {value[:80]!r}")
    return digest
