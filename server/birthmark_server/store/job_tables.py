"""The tables of jobs and retirements, by the rules of tables.py."""

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field

from birthmark_server.store.tables import Row

_OPEN = text("ended_at_us IS NULL")


class Jobs(Row, table=True):
    """jobs.Job: of those that have not ended, at most one per device."""

    __table_args__ = (
        Index("ux_jobs_open", "device_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_jobs_send_at_us", "send_at_us", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_jobs_deadline_us", "deadline_us", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index(None, "device_id", "sequence"),
        {"sqlite_with_rowid": False},
    )
    job_id: str = Field(primary_key=True)
    device_id: str = Field(foreign_key="devices.device_id")
    campaign_id: str
    sequence: int = Field(sa_type=BigInteger)
    state: str
    created_by: str
    created_at_us: int = Field(sa_type=BigInteger)
    deadline_us: int = Field(sa_type=BigInteger)
    send_at_us: int | None = Field(sa_type=BigInteger)
    sends: int
    nonce: bytes
    nonce_expires_at_us: int | None = Field(sa_type=BigInteger)
    request_sha256: str
    certificate_sha256: str
    code: str
    detail: str
    ended_at_us: int | None = Field(sa_type=BigInteger)
    revision: int


class Retirements(Row, table=True):
    """jobs.Retirement: one per device, of the newest certificate that it says it uses."""

    __table_args__ = ({"sqlite_with_rowid": False},)
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")
    certificate_sha256: str
    serial_number: str
    asked_at_us: int = Field(sa_type=BigInteger)
    look_at_us: int = Field(sa_type=BigInteger, index=True)
    looks: int
