"""What stations signed: from the entry on, the device is expected, by the manifest; and how that is taken back.

No two entries that stand share a serial number, an EK or a MAC: three unique indexes. The same is asked of the devices
on record and of manifest lines that came another way.
"""

import logging
from dataclasses import replace
from typing import Final

from sqlalchemy import bindparam, or_, select

from birthmark_server.domain import BY_STATION, Device, ManifestEntry
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import (
    Conflict,
    DeniedDevice,
    DuplicateEk,
    DuplicateMac,
    DuplicateSerial,
    EntryOutOfTime,
    EntryWithdrawn,
    ForeignModel,
    ManifestConflict,
    SerialNotGiven,
    UnknownUnit,
)
from birthmark_server.store.rows import device_from, from_us, to_us
from birthmark_server.store.sql.certificates import require_unrevoked
from birthmark_server.store.sql.denials import denied_match
from birthmark_server.store.sql.devices import DEVICE_COLUMNS, DEVICES
from birthmark_server.store.sql.endorsements import EKS
from birthmark_server.store.sql.manifest import import_manifest
from birthmark_server.store.sql.workorders import block_with, get, require_open
from birthmark_server.store.statement import Row, Statement, insert_all
from birthmark_server.store.tables import table_of
from birthmark_server.store.workorder_rows import entry_from, entry_values
from birthmark_server.store.workorder_tables import ManifestRemovals, StationEntries, WorkOrders
from birthmark_server.workorders import CLOCK_SKEW, SerialBlock, StationEntry, UnitOnRecord, WorkOrder

_log = logging.getLogger(__name__)

_ENTRIES: Final = table_of(StationEntries)
_ORDERS: Final = table_of(WorkOrders)
_REMOVALS: Final = table_of(ManifestRemovals)
_STANDS: Final = _ENTRIES.c.withdrawn_at_us.is_(None)

_INSERT: Final = insert_all(_ENTRIES)
_SAME: Final = Statement(select(_ENTRIES).where(_ENTRIES.c.sha256 == bindparam("key")))
_SIMILAR: Final = Statement(
    select(_ENTRIES)
    .where(
        _STANDS,
        or_(
            _ENTRIES.c.serial == bindparam("number"),
            _ENTRIES.c.ek_sha256 == bindparam("ek"),
            _ENTRIES.c.mac == bindparam("address"),
        ),
    )
    .order_by(_ENTRIES.c.brought_at_us)
)
_OF_SERIAL: Final = Statement(select(_ENTRIES).where(_STANDS, _ENTRIES.c.serial == bindparam("number")))
_ON_RECORD: Final = Statement(
    select(*DEVICE_COLUMNS).where(
        or_(
            DEVICES.c.serial == bindparam("number"),
            DEVICES.c.device_id == bindparam("device"),
            DEVICES.c.device_id == select(EKS.c.device_id).where(EKS.c.ek_sha256 == bindparam("ek")).scalar_subquery(),
        )
    )
)
_DEVICE: Final = Statement(
    select(*DEVICE_COLUMNS).where(DEVICES.c.device_id == bindparam("device"), DEVICES.c.serial == bindparam("number"))
)
_REMOVED: Final = Statement(
    select(_REMOVALS.c.removed_at_us, _REMOVALS.c.removed_by)
    .where(
        _REMOVALS.c.ek_sha256 == bindparam("ek"),
        _REMOVALS.c.serial == bindparam("number"),
        _REMOVALS.c.removed_at_us >= bindparam("since"),
    )
    .order_by(_REMOVALS.c.removed_at_us)
)
_IS_ORDER: Final = Statement(select(_ORDERS.c.name).where(_ORDERS.c.name == bindparam("key")))


def admit(tx: Transaction, entry: StationEntry) -> StationEntry:
    require_unrevoked(tx, entry.station_sha256)
    order = get(tx, entry.workorder)
    if entry.model != order.model:
        raise ForeignModel(f"work order {order.name} is for model {order.model}, the entry is for {entry.model}")
    _require_time(order, _block_of(tx, entry), entry)
    denied = denied_match(tx, entry.device_id, entry.serial, [entry.ek_sha256])
    if denied is not None:
        raise DeniedDevice(f"device {entry.device_id} is denied: {denied.reason}")
    if tx.run(_INSERT, **entry_values(entry)) == 0:
        return _that_stands(tx, entry)
    for device in tx.rows(_ON_RECORD, number=entry.serial, device=entry.device_id, ek=entry.ek_sha256):
        _require_same_device(device_from(device), entry)
    expected = ManifestEntry(
        ek_sha256=entry.ek_sha256,
        serial=entry.serial,
        model=entry.model,
        device_id=entry.device_id,
        imported_by=f"{BY_STATION}{entry.station}",
        imported_at=entry.brought_at,
        batch=entry.workorder,
    )
    try:
        import_manifest(tx, [expected])
    except ManifestConflict as conflict:
        raise DuplicateSerial(str(conflict)) from None
    tx.tell(entry)
    return entry


