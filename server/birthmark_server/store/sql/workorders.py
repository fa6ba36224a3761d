"""Work orders and the blocks of serial numbers that stations take of them.

A work order has as many places as devices, so what stations sign on their own can never be more than was ordered.
"""

import logging
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select, update

from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import (
    AlreadyExists,
    SerialsExhausted,
    UnknownWorkOrder,
    WorkOrderClosed,
)
from birthmark_server.store.journal_entries import WorkOrderEnded
from birthmark_server.store.rows import to_us
from birthmark_server.store.sql.setup import batch_lock, get_model
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import Batches, Devices, Models, table_of
from birthmark_server.store.workorder_protocol import Decide
from birthmark_server.store.workorder_rows import block_from, block_values, workorder_from, workorder_values
from birthmark_server.store.workorder_tables import SerialBlocks, StationEntries, WorkOrders
from birthmark_server.workorders import SerialBlock, WorkOrder, WorkOrderCount

_log = logging.getLogger(__name__)

_ORDERS: Final = table_of(WorkOrders)
_BLOCKS: Final = table_of(SerialBlocks)
_ENTRIES: Final = table_of(StationEntries)
_DEVICES: Final = table_of(Devices)
_BATCHES: Final = table_of(Batches)
_MODELS: Final = table_of(Models)

_INSERT: Final = insert_all(_ORDERS)
_GET: Final = Statement(select(_ORDERS).where(_ORDERS.c.name == bindparam("key")))
_ALL: Final = Statement(select(_ORDERS).order_by(_ORDERS.c.name))
_PAGE: Final = Statement(
    select(_ORDERS).where(_ORDERS.c.name > bindparam("after")).order_by(_ORDERS.c.name).limit(bindparam("most"))
)
_CLOSE: Final = Statement(
    update(_ORDERS)
    .where(_ORDERS.c.name == bindparam("key"), _ORDERS.c.closed_at_us.is_(None))
    .values(closed_at_us=bindparam("now"), closed_by=bindparam("who"))
)
_IS_BATCH: Final = Statement(select(_BATCHES.c.name).where(_BATCHES.c.name == bindparam("key")))
_IS_MODEL: Final = Statement(select(_MODELS.c.name).where(_MODELS.c.name == bindparam("key")))

_INSERT_BLOCK: Final = insert_all(_BLOCKS)
_GIVEN: Final = Statement(
    select(func.coalesce(func.max(_BLOCKS.c.first + _BLOCKS.c.count), 0)).where(_BLOCKS.c.workorder == bindparam("key"))
)
_BLOCKS_OF: Final = Statement(select(_BLOCKS).where(_BLOCKS.c.workorder == bindparam("key")).order_by(_BLOCKS.c.first))
_BLOCK_WITH: Final = Statement(
    select(_BLOCKS)
    .where(_BLOCKS.c.workorder == bindparam("key"), _BLOCKS.c.first <= bindparam("place"))
    .order_by(_BLOCKS.c.first.desc())
    .limit(1)
)
_COUNT_ENTRIES: Final = Statement(
    select(func.count()).where(_ENTRIES.c.workorder == bindparam("key"), _ENTRIES.c.withdrawn_at_us.is_(None))
)
_COUNT_BORN: Final = Statement(select(func.count()).where(_DEVICES.c.batch == bindparam("key")))


def create(tx: Transaction, name: str, decide: Decide) -> WorkOrder:
    tx.lock_name("work orders")  # so that two of one pattern are not given the same serial numbers
    tx.lock_name(batch_lock(name))
    order = decide([workorder_from(row) for row in tx.rows(_ALL)])
    get_model(tx, order.model)
    if tx.row(_IS_BATCH, key=order.name) is not None:
        raise AlreadyExists(f"there is a batch {order.name}: devices name both in the same place")
    if tx.run(_INSERT, **workorder_values(order)) == 0:
        raise AlreadyExists(f"work order {order.name} was created before")
    tx.tell(order)
    return order


