"""`birthmark factory status`: how far a station is, from its record alone."""

from dataclasses import dataclass
from pathlib import Path

from birthmark_server.cli.factory_run import StationFolder
from birthmark_server.cli.output import Column, Json, show
from birthmark_server.factory.station.known import Known
from birthmark_server.factory.station.record import RECORD_FILE, read_record
from birthmark_server.factory.station.view import LineView, counted


@dataclass(frozen=True, slots=True)
class OrderStatus:
    """One work order at this station."""

    workorder: str
    model: str
    quantity: int
    made: int
    failed: int
    awaiting_birth: int
    in_quarantine: int
    entries_waiting: int
    first_pass_yield: float | None


_COLUMNS = (
    Column[OrderStatus]("work order", lambda one: one.workorder),
    Column[OrderStatus]("model", lambda one: one.model),
    Column[OrderStatus]("wanted", lambda one: one.quantity),
    Column[OrderStatus]("made here", lambda one: one.made, "green"),
    Column[OrderStatus]("failed", lambda one: one.failed, lambda one: "red" if one.failed else ""),
    Column[OrderStatus]("awaiting birth", lambda one: one.awaiting_birth),
    Column[OrderStatus]("quarantine", lambda one: one.in_quarantine),
    Column[OrderStatus]("entries waiting", lambda one: one.entries_waiting),
    Column[OrderStatus](
        "first pass", lambda one: "-" if one.first_pass_yield is None else f"{one.first_pass_yield:.1%}"
    ),
)


def status(station: StationFolder = Path(), as_json: Json = False) -> None:
    """Show what this station made of each work order. Reads the record, and verifies it; needs no server.

    Example:  birthmark factory status --station /srv/line-2
    """
    known = Known.of(read_record(station / RECORD_FILE))
    show(
        [_status(known, name) for name in known.orders],
        _COLUMNS,
        as_json=as_json,
        empty="no work orders yet; birthmark factory run --workorder NAME",
    )


def _status(known: Known, name: str) -> OrderStatus:
    order = known.orders[name]
    units = [unit for unit in known.units.values() if unit.workorder == name]
    view = counted(LineView(name, order.quantity, ()), units, rejected=known.rejected.get(name, 0))
    return OrderStatus(
        workorder=name,
        model=order.model,
        quantity=order.quantity,
        made=view.made,
        failed=view.failed,
        awaiting_birth=view.awaiting,
        in_quarantine=view.quarantined,
        entries_waiting=view.entries_waiting,
        first_pass_yield=view.first_pass_yield,
    )
