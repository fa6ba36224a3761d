"""The tables of jobs, retirements and campaigns, by the rules of tables.py."""

from typing import ClassVar

from sqlalchemy import BigInteger, Index, text
from sqlmodel import Field

from birthmark_server.store.tables import Row

_OPEN = text("ended_at_us IS NULL")


class Jobs(Row, table=True):
    """jobs.Job: of those that have not ended, at most one per device."""

    __table_args__ = (
        Index("ux_jobs_open", "device_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_jobs_send_at_us", "send_at_us", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_jobs_nonce_expires_at_us", "nonce_expires_at_us", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index("ix_jobs_deadline_us", "deadline_us", sqlite_where=_OPEN, postgresql_where=_OPEN),
        Index(None, "device_id", "sequence"),
        Index(None, "campaign_id", "created_at_us"),
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


class Campaigns(Row, table=True):
    """campaigns.Campaign. selector, strategy: JSON. looked_at_us: when a server last looked at it. check_at_us: when
    its outside check may be asked (again)."""

    campaign_id: str = Field(primary_key=True)
    state: str = Field(index=True)
    selector: str
    strategy: str
    created_by: str
    created_at_us: int = Field(sa_type=BigInteger)
    stage: int
    approved: int
    opened_at_us: int | None = Field(sa_type=BigInteger)
    rollout_at_us: int | None = Field(sa_type=BigInteger)
    ended_at_us: int | None = Field(sa_type=BigInteger)
    reason: str
    revision: int
    looked_at_us: int = Field(sa_type=BigInteger)
    check_at_us: int = Field(sa_type=BigInteger)


class CampaignMembers(Row, table=True):
    """A device in a campaign. place: in the order of turns. job_id: empty until its turn; skipped: why it had none.

    standing: `queued`, `running` or `skipped`, or its job's final state once that is counted in CampaignStages.
    """

    __tablename__: ClassVar[str] = "campaign_members"
    __table_args__ = (
        Index("ix_campaign_members_standing", "campaign_id", "standing", "stage", "place", "job_id"),
        {"sqlite_with_rowid": False},
    )
    campaign_id: str = Field(primary_key=True, foreign_key="campaigns.campaign_id")
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")
    stage: int
    place: int
    job_id: str
    attempts: int
    skipped: str
    standing: str


class CampaignStages(Row, table=True):
    """How many devices of a stage stand where, but for those that are running: they are counted by their jobs."""

    __tablename__: ClassVar[str] = "campaign_stages"
    campaign_id: str = Field(primary_key=True, foreign_key="campaigns.campaign_id")
    stage: int = Field(primary_key=True)
    queued: int
    done: int
    failed: int
    cancelled: int
    skipped: int


class CampaignEvents(Row, table=True):
    """What happened to a campaign, by whom, and why. Never changed."""

    __tablename__: ClassVar[str] = "campaign_events"
    campaign_id: str = Field(primary_key=True, foreign_key="campaigns.campaign_id")
    revision: int = Field(primary_key=True)
    at_us: int = Field(sa_type=BigInteger)
    event: str
    happened_by: str
    reason: str
