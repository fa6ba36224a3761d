"""`birthmark device revoke|readmit|quarantine|restore|retire`: where a device stands, changed by an operator.

What is legal from where is store/device_states.py's to say. Each verb offers the reasons of RFC 5280 §5.3.1 that it can
have; a quarantine has none, since it revokes no certificate (docs/adr/0025). The database decides first, the broker is
told next: if that fails the command ends with 3 and says what to do, and what was decided stands.
"""

from enum import StrEnum
from typing import Annotated

import typer

from birthmark_server.cli.broker_told import require_told
from birthmark_server.cli.output import Json, print_json, say
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.domain import RevocationReason
from birthmark_server.web.api.bodies import Quarantine, Retirement, Revocation
from birthmark_server.web.api.views import Cut

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="The device's id.")]
Note = Annotated[str, typer.Option(help="More words, for whoever reads the record later.")]


class RevokeReason(StrEnum):
    """Why a device is revoked. The end of its service is `retire`, another board is `swap`."""

    UNSPECIFIED = RevocationReason.UNSPECIFIED.value
    KEY_COMPROMISE = RevocationReason.KEY_COMPROMISE.value
    AFFILIATION_CHANGED = RevocationReason.AFFILIATION_CHANGED.value
    PRIVILEGE_WITHDRAWN = RevocationReason.PRIVILEGE_WITHDRAWN.value


class RetireReason(StrEnum):
    """Why a device is retired: it is used no more, or is somebody else's."""

    CESSATION_OF_OPERATION = RevocationReason.CESSATION_OF_OPERATION.value
    AFFILIATION_CHANGED = RevocationReason.AFFILIATION_CHANGED.value


def revoke(
    context: typer.Context,
    device_id: DeviceId,
    reason: Annotated[RevokeReason, typer.Option(help="Why, as RFC 5280 §5.3.1 names it.")] = RevokeReason.UNSPECIFIED,
    note: Note = "",
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Revoke a device: all its certificates, and whatever it has begun. `readmit` lets it come back.

    Example:  birthmark device revoke edge-000042 --reason keyCompromise --note "case 7731"
    """
    with workplace(context).desk(operator) as desk:
        cut = desk.revoke_device(device_id, Revocation(reason=RevocationReason(reason.value), note=note))
    say(f"{device_id} is revoked by {cut.by}, with {cut.certificates} certificates")
    say(f"to let it enroll again: birthmark device readmit {device_id}")
    _end(cut, as_json=as_json)


def retire(
    context: typer.Context,
    device_id: DeviceId,
    reason: Annotated[
        RetireReason, typer.Option(help="Why, as RFC 5280 §5.3.1 names it.")
    ] = RetireReason.CESSATION_OF_OPERATION,
    note: Note = "",
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """End a device's service: all its certificates are revoked. `readmit` takes it out of the drawer again.

    Example:  birthmark device retire edge-000042 --note "scrapped, lot 3"
    """
    with workplace(context).desk(operator) as desk:
        cut = desk.retire_device(device_id, Retirement(reason=RevocationReason(reason.value), note=note))
    say(f"{device_id} is retired by {cut.by}, with {cut.certificates} certificates")
    _end(cut, as_json=as_json)


def quarantine(
    context: typer.Context,
    device_id: DeviceId,
    note: Annotated[str, typer.Option(help="Why, for whoever reads the record later.")],
    operator: OperatorFile = None,
    as_json: Json = False,
) -> None:
    """Shut a device out for the time being: off the broker, through no door; `restore` gives all of it back.

    Its certificates are not revoked, so CRLs and OCSP say nothing of it: where others than our doors and our broker
    trust them, revoke.

    Example:  birthmark device quarantine edge-000042 --note "odd traffic since Tuesday"
    """
    with workplace(context).desk(operator) as desk:
        cut = desk.quarantine_device(device_id, Quarantine(note=note))
    say(f"{device_id} is in quarantine, says {cut.by}; to end it: birthmark device restore {device_id}")
    _end(cut, as_json=as_json)


def restore(context: typer.Context, device_id: DeviceId, operator: OperatorFile = None, as_json: Json = False) -> None:
    """End a device's quarantine: its certificates are good as before.

    Example:  birthmark device restore edge-000042 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        cut = desk.restore_device(device_id)
    say(f"the quarantine of {device_id} is over, says {cut.by}")
    _end(cut, as_json=as_json)


def readmit(context: typer.Context, device_id: DeviceId, operator: OperatorFile = None, as_json: Json = False) -> None:
    """Let a revoked or retired device enroll again. Its old certificates stay revoked: it attests its TPM anew.

    Example:  birthmark device readmit edge-000042 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        device = desk.readmit_device(device_id)
    if as_json:
        print_json(device.model_dump(mode="json"))
    say(f"{device_id} may enroll again")


def _end(cut: Cut, *, as_json: bool) -> None:
    """Print what was done, then end with 3 if the broker does not know it."""
    if as_json:
        print_json(cut.model_dump(mode="json"))
    require_told(cut.broker)
