"""Is this certificate revoked (as OCSP asks), and whose is it? By issuer and serial number: unique together."""

from typing import Final

from sqlalchemy import bindparam, select

from birthmark_server.domain import CertificateStatus, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import from_us_or_none
from birthmark_server.store.sql.certificates import CERTIFICATES
from birthmark_server.store.statement import Statement

_STATUS: Final = Statement(
    select(CERTIFICATES.c.revoked_at_us, CERTIFICATES.c.reason).where(
        CERTIFICATES.c.issuer_sha256 == bindparam("issuer"), CERTIFICATES.c.serial_number == bindparam("number")
    )
)
_HOLDER: Final = Statement(
    select(CERTIFICATES.c.device_id).where(
        CERTIFICATES.c.issuer_sha256 == bindparam("issuer"), CERTIFICATES.c.serial_number == bindparam("number")
    )
)


def certificate_status(tx: Transaction, issuer_sha256: str, serial_number: str) -> CertificateStatus | None:
    row = tx.row(_STATUS, issuer=issuer_sha256, number=serial_number)
    if row is None:
        return None
    revoked_at_us, reason = row
    return CertificateStatus(from_us_or_none(revoked_at_us), None if reason is None else RevocationReason(reason))


def certificate_holder(tx: Transaction, issuer_sha256: str, serial_number: str) -> str:
    row = tx.row(_HOLDER, issuer=issuer_sha256, number=serial_number)
    return str(row[0] or "") if row is not None else ""