def _block_of(tx: Transaction, entry: StationEntry) -> SerialBlock:
    block = block_with(tx, entry.workorder, entry.place)
    if block is None:
        raise SerialNotGiven(
            f"serial number {entry.serial} of work order {entry.workorder} was given to no station yet"
        )
    if block.station != entry.station:
        raise SerialNotGiven(
            f"serial number {entry.serial} was given to station {block.station}, not to {entry.station}"
        )
    return block


def _require_time(order: WorkOrder, block: SerialBlock, entry: StationEntry) -> None:
    made_at = entry.made_at
    if not block.at - CLOCK_SKEW <= made_at <= entry.brought_at + CLOCK_SKEW:
        raise EntryOutOfTime(
            f"the entry was signed at {made_at:%Y-%m-%dT%H:%M:%SZ} by the station's clock; want a time between "
            f"{block.at:%Y-%m-%dT%H:%M:%SZ}, when its serial number was given out, and "
            f"{entry.brought_at:%Y-%m-%dT%H:%M:%SZ}, which is now"
        )
    require_open(order, made_at)


def _that_stands(tx: Transaction, entry: StationEntry) -> StationEntry:
    """Return the entry that says the same; raise for the one that stands in its way."""
    for known in map(entry_from, _similar(tx, entry)):
        if _unit(known) == _unit(entry):
            return known
        raise _duplicate(known, entry)
    raise EntryWithdrawn(f"that entry for serial number {entry.serial} was withdrawn: make a new one")


def _similar(tx: Transaction, entry: StationEntry) -> list[Row]:
    # An empty MAC is null in the table, and "" equals nothing there.
    return tx.rows(_SIMILAR, number=entry.serial, ek=entry.ek_sha256, address=entry.mac)


def _unit(entry: StationEntry) -> tuple[str, ...]:
    return entry.workorder, entry.serial, entry.ek_sha256, entry.mac, entry.model, entry.device_id


def _duplicate(known: StationEntry, entry: StationEntry) -> Conflict:
    whose = f"by station {known.station} for work order {known.workorder}, at {known.made_at:%Y-%m-%dT%H:%M:%SZ}"
    if known.serial == entry.serial:
        return DuplicateSerial(
            f"serial number {entry.serial} was given to the TPM with EK {known.ek_sha256} (MAC {known.mac or 'none'}) "
            f"{whose}; this one has EK {entry.ek_sha256} (MAC {entry.mac or 'none'})"
        )
    if known.ek_sha256 == entry.ek_sha256:
        return DuplicateEk(f"this TPM (EK {entry.ek_sha256}) is serial number {known.serial}, made {whose}")
    return DuplicateMac(f"MAC {entry.mac} is that of serial number {known.serial}, made {whose}")


def _require_same_device(device: Device, entry: StationEntry) -> None:
    if device.ek_sha256 != entry.ek_sha256 and device.serial == entry.serial:
        raise DuplicateSerial(
            f"serial number {entry.serial} is device {device.device_id}, born with EK {device.ek_sha256}"
        )
    if device.ek_sha256 == entry.ek_sha256 and device.serial != entry.serial:
        raise DuplicateEk(
            f"this TPM (EK {entry.ek_sha256}) is device {device.device_id} with serial number {device.serial}"
        )
    if (device.ek_sha256, device.serial, device.device_id) != (entry.ek_sha256, entry.serial, entry.device_id):
        raise DuplicateSerial(f"the id {entry.device_id} is that of a device with serial number {device.serial}")


def unit(tx: Transaction, serial: str) -> UnitOnRecord:
    row = tx.row(_OF_SERIAL, number=serial)
    if row is None:
        raise UnknownUnit(f"no station's entry names serial number {serial!r}")
    entry = entry_from(row)
    device = tx.row(_DEVICE, device=entry.device_id, number=serial)
    return UnitOnRecord(entry, None if device is None else device_from(device))


# -- replay


def put_entry(tx: Transaction, entry: StationEntry) -> bool | None:
    """Return whether it was not there, or None if its work order is not."""
    if tx.row(_IS_ORDER, key=entry.workorder) is None:
        return None
    removed = tx.row(_REMOVED, ek=entry.ek_sha256, number=entry.serial, since=to_us(entry.brought_at))
    if removed is not None:
        entry = replace(entry, withdrawn_at=from_us(removed[0]), withdrawn_by=removed[1])
    if tx.run(_INSERT, **entry_values(entry)):
        return True
    if tx.row(_SAME, key=entry.sha256) is None:
        _log.error("replay: left out: another entry for serial number %s, EK %s", entry.serial, entry.ek_sha256)
    return False
