"""How a new work order gets its serial numbers, and how one is shown."""

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from birthmark_server.factory.serials import SerialPool, next_pool, overlapping
from birthmark_server.store.errors import Conflict
from birthmark_server.store.protocol import Store
from birthmark_server.store.workorder_protocol import WorkOrderStore
from birthmark_server.web.api.workorders import views
from birthmark_server.workorders import WorkOrder


class SerialsTaken(Conflict):
    """Some of the serial numbers are another work order's."""

    code: ClassVar[str] = "serials-taken"


def with_serials(order: WorkOrder, known: Sequence[WorkOrder]) -> WorkOrder:
    """Return the work order with the first number in its pattern: the one asked for, or the one behind all that the
    same pattern has given out. Raise PoolExhausted, SerialsTaken."""
    pool = SerialPool.parse(order.serials)
    taken = [(SerialPool.parse(other.serials), other.quantity) for other in known]
    if "@" not in order.serials:
        pool = next_pool(pool, taken)
    pool.require(order.quantity)
    other = overlapping(pool, order.quantity, taken)
    if other is not None:
        holder = next(each for each in known if SerialPool.parse(each.serials) == other[0])
        raise SerialsTaken(
            f"work order {holder.name} has the serial numbers {other[0].serial(0)} to "
            f"{other[0].serial(other[1] - 1)}; the next free one is {next_pool(pool, taken).text}"
        )
    return replace(order, serials=pool.text)


def view_of(store: Store, workorders: WorkOrderStore, order: WorkOrder) -> views.WorkOrderView:
    """Return a work order with how far it is."""
    count = workorders.count(order.name)
    return views.WorkOrderView(
        name=order.name,
        model=order.model,
        ek_template=store.get_model(order.model).ek_template,
        quantity=order.quantity,
        serials=order.serials,
        created_by=order.created_by,
        created_at=order.created_at,
        closes_at=order.closes_at,
        closed_at=order.closed_at,
        closed_by=order.closed_by,
        given=count.given,
        entries=count.entries,
        born=count.born,
    )
