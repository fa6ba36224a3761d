"""Devices and where they stand. Every change of standing raises the device's epoch and is told to the journal whole."""

from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, bindparam, func, or_, select, update

from birthmark_server.domain import Device, DeviceState
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import DuplicateDevice, UnknownDevice
from birthmark_server.store.rows import device_from, device_values, to_us
from birthmark_server.store.sql.endorsements import (
    EKS,
    drop_endorsements,
    take_endorsements,
    take_told_endorsements,
)
from birthmark_server.store.statement import LookUp, Row, Statement, insert_all, keys, one_of
from birthmark_server.store.tables import Devices, table_of

DEVICES: Final = table_of(Devices)
DEVICE_COLUMNS: Final = tuple(column for column in DEVICES.columns if column.name != "rekeyed_at_us")

FIRST_EPOCH: Final = 1
"""A device's first epoch on record, so that 0 can mean: not on record when the enrollment began."""
_SEVERITY: Final = {
    DeviceState.ACTIVE: 0,
    DeviceState.QUARANTINED: 1,
    DeviceState.RETIRED: 2,
    DeviceState.REVOKED: 3,
    DeviceState.DENIED: 4,
}

_INSERT: Final = insert_all(DEVICES)
_UPDATE: Final = Statement(
    update(DEVICES).where(DEVICES.c.device_id == bindparam("key")),
    columns=[column.name for column in DEVICES.columns if column.name != "device_id"],
)
_SET_STATE: Final = Statement(
    update(DEVICES)
    .where(DEVICES.c.device_id == bindparam("key"))
    .values(state=bindparam("standing"), epoch=bindparam("number"))
)
_GET: Final = Statement(select(*DEVICE_COLUMNS).where(DEVICES.c.device_id == bindparam("key")))
_LOCK: Final = Statement(select(DEVICES).where(DEVICES.c.device_id == bindparam("key")).with_for_update())
_COUNT: Final = Statement(select(DEVICES.c.state, func.count()).group_by(DEVICES.c.state))
_TOUCH: Final = Statement(
    update(DEVICES)
    .where(
        DEVICES.c.device_id == bindparam("key"),
        or_(DEVICES.c.last_seen_at_us.is_(None), DEVICES.c.last_seen_at_us < bindparam("now")),
    )
    .values(last_seen_at_us=bindparam("now"))
)
_WITH_KEYS: Final = LookUp(
    lambda number: (
        select(*DEVICE_COLUMNS)
        .where(
            or_(
                DEVICES.c.device_id == bindparam("device"),
                DEVICES.c.serial == bindparam("number"),
                DEVICES.c.device_id.in_(select(EKS.c.device_id).where(one_of(EKS.c.ek_sha256, number))),
            )
        )
        .order_by(DEVICES.c.device_id)
    )
)


# -- reading


def get_device(tx: Transaction, device_id: str) -> Device:
    row = tx.row(_GET, key=device_id)
    if row is None:
        raise UnknownDevice(f"no device {device_id!r}")
    return device_from(row)


def find_device(tx: Transaction, device_id: str) -> Device | None:
    row = tx.row(_GET, key=device_id)
    return None if row is None else device_from(row)


def list_devices(
    tx: Transaction, state: DeviceState | None, model: str, batch: str, after: str, limit: int
) -> list[Device]:
    wanted: list[ColumnElement[bool]] = [DEVICES.c.device_id > after]
    if state is not None:
        wanted.append(DEVICES.c.state == state.value)
    if model:
        wanted.append(DEVICES.c.model == model)
    if batch:
        wanted.append(DEVICES.c.batch == batch)
    page = select(*DEVICE_COLUMNS).where(*wanted).order_by(DEVICES.c.device_id).limit(limit)
    return [device_from(row) for row in tx.rows(Statement(page))]


