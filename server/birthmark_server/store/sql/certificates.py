"""The rows of certificates: written once, marked revoked once, never deleted."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, bindparam, exists, func, or_, select, update

from birthmark_server.authorities import AuthorityState
from birthmark_server.domain import CertificateProfile, CertificateRecord, Device, RevocationReason
from birthmark_server.store.authority_tables import Authorities
from birthmark_server.store.database import Database, Transaction
from birthmark_server.store.errors import (
    AlreadyExists,
    IssuerSuperseded,
    KeyUsedBefore,
    StationRevoked,
    UnknownCertificate,
)
from birthmark_server.store.journal_entries import CertificateRevoked
from birthmark_server.store.rows import certificate_from, certificate_values, device_from, to_us
from birthmark_server.store.sql.devices import DEVICE_COLUMNS, DEVICES
from birthmark_server.store.statement import LookUp, Statement, insert_all, keys, one_of
from birthmark_server.store.tables import Certificates, table_of

CERTIFICATES: Final = table_of(Certificates)

DEVICE_PROFILES: Final = frozenset(
    {CertificateProfile.IDEVID, CertificateProfile.LDEVID, CertificateProfile.LDEVID_SOFTWARE}
)

_PAGE: Final = 5000

_INSERT: Final = insert_all(CERTIFICATES)
_AUTHORITIES: Final = table_of(Authorities)
_OTHER_THAN_ACTIVE: Final = Statement(
    select(_AUTHORITIES.c.name, _AUTHORITIES.c.state).where(
        _AUTHORITIES.c.sha256 == bindparam("key"), _AUTHORITIES.c.state != AuthorityState.ACTIVE.value
    )
)
_FOLLOWED_AFTER_S: Final = 2
"""Servers follow the record of authorities every second (rollover/record.py)."""
_GET: Final = Statement(select(CERTIFICATES).where(CERTIFICATES.c.sha256 == bindparam("key")))
_GET_WITH_DEVICE: Final = Statement(
    select(*CERTIFICATES.columns, *DEVICE_COLUMNS)
    .select_from(CERTIFICATES.outerjoin(DEVICES, DEVICES.c.device_id == CERTIFICATES.c.device_id))
    .where(CERTIFICATES.c.sha256 == bindparam("key"))
)
_OF_DEVICE: Final = Statement(
    select(CERTIFICATES)
    .where(CERTIFICATES.c.device_id == bindparam("key"))
    .order_by(CERTIFICATES.c.issued_at_us.desc(), CERTIFICATES.c.sha256)
)
_ISSUED_SINCE: Final = Statement(
    select(func.count()).where(
        CERTIFICATES.c.device_id == bindparam("key"), CERTIFICATES.c.issued_at_us >= bindparam("since")
    )
)
_UNREVOKED: Final = Statement(
    select(CERTIFICATES.c.sha256)
    .where(CERTIFICATES.c.sha256 == bindparam("key"), CERTIFICATES.c.revoked_at_us.is_(None))
    .with_for_update(read=True)
)
_KEY_IN_USE: Final = Statement(
    select(DEVICES.c.device_id).where(
        DEVICES.c.device_id == bindparam("key"),
        or_(
            DEVICES.c.birth_spki_sha256 == bindparam("spki"),
            exists().where(
                CERTIFICATES.c.device_id == DEVICES.c.device_id, CERTIFICATES.c.spki_sha256 == bindparam("spki")
            ),
        ),
    )
)
_REVOKE_ALL: Final = Statement(
    update(CERTIFICATES)
    .where(CERTIFICATES.c.device_id == bindparam("key"), CERTIFICATES.c.revoked_at_us.is_(None))
    .values(revoked_at_us=bindparam("now"), reason=bindparam("why"), revoked_by=bindparam("who"))
    .returning(*CERTIFICATES.columns)
)
_REVOKE_ONE: Final = Statement(
    update(CERTIFICATES)
    .where(CERTIFICATES.c.sha256 == bindparam("key"), CERTIFICATES.c.revoked_at_us.is_(None))
    .values(revoked_at_us=bindparam("now"), reason=bindparam("why"), revoked_by=bindparam("who"))
)
_REVOKED: Final = LookUp(
    lambda number: (
        select(CERTIFICATES.c.serial_number)
        .where(
            CERTIFICATES.c.issuer_sha256 == bindparam("issuer"),
            CERTIFICATES.c.revoked_at_us.is_not(None),
            CERTIFICATES.c.not_after_us >= bindparam("now"),
            CERTIFICATES.c.serial_number > bindparam("after"),
            one_of(CERTIFICATES.c.profile, number),
        )
        .order_by(CERTIFICATES.c.serial_number)
        .limit(_PAGE)
    )
)


# -- reading


def get_certificate(tx: Transaction, sha256: str) -> CertificateRecord:
    row = tx.row(_GET, key=sha256)
    if row is None:
        raise UnknownCertificate(f"no certificate with SHA-256 {sha256!r} was issued here")
    return certificate_from(row)


def certificate_by_sha256(tx: Transaction, sha256: str) -> tuple[CertificateRecord, Device | None] | None:
    row = tx.row(_GET_WITH_DEVICE, key=sha256)
    if row is None:
        return None
    width = len(CERTIFICATES.columns)
    return certificate_from(row[:width]), None if row[width] is None else device_from(row[width:])


def device_certificates(tx: Transaction, device_id: str) -> list[CertificateRecord]:
    return [certificate_from(row) for row in tx.rows(_OF_DEVICE, key=device_id)]


def issued_since(tx: Transaction, device_id: str, since: datetime) -> int:
    ((number,),) = tx.rows(_ISSUED_SINCE, key=device_id, since=to_us(since))
    return int(number)


def list_certificates(tx: Transaction, profile: str, after: str, limit: int) -> list[CertificateRecord]:
    wanted: list[ColumnElement[bool]] = [CERTIFICATES.c.sha256 > after]
    if profile:
        wanted.append(CERTIFICATES.c.profile == profile)
        if profile not in DEVICE_PROFILES:
            wanted.append(CERTIFICATES.c.device_id.is_(None))  # true of them all, and what their small index covers
    page = select(CERTIFICATES).where(*wanted).order_by(CERTIFICATES.c.sha256).limit(limit)
    return [certificate_from(row) for row in tx.rows(Statement(page))]


def revoked_serials(
    database: Database, issuer_sha256: str, profiles: Sequence[CertificateProfile], at: datetime
) -> Iterator[str]:
    """By pages: a revocation is never undone, so whatever was revoked before the first page is on one of them."""
    after = ""
    while page := database.read(_revoked_page, issuer_sha256, profiles, to_us(at), after):
        yield from page
        after = page[-1]


def _revoked_page(
    tx: Transaction, issuer_sha256: str, profiles: Sequence[CertificateProfile], now: int, after: str
) -> list[str]:
    named = keys([profile.value for profile in profiles])
    rows = tx.rows(_REVOKED.of(profiles), issuer=issuer_sha256, now=now, after=after, **named)
    return [serial for (serial,) in rows]


def require_unrevoked(tx: Transaction, station_sha256: str) -> None:
    """Raise StationRevoked unless the station's certificate stands, and hold its revocation off until the end."""
    if tx.row(_UNREVOKED, key=station_sha256) is None:
        raise StationRevoked("the station's certificate was revoked since the request began")


