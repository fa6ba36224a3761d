"""The tables of work orders: the orders, the blocks of serial numbers that stations took, the entries that they signed;
and what was removed from the manifest. The rules of tables.py hold; workorder_rows.py converts. All of it is journaled.
"""

from typing import ClassVar

from sqlalchemy import BigInteger, Column, Index, String, text
from sqlmodel import Field

from birthmark_server.store.tables import Row

_STANDS = text("withdrawn_at_us IS NULL")


class WorkOrders(Row, table=True):
    """workorders.WorkOrder."""

    __tablename__: ClassVar[str] = "workorders"
    name: str = Field(primary_key=True)
    model: str = Field(foreign_key="models.name")
    quantity: int
    serials: str
    created_by: str
    created_at_us: int = Field(sa_type=BigInteger)
    closes_at_us: int = Field(sa_type=BigInteger)
    closed_at_us: int | None = Field(sa_type=BigInteger)
    closed_by: str


class SerialBlocks(Row, table=True):
    """workorders.SerialBlock. That no two begin at the same place is what keeps two stations apart."""

    __tablename__: ClassVar[str] = "serial_blocks"
    __table_args__ = ({"sqlite_with_rowid": False},)
    workorder: str = Field(primary_key=True, foreign_key="workorders.name")
    station: str
    first: int = Field(sa_column=Column("first", BigInteger, primary_key=True, autoincrement=False))
    count: int
    at_us: int = Field(sa_type=BigInteger)


def _once(column: str) -> Index:
    """What no two entries that stand may share."""
    return Index(
        f"ux_station_entries_{column}",
        column,
        unique=True,
        sqlite_where=_STANDS,
        postgresql_where=_STANDS,
    )


class StationEntries(Row, table=True):
    """workorders.StationEntry. mac is null where there is none. What was withdrawn stays, and holds nothing."""

    __tablename__: ClassVar[str] = "station_entries"
    __table_args__ = (_once("serial"), _once("ek_sha256"), _once("mac"), Index(None, "workorder", "place"))
    sha256: str = Field(primary_key=True)
    workorder: str = Field(foreign_key="workorders.name")
    place: int = Field(sa_type=BigInteger)
    serial: str
    model: str
    ek_sha256: str
    mac: str | None
    device_id: str
    station: str
    station_sha256: str
    operator: str
    made_at_us: int = Field(sa_type=BigInteger)
    brought_by: str
    brought_at_us: int = Field(sa_type=BigInteger)
    jws: bytes
    withdrawn_at_us: int | None = Field(sa_type=BigInteger)
    withdrawn_by: str


class ManifestRemovals(Row, table=True):
    """journal_entries.ManifestRemoved: which line of the manifest was removed. A replay brings it back no more."""

    __tablename__: ClassVar[str] = "manifest_removals"
    ek_sha256: str = Field(primary_key=True)
    serial: str = Field(primary_key=True)
    imported_at_us: int = Field(sa_column=Column("imported_at_us", BigInteger, primary_key=True, autoincrement=False))
    removed_by: str = Field(sa_column=Column("removed_by", String, nullable=False))
    removed_at_us: int = Field(sa_type=BigInteger)