def get(tx: Transaction, name: str) -> WorkOrder:
    row = tx.row(_GET, key=name)
    if row is None:
        raise UnknownWorkOrder(f"no work order {name!r}")
    return workorder_from(row)


def page(tx: Transaction, after: str, limit: int) -> list[WorkOrder]:
    return [workorder_from(row) for row in tx.rows(_PAGE, after=after, most=limit)]


def close(tx: Transaction, name: str, at: datetime, by: str) -> WorkOrder:
    if tx.run(_CLOSE, key=name, now=to_us(at), who=by):
        tx.tell(WorkOrderEnded(name, at, by))
    return get(tx, name)


def count(tx: Transaction, name: str) -> WorkOrderCount:
    get(tx, name)
    numbers = [tx.rows(each, key=name)[0][0] for each in (_GIVEN, _COUNT_ENTRIES, _COUNT_BORN)]
    return WorkOrderCount(*map(int, numbers))


def take_serials(tx: Transaction, name: str, station: str, count: int, at: datetime) -> SerialBlock:
    if count < 1:
        raise ValueError(f"want at least one serial number, got {count}")
    tx.lock_name(f"serials of {name}")
    order = get(tx, name)
    require_open(order, at)
    given = int(tx.rows(_GIVEN, key=name)[0][0])
    left = order.quantity - given
    if left < 1:
        raise SerialsExhausted(f"work order {name} has given out all its {order.quantity} serial numbers")
    block = SerialBlock(name, station, given, min(count, left), at)
    if tx.run(_INSERT_BLOCK, **block_values(block)) == 0:
        raise RuntimeError(f"two blocks of {name} at place {given}, and the name was locked")
    tx.tell(block)
    return block


def require_open(order: WorkOrder, at: datetime) -> None:
    """Raise WorkOrderClosed unless the work order was open at that time."""
    if order.closed_at is not None and at >= order.closed_at:
        raise WorkOrderClosed(f"work order {order.name} was closed at {order.closed_at:%Y-%m-%dT%H:%M:%SZ}")
    if at >= order.closes_at:
        raise WorkOrderClosed(f"work order {order.name} ended at {order.closes_at:%Y-%m-%dT%H:%M:%SZ}")


def blocks(tx: Transaction, name: str) -> list[SerialBlock]:
    return [block_from(row) for row in tx.rows(_BLOCKS_OF, key=name)]


def block_with(tx: Transaction, name: str, place: int) -> SerialBlock | None:
    """The block that has this place; None where no station was given it."""
    row = tx.row(_BLOCK_WITH, key=name, place=place)
    block = None if row is None else block_from(row)
    return block if block is not None and place < block.first + block.count else None


# -- replay: what is there stands, and what contradicts it comes from another history and is left out


def put_workorder(tx: Transaction, order: WorkOrder) -> bool | None:
    """Return whether it was not there, or None if its model is not."""
    if tx.row(_IS_MODEL, key=order.model) is None:
        return None
    if tx.run(_INSERT, **workorder_values(order)):
        return True
    known = get(tx, order.name)
    if replace(known, closed_at=None, closed_by="") != replace(order, closed_at=None, closed_by=""):
        _log.error("replay: left out: a work order %s that differs", order.name)
    return False


def close_again(tx: Transaction, ended: WorkOrderEnded) -> bool | None:
    """Return whether it was open, or None if it is not there."""
    if tx.run(_CLOSE, key=ended.name, now=to_us(ended.at), who=ended.by):
        return True
    return False if tx.row(_GET, key=ended.name) is not None else None


def put_block(tx: Transaction, block: SerialBlock) -> bool | None:
    """Return whether it was not there, or None if its work order is not."""
    if tx.row(_GET, key=block.workorder) is None:
        return None
    return tx.run(_INSERT_BLOCK, **block_values(block)) > 0
