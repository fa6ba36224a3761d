"""The tables of what operators see of the fleet: tags, groups, agents, and the answers kept for idempotency keys.

The rules of tables.py hold. None of this is journaled: a restored backup brings tags and groups back as they were.
"""

from typing import ClassVar

from sqlalchemy import BigInteger, Index
from sqlmodel import Field

from birthmark_server.store.tables import Row


class DeviceTags(Row, table=True):
    """Which tags a device has."""

    __tablename__: ClassVar[str] = "device_tags"
    __table_args__ = (Index(None, "tag", "device_id"), {"sqlite_with_rowid": False})
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")
    tag: str = Field(primary_key=True)


class AgentReports(Row, table=True):
    """What each device's agent last said it is."""

    __tablename__: ClassVar[str] = "agent_reports"
    __table_args__ = ({"sqlite_with_rowid": False},)
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")
    agent: str
    heard_at_us: int = Field(sa_type=BigInteger)


class Groups(Row, table=True):
    """fleet.Group."""

    __tablename__: ClassVar[str] = "device_groups"
    name: str = Field(primary_key=True)
    query: str
    saved_by: str
    saved_at_us: int = Field(sa_type=BigInteger)


class IdempotencyKeys(Row, table=True):
    """fleet.KeptAnswer, by who asked and the key that they gave. lease_until_us: while status is 0, how long whoever
    took the key may work on it before another may."""

    __tablename__: ClassVar[str] = "idempotency_keys"
    caller: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_sha256: str
    status: int
    media_type: str
    body: bytes
    lease_until_us: int = Field(sa_type=BigInteger)
    expires_at_us: int = Field(sa_type=BigInteger, index=True)
