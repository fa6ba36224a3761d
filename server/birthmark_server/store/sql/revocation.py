"""Taking away, and letting back in. The device row is locked first, so that no issuance slips past.

Each revocation, retirement or quarantine of a device has a row of its own, which a readmission or restoration marks as
lifted. Where the device stands follows from its state alone; the rows say who did it and why, and to a replay whether
what it reads was lifted since.
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select, update

from birthmark_server.domain import CertificateRecord, Device, DeviceRevocation, DeviceState, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.device_states import Act, require_legal
from birthmark_server.store.journal_entries import DeviceRevoked, RevocationLifted
from birthmark_server.store.rows import revocation_from, revocation_values, to_us
from birthmark_server.store.sql.certificates import get_certificate, revoke_all, revoke_one
from birthmark_server.store.sql.devices import lock_device, set_state
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import DeviceRevocations, table_of

REVOCATIONS: Final = table_of(DeviceRevocations)

_INSERT: Final = insert_all(REVOCATIONS)
_OF_DEVICE: Final = Statement(
    select(REVOCATIONS).where(REVOCATIONS.c.device_id == bindparam("key")).order_by(REVOCATIONS.c.epoch)
)
_STANDING: Final = Statement(
    select(REVOCATIONS.c.epoch).where(
        REVOCATIONS.c.device_id == bindparam("device"), REVOCATIONS.c.lifted_at_us.is_(None)
    )
)
_LIFT: Final = Statement(
    update(REVOCATIONS)
    .where(
        REVOCATIONS.c.device_id == bindparam("device"),
        REVOCATIONS.c.epoch == bindparam("number"),
        REVOCATIONS.c.lifted_at_us.is_(None),
    )
    .values(lifted_at_us=bindparam("now"), lifted_by=bindparam("who"))
)
_KNOWN: Final = Statement(
    select(REVOCATIONS.c.epoch).where(
        REVOCATIONS.c.device_id == bindparam("device"), REVOCATIONS.c.epoch == bindparam("number")
    )
)


def device_revocations(tx: Transaction, device_id: str) -> list[DeviceRevocation]:
    return [revocation_from(row) for row in tx.rows(_OF_DEVICE, key=device_id)]


def revoke_device(
    tx: Transaction, device_id: str, reason: RevocationReason, at: datetime, by: str, note: str
) -> list[CertificateRecord]:
    _withdraw(tx, Act.REVOKE, device_id, reason, at, by, note)
    return revoke_all(tx, device_id, reason, at, by)


def retire_device(
    tx: Transaction, device_id: str, reason: RevocationReason, at: datetime, by: str, note: str
) -> list[CertificateRecord]:
    _withdraw(tx, Act.RETIRE, device_id, reason, at, by, note)
    return revoke_all(tx, device_id, reason, at, by)


def quarantine_device(tx: Transaction, device_id: str, at: datetime, by: str, note: str) -> Device:
    """No certificate is touched (ADR 0025): the state shuts every door, and the epoch ends what is under way."""
    return _withdraw(tx, Act.QUARANTINE, device_id, RevocationReason.UNSPECIFIED, at, by, note)


def readmit_device(tx: Transaction, device_id: str, at: datetime, by: str) -> Device:
    return _give_back(tx, Act.READMIT, device_id, at, by)


def restore_device(tx: Transaction, device_id: str, at: datetime, by: str) -> Device:
    return _give_back(tx, Act.RESTORE, device_id, at, by)


def _withdraw(
    tx: Transaction, act: Act, device_id: str, reason: RevocationReason, at: datetime, by: str, note: str
) -> Device:
    device, _ = lock_device(tx, device_id)
    device = set_state(tx, device, require_legal(device_id, device.state, act))
    state = DeviceState.REVOKED if device.state is DeviceState.DENIED else device.state
    revocation = DeviceRevoked(device_id, device.epoch, reason, at, by, state, note)
    put_revocation(tx, revocation)
    tx.tell(revocation)
    return device


def _give_back(tx: Transaction, act: Act, device_id: str, at: datetime, by: str) -> Device:
    device, _ = lock_device(tx, device_id)
    state = require_legal(device_id, device.state, act)
    for (epoch,) in tx.rows(_STANDING, device=device_id):
        lifted = RevocationLifted(device_id, epoch, at, by)
        lift_revocation(tx, lifted)
        tx.tell(lifted)
    return set_state(tx, device, state)


def revoke_certificate(
    tx: Transaction, sha256: str, reason: RevocationReason, at: datetime, by: str
) -> CertificateRecord:
    """The epoch rises too: a renewal that began under this very certificate must not end well."""
    device_id = get_certificate(tx, sha256).device_id
    device = lock_device(tx, device_id)[0] if device_id else None
    if revoke_one(tx, sha256, reason, at, by) and device is not None:
        set_state(tx, device, device.state)
    return get_certificate(tx, sha256)


# -- replay too


def put_revocation(tx: Transaction, entry: DeviceRevoked) -> bool:
    """Return True if this revocation was not on record.

    Where another one has its epoch, from another history or because a commit failed, it gets one below 0, which no
    device has: a readmission that lifts the other must not be taken to have lifted this one.
    """
    revocation = DeviceRevocation(
        entry.device_id, entry.epoch, entry.reason, entry.at, entry.by, state=entry.state, note=entry.note
    )
    if tx.run(_INSERT, **revocation_values(revocation)) == 1:
        return True
    known = device_revocations(tx, entry.device_id)
    if any((each.at, each.reason, each.state) == (entry.at, entry.reason, entry.state) for each in known):
        return False
    below = min(0, *(each.epoch for each in known)) - 1
    return tx.run(_INSERT, **revocation_values(replace(revocation, epoch=below))) == 1


def lift_revocation(tx: Transaction, entry: RevocationLifted) -> bool:
    """Return True if this revocation stood."""
    return tx.run(_LIFT, device=entry.device_id, number=entry.epoch, now=to_us(entry.at), who=entry.by) == 1


def revocation_is_known(tx: Transaction, entry: RevocationLifted) -> bool:
    return tx.row(_KNOWN, device=entry.device_id, number=entry.epoch) is not None
