"""The tables of authorities, trust bundles, and who knows them, by the rules of tables.py."""

from typing import ClassVar

from sqlalchemy import BigInteger, Column, LargeBinary
from sqlmodel import Field

from birthmark_server.store.tables import Row


class Authorities(Row, table=True):
    """authorities.KnownAuthority."""

    name: str = Field(primary_key=True)
    kind: str
    sha256: str = Field(unique=True)
    root_sha256: str
    certificate: bytes
    state: str
    since: int = Field(sa_type=BigInteger)
    revision: int
    changed_at_us: int = Field(sa_type=BigInteger)
    changed_by: str


class AuthorityActs(Row, table=True):
    """authorities.AuthorityHappening. Never changed."""

    __tablename__: ClassVar[str] = "authority_acts"
    revision: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    act: str
    name: str
    at_us: int = Field(sa_type=BigInteger)
    acted_by: str
    version: int = Field(sa_type=BigInteger)
    quorum: float
    missing: int
    forced: bool


class TrustBundles(Row, table=True):
    """authorities.BundleRecord. Never changed."""

    __tablename__: ClassVar[str] = "trust_bundles"
    version: int = Field(sa_column=Column("version", BigInteger, primary_key=True, autoincrement=False))
    payload: bytes = Field(sa_column=Column("payload", LargeBinary, nullable=False))
    made_at_us: int = Field(sa_type=BigInteger)


class DeviceTrust(Row, table=True):
    """What each device says it trusts, and what it was told. offered: the version that it was last sent by our own
    accord, so often; not before send_at_us again. heard_at_us: null while it never said anything."""

    __tablename__: ClassVar[str] = "device_trust"
    __table_args__ = ({"sqlite_with_rowid": False},)
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")
    version: int = Field(sa_type=BigInteger, index=True)
    code: str
    detail: str
    heard_at_us: int | None = Field(sa_type=BigInteger)
    offered: int = Field(sa_type=BigInteger)
    sends: int
    send_at_us: int = Field(sa_type=BigInteger)


class BrokerReports(Row, table=True):
    """authorities.PeerReport of a broker. issuers: joined with commas."""

    __tablename__: ClassVar[str] = "broker_reports"
    name: str = Field(primary_key=True)
    issuers: str
    heard_at_us: int = Field(sa_type=BigInteger)
    detail: str


class ReplicaReports(Row, table=True):
    """authorities.PeerReport of a server."""

    __tablename__: ClassVar[str] = "replica_reports"
    name: str = Field(primary_key=True)
    issuers: str
    heard_at_us: int = Field(sa_type=BigInteger)
    detail: str
