"""Rows <-> domain values, of work orders. The rules are those of rows.py."""

from birthmark_server.store.rows import from_us, from_us_or_none, to_us, to_us_or_none
from birthmark_server.store.statement import Row, Value
from birthmark_server.workorders import SerialBlock, StationEntry, WorkOrder


def workorder_values(order: WorkOrder) -> dict[str, Value]:
    return {
        "name": order.name,
        "model": order.model,
        "quantity": order.quantity,
        "serials": order.serials,
        "created_by": order.created_by,
        "created_at_us": to_us(order.created_at),
        "closes_at_us": to_us(order.closes_at),
        "closed_at_us": to_us_or_none(order.closed_at),
        "closed_by": order.closed_by,
    }


def workorder_from(row: Row) -> WorkOrder:
    name, model, quantity, serials, created_by, created_at, closes_at, closed_at, closed_by = row
    return WorkOrder(
        name,
        model,
        quantity,
        serials,
        created_by,
        from_us(created_at),
        from_us(closes_at),
        from_us_or_none(closed_at),
        closed_by,
    )


def block_values(block: SerialBlock) -> dict[str, Value]:
    return {
        "workorder": block.workorder,
        "station": block.station,
        "first": block.first,
        "count": block.count,
        "at_us": to_us(block.at),
    }


def block_from(row: Row) -> SerialBlock:
    workorder, station, first, count, at = row
    return SerialBlock(workorder, station, first, count, from_us(at))


def entry_values(entry: StationEntry) -> dict[str, Value]:
    return {
        "sha256": entry.sha256,
        "workorder": entry.workorder,
        "place": entry.place,
        "serial": entry.serial,
        "model": entry.model,
        "ek_sha256": entry.ek_sha256,
        "mac": entry.mac or None,
        "device_id": entry.device_id,
        "station": entry.station,
        "station_sha256": entry.station_sha256,
        "operator": entry.operator,
        "made_at_us": to_us(entry.made_at),
        "brought_by": entry.brought_by,
        "brought_at_us": to_us(entry.brought_at),
        "jws": entry.jws,
        "withdrawn_at_us": to_us_or_none(entry.withdrawn_at),
        "withdrawn_by": entry.withdrawn_by,
    }


def entry_from(row: Row) -> StationEntry:
    sha256, workorder, place, serial, model, ek, mac, device_id, station, station_sha256, operator = row[:11]
    made_at, brought_by, brought_at, jws, withdrawn_at, withdrawn_by = row[11:]
    return StationEntry(
        sha256,
        workorder,
        place,
        serial,
        model,
        ek,
        mac or "",
        device_id,
        station,
        station_sha256,
        operator,
        from_us(made_at),
        brought_by,
        from_us(brought_at),
        jws,
        from_us_or_none(withdrawn_at),
        withdrawn_by,
    )
