"""`birthmark device quarantine|restore|revoke|retire|readmit`: where a device stands, changed by an operator.

What is legal from where is store/device_states.py's to say. Each verb offers the reasons of RFC 5280 §5.3.1 that it can
have; a quarantine has none, since it revokes no certificate (docs/adr/0025). The database decides first, the broker is
told next: if that fails the command ends with 3 and says what to do, and what was decided stands.
"""

from typing import Annotated

import typer

from birthmark_server.cli.broker_told import require_told
from birthmark_server.cli.output import Json, counted, print_json, say
from birthmark_server.cli.workplace import OperatorFile, workplace
from birthmark_server.web.api.bodies import DeviceRevocation, Quarantine, Retirement, RetireReason, RevokeReason
from birthmark_server.web.api.views import Standing

DeviceId = Annotated[str, typer.Argument(metavar="ID", help="The device's id.")]
Note = Annotated[str, typer.Option(help="More words, for whoever reads the record later.")]


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
        done = desk.quarantine_device(device_id, Quarantine(note=note))
    _end(
        done,
        f"{device_id} is in quarantine, says {done.by}; to end it: birthmark device restore {device_id}",
        as_json=as_json,
    )


def restore(context: typer.Context, device_id: DeviceId, operator: OperatorFile = None, as_json: Json = False) -> None:
    """End a device's quarantine: its certificates are good as before.

    Example:  birthmark device restore edge-000042 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        done = desk.restore_device(device_id)
    _end(done, f"the quarantine of {device_id} is over, says {done.by}", as_json=as_json)


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
        done = desk.revoke_device(device_id, DeviceRevocation(reason=reason, note=note))
    _end(
        done,
        f"{device_id} is revoked by {done.by}, with {counted(done.certificates, 'certificate')}",
        f"to let it enroll again: birthmark device readmit {device_id}",
        as_json=as_json,
    )


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
        done = desk.retire_device(device_id, Retirement(reason=reason, note=note))
    ended = counted(done.certificates, "certificate")
    _end(done, f"{device_id} is retired by {done.by}, with {ended}", as_json=as_json)


def readmit(context: typer.Context, device_id: DeviceId, operator: OperatorFile = None, as_json: Json = False) -> None:
    """Let a revoked or retired device enroll again. Its old certificates stay revoked: it attests its TPM anew.

    Example:  birthmark device readmit edge-000042 --operator alice.pem
    """
    with workplace(context).desk(operator) as desk:
        done = desk.readmit_device(device_id)
    _end(done, f"{device_id} may enroll again, says {done.by}", as_json=as_json)


def _end(done: Standing, *sentences: str, as_json: bool) -> None:
    """Say what was done. Raise BrokerNotTold, last."""
    if as_json:
        print_json(done.model_dump(mode="json"))
    for sentence in sentences:
        say(sentence)
    require_told(done.broker)
