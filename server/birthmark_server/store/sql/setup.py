"""What operators set up: device models, the manifest, batches."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, or_, select, update

from birthmark_server.domain import Batch, DeviceModel, ManifestEntry
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists, ManifestConflict, UnknownBatch, UnknownModel
from birthmark_server.store.journal_entries import BatchClosed
from birthmark_server.store.rows import (
    batch_from,
    batch_values,
    manifest_from,
    manifest_values,
    model_from,
    model_values,
    to_us,
)
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import Batches, Manifest, Models, table_of

_MODELS: Final = table_of(Models)
_MANIFEST: Final = table_of(Manifest)
_BATCHES: Final = table_of(Batches)

_INSERT_MODEL: Final = insert_all(_MODELS)
_GET_MODEL: Final = Statement(select(_MODELS).where(_MODELS.c.name == bindparam("key")))
_LIST_MODELS: Final = Statement(select(_MODELS).order_by(_MODELS.c.name))

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

_INSERT_BATCH: Final = insert_all(_BATCHES)
_GET_BATCH: Final = Statement(select(_BATCHES).where(_BATCHES.c.name == bindparam("key")))
_LIST_BATCHES: Final = Statement(select(_BATCHES).order_by(_BATCHES.c.opened_at_us, _BATCHES.c.name))
_CLOSE_BATCH: Final = Statement(
    update(_BATCHES)
    .where(_BATCHES.c.name == bindparam("key"), _BATCHES.c.closed_at_us.is_(None))
    .values(closed_at_us=bindparam("now"))
)


def add_model(tx: Transaction, model: DeviceModel) -> None:
    if tx.run(_INSERT_MODEL, **model_values(model)) == 0:
        known = get_model(tx, model.name)
        if known != model:
            raise AlreadyExists(f"model {model.name} is there already, with {_differences(known, model)}")


def _differences(known: DeviceModel, wanted: DeviceModel) -> str:
    pairs = ((field.name, getattr(known, field.name), getattr(wanted, field.name)) for field in fields(DeviceModel))
    differing = (f"{name.replace('_', ' ')} {_words(old)}, not {_words(new)}" for name, old, new in pairs if old != new)
    return "; ".join(differing)


def _words(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def get_model(tx: Transaction, name: str) -> DeviceModel:
    row = tx.row(_GET_MODEL, key=name)
    if row is None:
        raise UnknownModel(f"no model {name!r}")
    return model_from(row)


def list_models(tx: Transaction) -> list[DeviceModel]:
    return [model_from(row) for row in tx.rows(_LIST_MODELS)]


def import_manifest(tx: Transaction, entries: Sequence[ManifestEntry]) -> int:
    for name in {entry.model for entry in entries}:
        get_model(tx, name)
    return sum(_import_one(tx, entry) for entry in entries)


def _import_one(tx: Transaction, entry: ManifestEntry) -> bool:
    if tx.run(_INSERT_MANIFEST, **manifest_values(entry)):
        return True
    similar = tx.rows(_SIMILAR_MANIFEST, ek=entry.ek_sha256, number=entry.serial, device=entry.device_id)
    for known in map(manifest_from, similar):
        if _identity(known) != _identity(entry):
            raise ManifestConflict(f"{_told(entry)} conflicts with {_told(known)}, imported by {known.imported_by}")
    return False


def _identity(entry: ManifestEntry) -> tuple[str, str, str, str]:
    return entry.ek_sha256, entry.serial, entry.model, entry.device_id


def _told(entry: ManifestEntry) -> str:
    return f"device {entry.device_id} (serial {entry.serial}, model {entry.model}, EK {entry.ek_sha256})"


def list_manifest(tx: Transaction, after: str, limit: int) -> list[ManifestEntry]:
    return [manifest_from(row) for row in tx.rows(_LIST_MANIFEST, after=after, most=limit)]


def open_batch(tx: Transaction, batch: Batch) -> None:
    get_model(tx, batch.model)
    if tx.run(_INSERT_BATCH, **batch_values(batch)) == 0:
        raise AlreadyExists(f"batch {batch.name} was opened before")


def close_batch(tx: Transaction, name: str, at: datetime) -> Batch:
    if tx.run(_CLOSE_BATCH, key=name, now=to_us(at)):
        tx.tell(BatchClosed(name, at))
    return get_batch(tx, name)


def get_batch(tx: Transaction, name: str) -> Batch:
    row = tx.row(_GET_BATCH, key=name)
    if row is None:
        raise UnknownBatch(f"no batch {name!r}")
    return batch_from(row)


def list_batches(tx: Transaction) -> list[Batch]:
    return [batch_from(row) for row in tx.rows(_LIST_BATCHES)]


def close_batch_again(tx: Transaction, entry: BatchClosed) -> bool:
    """Replay: True if it was open. A batch that the backup does not know has no quota to give."""
    return tx.run(_CLOSE_BATCH, key=entry.name, now=to_us(entry.at)) == 1
