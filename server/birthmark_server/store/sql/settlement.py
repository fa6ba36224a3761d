"""After a replay: what was taken away is taken away, whatever else was told.

Two histories (before a restore, and after it without some journal) give one device different tellings, and the one with
the higher epoch may know nothing of the revocation in the other. So at the end of every replay each revocation,
retirement and quarantine that nobody lifted, and each denial, is held against the record once more. Nothing is ever
given back here.
"""

from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import ColumnElement, Select, exists, func, or_, select

from birthmark_server.domain import DeviceState, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import from_us
from birthmark_server.store.sql.certificates import CERTIFICATES, revoke_all
from birthmark_server.store.sql.denials import DENIALS, DENIED_KEYS
from birthmark_server.store.sql.devices import DEVICES, lock_device, set_state, severity
from birthmark_server.store.sql.endorsements import EKS
from birthmark_server.store.sql.revocation import REVOCATIONS
from birthmark_server.store.statement import Statement

_Loss: TypeAlias = tuple[str, DeviceState, RevocationReason, datetime, str]
"""A device, where it must stand, why, since when, and who said so."""

_ID: Final = "id:"
_SERIAL: Final = "serial:"
_EK: Final = "ek:"

_HOLDS_CERTIFICATES: Final = exists().where(
    CERTIFICATES.c.device_id == DEVICES.c.device_id, CERTIFICATES.c.revoked_at_us.is_(None)
)
_NOT_DENIED: Final = or_(DEVICES.c.state != DeviceState.DENIED.value, _HOLDS_CERTIFICATES)

_MILDER: Final = {
    DeviceState.REVOKED: (DeviceState.ACTIVE, DeviceState.QUARANTINED),
    DeviceState.RETIRED: (DeviceState.ACTIVE, DeviceState.QUARANTINED),
    DeviceState.QUARANTINED: (DeviceState.ACTIVE,),
}
"""Where a device may not stand while a revocation, retirement or quarantine of it does."""


def _withdrawn(state: DeviceState) -> Statement:
    due = or_(*(DEVICES.c.state == milder.value for milder in _MILDER[state]))
    return Statement(
        select(DEVICES.c.device_id, REVOCATIONS.c.reason, REVOCATIONS.c.at_us, REVOCATIONS.c.revoked_by)
        .join(REVOCATIONS, REVOCATIONS.c.device_id == DEVICES.c.device_id)
        .where(
            REVOCATIONS.c.lifted_at_us.is_(None),
            REVOCATIONS.c.state == state.value,
            due if state is DeviceState.QUARANTINED else or_(due, _HOLDS_CERTIFICATES),
        )
        .order_by(DEVICES.c.device_id, REVOCATIONS.c.epoch)
    )


_WITHDRAWN: Final = {state: _withdrawn(state) for state in _MILDER}


def _name(kind: str) -> ColumnElement[str]:
    """What a key of the deny list names, if it is of this kind."""
    return func.substr(DENIED_KEYS.c.key, len(kind) + 1)


def _denied(kind: str) -> Select[tuple[str, int, str]]:
    return (
        select(DEVICES.c.device_id, DENIALS.c.denied_at_us, DENIALS.c.denied_by)
        .select_from(DENIED_KEYS)
        .join(DENIALS, DENIALS.c.denial_id == DENIED_KEYS.c.denial_id)
        .where(func.substr(DENIED_KEYS.c.key, 1, len(kind)) == kind)
        .order_by(DEVICES.c.device_id, DENIALS.c.denied_at_us)
    )


_DENIED: Final = (
    Statement(_denied(_ID).join(DEVICES, DEVICES.c.device_id == _name(_ID)).where(_NOT_DENIED)),
    Statement(_denied(_SERIAL).join(DEVICES, DEVICES.c.serial == _name(_SERIAL)).where(_NOT_DENIED)),
    # An approved swap denies the old board's EK while the device waits for the new one, without any certificate.
    Statement(
        _denied(_EK)
        .join(EKS, EKS.c.ek_sha256 == _name(_EK))
        .join(DEVICES, DEVICES.c.device_id == EKS.c.device_id)
        .where(_HOLDS_CERTIFICATES)
    ),
)


def settle(tx: Transaction) -> int:
    """Take what is due from each device that has it still; return from how many."""
    if not _losses(tx):  # nearly always: every start comes this way
        return 0
    tx.lock_fleet()
    losses = _losses(tx)
    for device_id, state, reason, at, by in losses:
        device, _ = lock_device(tx, device_id)
        if severity(device.state) < severity(state):
            set_state(tx, device, state)
        if state is not DeviceState.QUARANTINED:
            revoke_all(tx, device_id, reason, at, by)
    return len({device_id for device_id, *_ in losses})


def _losses(tx: Transaction) -> list[_Loss]:
    withdrawn: list[_Loss] = [
        (device_id, state, RevocationReason(reason), from_us(at_us), by)
        for state, statement in _WITHDRAWN.items()
        for device_id, reason, at_us, by in tx.rows(statement)
    ]
    return withdrawn + [
        (device_id, DeviceState.DENIED, RevocationReason.PRIVILEGE_WITHDRAWN, from_us(at_us), by)
        for statement in _DENIED
        for device_id, at_us, by in tx.rows(statement)
    ]