def count_devices(tx: Transaction) -> dict[DeviceState, int]:
    return dict.fromkeys(DeviceState, 0) | {DeviceState(state): number for state, number in tx.rows(_COUNT)}


def devices_with(tx: Transaction, device_id: str, serial: str, ek_sha256: tuple[str, ...]) -> list[Device]:
    """All devices that have this id, this serial or have proven any of these EKs; an empty value matches none."""
    rows = tx.rows(_WITH_KEYS.of(ek_sha256), device=device_id or None, number=serial or None, **keys(ek_sha256))
    return [device_from(row) for row in rows]


# -- writing


def lock_device(tx: Transaction, device_id: str) -> tuple[Device, int | None]:
    """Return the device and when it last replaced its birth key (us), its row locked until the transaction ends."""
    row: Row | None = tx.row(_LOCK, key=device_id)
    if row is None:
        raise UnknownDevice(f"no device {device_id!r}")
    return device_from(row[:-1]), row[-1]


def insert_device(tx: Transaction, device: Device) -> None:
    """Put a new device on record with its EKs. Raise DuplicateDevice if its id or serial is there, or its EK, or if it
    claims another device's."""
    if tx.run(_INSERT, **device_values(device, rekeyed_at_us=None)) == 0:
        raise DuplicateDevice(f"id {device.device_id} or serial {device.serial} is on record already")
    take_endorsements(tx, device)


def update_device(tx: Transaction, device: Device, *, rekeyed_at_us: int | None) -> None:
    """Write the whole row; the EKs in their own table are the caller's."""
    values = device_values(device, rekeyed_at_us=rekeyed_at_us)
    tx.run(_UPDATE, key=values.pop("device_id"), **values)


def set_state(tx: Transaction, device: Device, state: DeviceState) -> Device:
    """Change where a locked device stands; return it with its new epoch."""
    changed = replace(device, state=state, epoch=device.epoch + 1)
    tx.run(_SET_STATE, key=device.device_id, standing=state.value, number=changed.epoch)
    tx.tell(changed)
    return changed


def touch_device(tx: Transaction, device_id: str, at: datetime) -> None:
    tx.run(_TOUCH, key=device_id, now=to_us(at))


def add_software_device(tx: Transaction, device: Device) -> None:
    new = replace(device, epoch=FIRST_EPOCH)
    insert_device(tx, new)
    tx.tell(new)


# -- replay


def put_device(tx: Transaction, device: Device) -> tuple[bool, bool]:
    """Replay: let the device stand as told unless it has stood so since. Return (changed, it was not there).

    Two tellings of one epoch come from a commit that failed, or from two histories: the one that takes more away wins.
    """
    row = tx.row(_LOCK, key=device.device_id)
    if row is None:
        if tx.run(_INSERT, **device_values(device, rekeyed_at_us=None)) == 0:
            raise DuplicateDevice(f"serial {device.serial} of {device.device_id} is another device's on record")
    else:
        known = device_from(row[:-1])
        if _rank(known) >= _rank(device):
            return False, False
        update_device(tx, replace(device, last_seen_at=known.last_seen_at), rekeyed_at_us=row[-1])
        drop_endorsements(tx, known)
    take_told_endorsements(tx, device)
    return True, row is None


def severity(state: DeviceState) -> int:
    """How much a state takes away."""
    return _SEVERITY[state]


def _rank(device: Device) -> tuple[int, int]:
    return device.epoch, severity(device.state)


# -- self-check

_ORPHANS: Final = Statement(
    select(DEVICES.c.device_id)
    .where(DEVICES.c.ek_sha256 != "", DEVICES.c.ek_sha256.not_in(select(EKS.c.ek_sha256)))
    .limit(10)
)


def problems(tx: Transaction) -> list[str]:
    """What foreign keys cannot say: each device's EK is among the endorsement keys."""
    return [f"the EK of device {device_id} is missing from endorsement_keys" for (device_id,) in tx.rows(_ORPHANS)]
