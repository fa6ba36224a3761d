"""SqlWorkOrders: the WorkOrderStore protocol (store/workorder_protocol.py) over a Database. Nothing happens here."""

from datetime import datetime

from birthmark_server.store.database import Database
from birthmark_server.store.sql import station_entries, workorders
from birthmark_server.store.workorder_protocol import Decide, WorkOrderStore
from birthmark_server.workorders import SerialBlock, StationEntry, UnitOnRecord, WorkOrder, WorkOrderCount


class SqlWorkOrders(WorkOrderStore):
    """Work orders on SQLite or PostgreSQL. Made by SqlStore."""

    def __init__(self, database: Database) -> None:
        self._read = database.read
        self._write = database.write

    def create(self, name: str, decide: Decide) -> WorkOrder:
        return self._write(workorders.create, name, decide)

    def get(self, name: str) -> WorkOrder:
        return self._read(workorders.get, name)

    def page(self, *, after: str = "", limit: int = 100) -> list[WorkOrder]:
        return self._read(workorders.page, after, limit)

    def close(self, name: str, *, at: datetime, by: str) -> WorkOrder:
        return self._write(workorders.close, name, at, by)

    def count(self, name: str) -> WorkOrderCount:
        return self._read(workorders.count, name)

    def take_serials(self, name: str, *, station: str, count: int, at: datetime) -> SerialBlock:
        return self._write(workorders.take_serials, name, station, count, at)

    def blocks(self, name: str) -> list[SerialBlock]:
        return self._read(workorders.blocks, name)

    def admit(self, entry: StationEntry) -> StationEntry:
        return self._write(station_entries.admit, entry)

    def unit(self, serial: str) -> UnitOnRecord:
        return self._read(station_entries.unit, serial)
