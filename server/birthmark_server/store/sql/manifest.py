"""The manifest: which TPMs are expected, under which serial number; and lines that were removed.

A line may be removed while nobody was born by it: one with the wrong EK would else stand in its device's way for good.
What was removed stays on record, so that no replay brings it back.
"""

import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, or_, select

from birthmark_server.domain import ManifestEntry
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import BornAlready, ManifestConflict, UnknownLine
from birthmark_server.store.journal_entries import ManifestRemoved
from birthmark_server.store.rows import manifest_from, manifest_values, to_us
from birthmark_server.store.sql.endorsements import EKS
from birthmark_server.store.sql.setup import get_model, model_is_known
from birthmark_server.store.sql.withdrawals import withdraw
from birthmark_server.store.statement import Statement, Value, insert_all
from birthmark_server.store.tables import Manifest, Pending, table_of
from birthmark_server.store.workorder_tables import ManifestRemovals

_log = logging.getLogger(__name__)

_MANIFEST: Final = table_of(Manifest)
_PENDING: Final = table_of(Pending)
_REMOVALS: Final = table_of(ManifestRemovals)

_INSERT_MANIFEST: Final = insert_all(_MANIFEST)
_SIMILAR_MANIFEST: Final = Statement(
    select(_MANIFEST).where(
        or_(
            _MANIFEST.c.ek_sha256 == bindparam("ek"),
            _MANIFEST.c.serial == bindparam("number"),
            _MANIFEST.c.device_id == bindparam("device"),
        )
    )
)
_LIST_MANIFEST: Final = Statement(
    select(_MANIFEST)
    .where(_MANIFEST.c.serial > bindparam("after"))
    .order_by(_MANIFEST.c.serial)
    .limit(bindparam("most"))
)

_GET_LINE: Final = Statement(select(_MANIFEST).where(_MANIFEST.c.serial == bindparam("number")))
_OF_ORDER: Final = Statement(
    select(_MANIFEST.c.serial).where(_MANIFEST.c.ek_sha256 == bindparam("ek"), _MANIFEST.c.batch == bindparam("order"))
)
_DROP_LINE: Final = Statement(
    delete(_MANIFEST).where(
        _MANIFEST.c.ek_sha256 == bindparam("ek"),
        _MANIFEST.c.serial == bindparam("number"),
        _MANIFEST.c.imported_at_us == bindparam("imported"),
    )
)
_BORN: Final = Statement(select(EKS.c.device_id).where(EKS.c.ek_sha256 == bindparam("ek")))
_DROP_PENDING: Final = Statement(delete(_PENDING).where(_PENDING.c.ek_sha256 == bindparam("ek")))
_INSERT_REMOVAL: Final = insert_all(_REMOVALS)
_IS_REMOVED: Final = Statement(
    select(_REMOVALS.c.serial).where(
        _REMOVALS.c.ek_sha256 == bindparam("ek"),
        _REMOVALS.c.serial == bindparam("number"),
        _REMOVALS.c.imported_at_us == bindparam("imported"),
    )
)


def import_manifest(tx: Transaction, entries: Sequence[ManifestEntry]) -> int:
    for name in {entry.model for entry in entries}:
        get_model(tx, name)
    return sum(_import_one(tx, entry) for entry in entries)


def _import_one(tx: Transaction, entry: ManifestEntry) -> bool:
    if tx.run(_INSERT_MANIFEST, **manifest_values(entry)):
        tx.tell(entry)
        return True
    _require_same(tx, entry)
    return False


def _require_same(tx: Transaction, entry: ManifestEntry) -> None:
    similar = tx.rows(_SIMILAR_MANIFEST, ek=entry.ek_sha256, number=entry.serial, device=entry.device_id)
    for known in map(manifest_from, similar):
        if _identity(known) != _identity(entry):
            raise ManifestConflict(f"{_told(entry)} conflicts with {_told(known)}, imported by {known.imported_by}")


def _identity(entry: ManifestEntry) -> tuple[str, str, str, str]:
    return entry.ek_sha256, entry.serial, entry.model, entry.device_id


def _told(entry: ManifestEntry) -> str:
    return f"device {entry.device_id} (serial {entry.serial}, model {entry.model}, EK {entry.ek_sha256})"


def remove_line(tx: Transaction, serial: str, at: datetime, by: str) -> ManifestEntry:
    tx.lock_fleet()  # no birth that rests on the line is under way
    row = tx.row(_GET_LINE, number=serial)
    if row is None:
        raise UnknownLine(f"the manifest has no line for serial number {serial!r}")
    entry = manifest_from(row)
    born = tx.row(_BORN, ek=entry.ek_sha256)
    if born is not None:
        raise BornAlready(
            f"device {born[0]} was born by that line: retire or deny it, or swap its board, if it is to be another one"
        )
    removed = ManifestRemoved(entry.ek_sha256, entry.serial, entry.imported_at, at, by)
    tx.run(_INSERT_REMOVAL, **_removal_values(removed))
    _drop(tx, removed)
    tx.run(_DROP_PENDING, ek=entry.ek_sha256)
    tx.tell(removed)
    return entry


def _drop(tx: Transaction, removed: ManifestRemoved) -> None:
    tx.run(_DROP_LINE, ek=removed.ek_sha256, number=removed.serial, imported=to_us(removed.imported_at))
    withdraw(tx, serial=removed.serial, ek_sha256=removed.ek_sha256, at=removed.at, by=removed.by)


def _removal_values(removed: ManifestRemoved) -> dict[str, Value]:
    return {
        "ek_sha256": removed.ek_sha256,
        "serial": removed.serial,
        "imported_at_us": to_us(removed.imported_at),
        "removed_by": removed.by,
        "removed_at_us": to_us(removed.at),
    }


def names_batch(tx: Transaction, ek_sha256: str, batch: str) -> bool:
    """Whether the manifest has a line of this EK for this work order: then its devices are counted there, and no batch
    window lets them in."""
    return tx.row(_OF_ORDER, ek=ek_sha256, order=batch) is not None


def list_manifest(tx: Transaction, after: str, limit: int) -> list[ManifestEntry]:
    return [manifest_from(row) for row in tx.rows(_LIST_MANIFEST, after=after, most=limit)]


# -- replay: what is there stands, and what contradicts it comes from another history and is left out


def put_manifest_entry(tx: Transaction, entry: ManifestEntry) -> bool | None:
    """Return whether it was not there, or None if its model is not."""
    if not model_is_known(tx, entry.model):
        return None
    if tx.row(_IS_REMOVED, ek=entry.ek_sha256, number=entry.serial, imported=to_us(entry.imported_at)) is not None:
        return False
    if tx.run(_INSERT_MANIFEST, **manifest_values(entry)):
        return True
    try:
        _require_same(tx, entry)
    except ManifestConflict as error:
        _log.error("replay: left out: %s", error)
    return False


def remove_again(tx: Transaction, removed: ManifestRemoved) -> bool:
    """Return whether it was not on record."""
    if tx.run(_INSERT_REMOVAL, **_removal_values(removed)) == 0:
        return False
    _drop(tx, removed)
    return True
