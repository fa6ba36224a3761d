"""After a replay: certificates that came to light after the act that would have revoked them.

Who revokes or retires a device, or approves a board swap, revokes all of its certificates that are on record. After a
restore without some journal, certificates which that journal tells of are not; when it is found they must not stand,
though the revocation was lifted since, or the swap has ended: a readmitted device's certificates stay revoked, and an
old board's too. Certificates issued after the act are not touched, nor is any for a quarantine: that revokes none.
"""

from typing import Any, Final

from sqlalchemy import ColumnElement, Select, literal, select

from birthmark_server.domain import DeviceState, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import from_us
from birthmark_server.store.sql.certificates import CERTIFICATES, revoke_one
from birthmark_server.store.sql.revocation import REVOCATIONS
from birthmark_server.store.sql.swaps import SWAPS
from birthmark_server.store.statement import Statement


def _issued_before(at_us: ColumnElement[Any]) -> tuple[ColumnElement[bool], ...]:
    return CERTIFICATES.c.revoked_at_us.is_(None), CERTIFICATES.c.issued_at_us < at_us


def _late(reason: ColumnElement[str], at_us: ColumnElement[Any], by: ColumnElement[str]) -> Select[Any]:
    return select(CERTIFICATES.c.sha256, reason, at_us, by).where(*_issued_before(at_us)).order_by(at_us)


_LATE: Final = (
    Statement(
        _late(REVOCATIONS.c.reason, REVOCATIONS.c.at_us, REVOCATIONS.c.revoked_by)
        .join(CERTIFICATES, CERTIFICATES.c.device_id == REVOCATIONS.c.device_id)
        .where(REVOCATIONS.c.state != DeviceState.QUARANTINED.value)
    ),
    Statement(
        _late(literal(RevocationReason.SUPERSEDED.value), SWAPS.c.approved_at_us, SWAPS.c.approved_by).join(
            CERTIFICATES, CERTIFICATES.c.device_id == SWAPS.c.device_id
        )
    ),
)


def revoke_late(tx: Transaction) -> int:
    """Revoke them, as by the first act that they came too late for; return how many."""
    late = [row for statement in _LATE for row in tx.rows(statement)]
    return sum(
        revoke_one(tx, sha256, RevocationReason(reason), from_us(at_us), by) for sha256, reason, at_us, by in late
    )
