"""What operators set up: device models, batches."""

import logging
from dataclasses import fields, replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select, update

from birthmark_server.domain import Batch, DeviceModel
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists, UnknownBatch, UnknownModel
from birthmark_server.store.journal_entries import BatchClosed
from birthmark_server.store.rows import (
    batch_from,
    batch_values,
    model_from,
    model_values,
    to_us,
)
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import Batches, Devices, Models, table_of
from birthmark_server.store.workorder_tables import WorkOrders

_log = logging.getLogger(__name__)

_MODELS: Final = table_of(Models)
_BATCHES: Final = table_of(Batches)
_DEVICES: Final = table_of(Devices)
_ORDERS: Final = table_of(WorkOrders)

_INSERT_MODEL: Final = insert_all(_MODELS)
_GET_MODEL: Final = Statement(select(_MODELS).where(_MODELS.c.name == bindparam("key")))
_LIST_MODELS: Final = Statement(select(_MODELS).order_by(_MODELS.c.name))

_INSERT_BATCH: Final = insert_all(_BATCHES)
_GET_BATCH: Final = Statement(select(_BATCHES).where(_BATCHES.c.name == bindparam("key")))
_LIST_BATCHES: Final = Statement(select(_BATCHES).order_by(_BATCHES.c.opened_at_us, _BATCHES.c.name))
_CLOSE_BATCH: Final = Statement(
    update(_BATCHES)
    .where(_BATCHES.c.name == bindparam("key"), _BATCHES.c.closed_at_us.is_(None))
    .values(closed_at_us=bindparam("now"), closed_by=bindparam("who"))
)
_IS_ORDER: Final = Statement(select(_ORDERS.c.name).where(_ORDERS.c.name == bindparam("key")))
_BORN_IN_BATCH: Final = Statement(select(func.count()).where(_DEVICES.c.batch == bindparam("key")))


def add_model(tx: Transaction, model: DeviceModel, by: str) -> None:
    new = replace(model, added_by=by)
    if tx.run(_INSERT_MODEL, **model_values(new)):
        tx.tell(new)
        return
    known = get_model(tx, model.name)
    if _demands(known) != _demands(model):
        raise AlreadyExists(
            f"model {model.name} is there already, with {_differences(_demands(known), _demands(model))}"
        )


def _demands(model: DeviceModel) -> DeviceModel:
    return replace(model, added_by="")


def _differences(known: DeviceModel | Batch, wanted: DeviceModel | Batch) -> str:
    """Return in words which fields differ, those of `known` first."""
    pairs = ((field.name, getattr(known, field.name), getattr(wanted, field.name)) for field in fields(known))
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


def model_is_known(tx: Transaction, name: str) -> bool:
    return tx.row(_GET_MODEL, key=name) is not None


def list_models(tx: Transaction) -> list[DeviceModel]:
    return [model_from(row) for row in tx.rows(_LIST_MODELS)]


def batch_lock(name: str) -> str:
    """Return what to lock before a batch or a work order of that name is made: there is one of the two."""
    return f"batch {name}"


def open_batch(tx: Transaction, batch: Batch) -> None:
    tx.lock_name(batch_lock(batch.name))
    get_model(tx, batch.model)
    if tx.row(_IS_ORDER, key=batch.name) is not None:
        raise AlreadyExists(f"there is a work order {batch.name}: devices name both in the same place")
    if tx.run(_INSERT_BATCH, **batch_values(batch)) == 0:
        raise AlreadyExists(f"batch {batch.name} was opened before")
    tx.tell(batch)


def close_batch(tx: Transaction, name: str, at: datetime, by: str) -> Batch:
    if tx.run(_CLOSE_BATCH, key=name, now=to_us(at), who=by):
        tx.tell(BatchClosed(name, at, by))
    return get_batch(tx, name)


def get_batch(tx: Transaction, name: str) -> Batch:
    row = tx.row(_GET_BATCH, key=name)
    if row is None:
        raise UnknownBatch(f"no batch {name!r}")
    return batch_from(row)


def list_batches(tx: Transaction) -> list[Batch]:
    return [batch_from(row) for row in tx.rows(_LIST_BATCHES)]


# -- replay: what is there stands, and what contradicts it comes from another history and is left out


def put_model(tx: Transaction, model: DeviceModel) -> bool:
    """Return True if there was none of that name."""
    if tx.run(_INSERT_MODEL, **model_values(model)):
        return True
    known = get_model(tx, model.name)
    if _demands(known) != _demands(model):
        _log.error(
            "replay: left out: a model %s that differs: %s", model.name, _differences(_demands(known), _demands(model))
        )
    return False


def put_batch(tx: Transaction, batch: Batch) -> bool | None:
    """Return whether it was not there, or None if its model is not. Devices that came before it use its quota."""
    if tx.row(_GET_MODEL, key=batch.model) is None:
        return None
    ((born,),) = tx.rows(_BORN_IN_BATCH, key=batch.name)
    if tx.run(_INSERT_BATCH, **batch_values(replace(batch, used=max(batch.used, born)))):
        return True
    known = get_batch(tx, batch.name)
    if differences := _differences(_window(known), _window(batch)):
        _log.error("replay: left out: a batch %s that differs: %s", batch.name, differences)
    return False


def _window(batch: Batch) -> Batch:
    """Return the batch as an operator opened it: the rest changes while it is used."""
    return replace(batch, used=0, closed_at=None, closed_by="")


def close_batch_again(tx: Transaction, entry: BatchClosed) -> bool | None:
    """Return whether it was open, or None if it is not there: then it has no quota to give either."""
    if tx.run(_CLOSE_BATCH, key=entry.name, now=to_us(entry.at), who=entry.by):
        return True
    return False if tx.row(_GET_BATCH, key=entry.name) is not None else None
