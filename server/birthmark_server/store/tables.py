"""The tables, as SQLModel classes. What the columns mean is said in `domain`; rows.py converts.

Rules that hold for all of them, on SQLite and PostgreSQL alike:
- a column stands where its field stands in the domain's dataclass, so that a row is read by position;
- times are whole microseconds since 1970 in UTC (`_us`): exact up to the year 9999, compared as numbers;
- who did it is a text that may be empty (`_name_column`): rows from before names were kept have none;
- what must be unique is a constraint here, and what is looked up by a request has an index here;
- migrations/ makes these tables; tests/store hold the two equal.
"""

from typing import ClassVar, cast

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import registry
from sqlmodel import Field, SQLModel

NAMES = {
    "pk": "pk_%(table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}
"""Constraints have names of their own, the same on both back ends, so that a migration can find them."""


METADATA: MetaData = MetaData(naming_convention=NAMES)


class Row(SQLModel, registry=registry(metadata=METADATA)):
    """The common base: a metadata of its own, so that another SQLModel user in the process stays out of it."""

    metadata: ClassVar[MetaData] = METADATA


def _row_number() -> Column[int]:
    """A key that the database counts up: 64 bits, which SQLite has only under the name INTEGER."""
    return Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


def _name_column(name: str) -> Column[str]:
    """Who did it, or what else was not kept once: the database fills in "" for rows from before the column."""
    return Column(name, String, nullable=False, server_default="")


# -- what operators set up


class Models(Row, table=True):
    """domain.DeviceModel. Lists are joined with commas."""

    name: str = Field(primary_key=True)
    ek_template: str
    require_ek_certificate: bool
    quote_pcrs: str
    manufacturers: str
    added_by: str = Field(sa_column=_name_column("added_by"))


class Manifest(Row, table=True):
    """domain.ManifestEntry: EK, serial and device id are each admitted once."""

    ek_sha256: str = Field(primary_key=True)
    serial: str = Field(unique=True)
    model: str = Field(foreign_key="models.name")
    device_id: str = Field(unique=True)
    imported_by: str
    imported_at_us: int = Field(sa_type=BigInteger)
    batch: str = Field(sa_column=Column("batch", String, nullable=False, server_default=""))


class Batches(Row, table=True):
    """domain.Batch. `used` only rises, and only while below `quota`."""

    name: str = Field(primary_key=True)
    model: str = Field(foreign_key="models.name")
    quota: int
    used: int
    opened_by: str
    opened_at_us: int = Field(sa_type=BigInteger)
    closes_at_us: int = Field(sa_type=BigInteger)
    closed_at_us: int | None = Field(sa_type=BigInteger)
    closed_by: str = Field(sa_column=_name_column("closed_by"))


class Denials(Row, table=True):
    """domain.DenyEntry. denial_id: SHA-256 of its content, so that the same entry twice is one."""

    device_id: str
    serial: str
    ek_sha256: str
    reason: str
    denied_by: str
    denied_at_us: int = Field(sa_type=BigInteger)
    claimed_ek_sha256: str
    denial_id: str = Field(primary_key=True)


class DeniedKeys(Row, table=True):
    """What a denial matches, one key a row: `id:DEVICE`, `serial:SERIAL`, `ek:SHA256` or `claim:SHA256`."""

    __tablename__: ClassVar[str] = "denied_keys"
    __table_args__ = ({"sqlite_with_rowid": False},)
    key: str = Field(primary_key=True)
    denial_id: str = Field(primary_key=True, foreign_key="denials.denial_id")


# -- devices


class Devices(Row, table=True):
    """domain.Device. serial is null where there is none (software devices): it is unique among the others.

    other_ek_sha256 repeats what endorsement_claims holds, so that a request reads one row. rekeyed_at_us: when the
    device last replaced its birth key by itself; null if never since its board is in place.
    """

    __table_args__ = (
        Index(None, "state", "device_id"),
        Index(None, "batch", "device_id"),
        {"sqlite_with_rowid": False},
    )
    device_id: str = Field(primary_key=True)
    serial: str | None = Field(unique=True)
    model: str
    batch: str
    state: str
    epoch: int
    assurance: str
    ek_sha256: str
    other_ek_sha256: str
    ak_public: bytes
    birth_spki_sha256: str
    enrolled_at_us: int = Field(sa_type=BigInteger)
    last_seen_at_us: int | None = Field(sa_type=BigInteger)
    rekeyed_at_us: int | None = Field(sa_type=BigInteger)


class EndorsementKeys(Row, table=True):
    """The proven EK of every device: none belongs to two."""

    __tablename__: ClassVar[str] = "endorsement_keys"
    __table_args__ = ({"sqlite_with_rowid": False},)
    ek_sha256: str = Field(primary_key=True)
    device_id: str = Field(foreign_key="devices.device_id")


class EndorsementClaims(Row, table=True):
    """The EKs that devices showed beside their own. Anyone may show anyone's, so these are not unique."""

    __tablename__: ClassVar[str] = "endorsement_claims"
    __table_args__ = (Index(None, "device_id"), {"sqlite_with_rowid": False})
    ek_sha256: str = Field(primary_key=True)
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")


class DeviceRevocations(Row, table=True):
    """domain.DeviceRevocation: each one, until it is lifted and after.

    A device with one that is not lifted is never active.
    """

    __tablename__: ClassVar[str] = "device_revocations"
    __table_args__ = ({"sqlite_with_rowid": False},)
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")
    epoch: int = Field(primary_key=True)
    reason: str
    at_us: int = Field(sa_type=BigInteger)
    revoked_by: str = Field(sa_column=_name_column("revoked_by"))
    lifted_at_us: int | None = Field(sa_type=BigInteger)
    lifted_by: str = Field(sa_column=_name_column("lifted_by"))
    state: str = Field(sa_column=Column("state", String, nullable=False, server_default="revoked"))
    note: str = Field(sa_column=Column("note", String, nullable=False, server_default=""))


class BoardSwaps(Row, table=True):
    """domain.BoardSwap: of those that have not ended at most one per device, and none for an EK that another names."""

    __tablename__: ClassVar[str] = "board_swaps"
    __table_args__ = (
        Index(
            "ux_board_swaps_device_id",
            "device_id",
            unique=True,
            sqlite_where=text("ended_at_us IS NULL"),
            postgresql_where=text("ended_at_us IS NULL"),
        ),
        Index(
            "ux_board_swaps_new_ek_sha256",
            "new_ek_sha256",
            unique=True,
            sqlite_where=text("ended_at_us IS NULL"),
            postgresql_where=text("ended_at_us IS NULL"),
        ),
    )
    device_id: str = Field(primary_key=True, foreign_key="devices.device_id")
    new_ek_sha256: str = Field(primary_key=True)
    requested_by: str
    requested_at_us: int = Field(sa_column=Column("requested_at_us", BigInteger, primary_key=True, autoincrement=False))
    approved_by: str
    approved_at_us: int | None = Field(sa_type=BigInteger)
    expires_at_us: int | None = Field(sa_type=BigInteger)
    ended_at_us: int | None = Field(sa_type=BigInteger)


class Certificates(Row, table=True):
    """domain.CertificateRecord. device_id is null for the infrastructure's own.

    A device's key is certified once (issuance.py); that is no constraint here, since a replay must bring back whatever
    was issued. Three small indexes serve lists: what is revoked, with all that a CRL says of it, so
    that making one reads nothing else; what is not a device's, for operators; and what stands, with all that selecting
    devices by the certificate in use asks.
    """

    __table_args__ = (
        UniqueConstraint("issuer_sha256", "serial_number"),
        Index(None, "device_id", "issued_at_us"),
        Index(None, "device_id", "spki_sha256"),
        Index(
            "ix_certificates_revoked",
            "issuer_sha256",
            "serial_number",
            "not_after_us",
            "revoked_at_us",
            "reason",
            sqlite_where=text("revoked_at_us IS NOT NULL"),
            postgresql_where=text("revoked_at_us IS NOT NULL"),
        ),
        Index(
            "ix_certificates_infrastructure",
            "profile",
            "sha256",
            sqlite_where=text("device_id IS NULL"),
            postgresql_where=text("device_id IS NULL"),
        ),
        Index(
            "ix_certificates_standing",
            "device_id",
            "profile",
            "not_after_us",
            "issuer_sha256",
            "revoked_at_us",  # null in all of it; without it SQLite looks each one up
            sqlite_where=text("revoked_at_us IS NULL"),
            postgresql_where=text("revoked_at_us IS NULL"),
        ),
    )
    sha256: str = Field(primary_key=True)
    issuer_sha256: str
    serial_number: str
    profile: str
    device_id: str | None = Field(foreign_key="devices.device_id")
    subject: str
    not_before_us: int = Field(sa_type=BigInteger)
    not_after_us: int = Field(sa_type=BigInteger)
    der: bytes
    issued_at_us: int = Field(sa_type=BigInteger)
    spki_sha256: str
    revoked_at_us: int | None = Field(sa_type=BigInteger)
    reason: str | None
    issued_by: str = Field(sa_column=_name_column("issued_by"))
    revoked_by: str = Field(sa_column=_name_column("revoked_by"))


class CrlNumbers(Row, table=True):
    """The last CRL number of each issuer, and when that list was made; null where only the number is known."""

    __tablename__: ClassVar[str] = "crl_numbers"
    issuer_sha256: str = Field(primary_key=True)
    number: int = Field(sa_type=BigInteger)
    made_at_us: int | None = Field(sa_type=BigInteger)


# -- between two requests


class Pending(Row, table=True):
    """domain.PendingEnrollment as it began; how it ended is in `answers`."""

    __table_args__ = (Index(None, "key_name"),)
    enrollment_id: str = Field(primary_key=True)
    source: str
    station: str
    request: bytes
    nonce: bytes
    secret_sha256: bytes
    ek_sha256: str
    other_ek_sha256: str
    ak_name: bytes
    key_name: bytes
    assurance: str
    device_id: str
    serial: str
    model: str
    batch: str
    epoch: int
    created_at_us: int = Field(sa_type=BigInteger)
    expires_at_us: int = Field(sa_type=BigInteger, index=True)


class Answers(Row, table=True):
    """What an enrollment was granted. Its primary key is what makes an enrollment count once."""

    enrollment_id: str = Field(primary_key=True)
    request_sha256: str
    answer: bytes
    expires_at_us: int = Field(sa_type=BigInteger, index=True)


class EstNonces(Row, table=True):
    """domain.EstNonce. Consumed by deletion."""

    __tablename__: ClassVar[str] = "est_nonces"
    __table_args__ = (Index(None, "device_id", "expires_at_us"),)
    nonce: bytes = Field(sa_column=Column("nonce", LargeBinary, primary_key=True))
    device_id: str
    expires_at_us: int = Field(sa_type=BigInteger, index=True)


# -- what happened


class EvidenceRows(Row, table=True):
    """domain.Evidence and the decision that it belongs to. certificate_sha256 is empty where none was issued."""

    __tablename__: ClassVar[str] = "evidence"
    at_us: int = Field(sa_type=BigInteger)
    kind: str
    verifier_version: str
    roots_version: str
    parts: bytes
    device_id: str = Field(sa_column=Column("device_id", ForeignKey("devices.device_id"), nullable=False, index=True))
    certificate_sha256: str
    id: int | None = Field(default=None, sa_column=_row_number())


class Refusals(Row, table=True):
    """domain.Refusal."""

    __table_args__ = (Index(None, "code", "id"), Index(None, "device_id", "id"))
    at_us: int = Field(sa_type=BigInteger, index=True)
    request_id: str
    door: str
    source: str
    code: str
    detail: str
    device_id: str
    ek_sha256: str
    evidence: bytes
    other_ek_sha256: str = Field(sa_column=_name_column("other_ek_sha256"))
    id: int | None = Field(default=None, sa_column=_row_number())


def table_of(row: type[Row]) -> Table:
    """The SQLAlchemy Core table behind a row class: what statements are made of."""
    return cast(Table, row.__table__)  # type: ignore[attr-defined]  # SQLModel makes it and does not declare it