def require_new_key(tx: Transaction, device_id: str, spki_sha256: str) -> None:
    """Raise KeyUsedBefore for a key that the device, whose row is locked, was certified for before."""
    if tx.row(_KEY_IN_USE, key=device_id, spki=spki_sha256) is not None:
        raise KeyUsedBefore(f"device {device_id} has or had a certificate for this key: each one is for a new key")


# -- writing


def insert_certificate(tx: Transaction, certificate: CertificateRecord) -> None:
    """Record what is about to be released. Raise AlreadyExists if hash, or issuer and serial number, are on record;
    IssuerSuperseded if its authority issues no more, or not yet."""
    _require_issuing(tx, certificate)
    if tx.run(_INSERT, **certificate_values(certificate)) == 0:
        raise AlreadyExists(f"certificate {certificate.serial_number} of {certificate.issuer_sha256} is on record")
    tx.tell(certificate)


def _require_issuing(tx: Transaction, certificate: CertificateRecord) -> None:
    """An OCSP signer is the exception: each authority has one of its own for as long as it is believed."""
    if certificate.profile is CertificateProfile.OCSP:
        return
    other = tx.row(_OTHER_THAN_ACTIVE, key=certificate.issuer_sha256)
    if other is not None:
        name, state = other
        raise IssuerSuperseded(f"{name} is {state} and issues nothing: ask again", retry_after_s=_FOLLOWED_AFTER_S)


def revoke_all(
    tx: Transaction, device_id: str, reason: RevocationReason, at: datetime, by: str
) -> list[CertificateRecord]:
    """Revoke every certificate of a device, which the caller has locked; return those newly revoked."""
    rows = tx.rows(_REVOKE_ALL, key=device_id, now=to_us(at), why=reason.value, who=by)
    revoked = [certificate_from(row) for row in rows]
    tx.tell(*(CertificateRevoked(certificate.sha256, reason, at, by) for certificate in revoked))
    return revoked


def revoke_one(tx: Transaction, sha256: str, reason: RevocationReason, at: datetime, by: str) -> bool:
    """Revoke one certificate; return False if it was, or is not on record."""
    if tx.run(_REVOKE_ONE, key=sha256, now=to_us(at), why=reason.value, who=by) == 0:
        return False
    tx.tell(CertificateRevoked(sha256, reason, at, by))
    return True


# -- replay


def put_certificate(tx: Transaction, certificate: CertificateRecord) -> bool:
    """Return True if it was not on record."""
    return tx.run(_INSERT, **certificate_values(certificate)) == 1


def certificate_is_known(tx: Transaction, sha256: str) -> bool:
    return tx.row(_GET, key=sha256) is not None
