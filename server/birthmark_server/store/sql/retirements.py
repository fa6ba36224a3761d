"""Certificates that wait to be retired. See store/job_protocol.py for what each function promises."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from birthmark_server.domain import CertificateProfile, CertificateRecord, RevocationReason
from birthmark_server.jobs import JobEvent, Retirement, after
from birthmark_server.store.database import Transaction
from birthmark_server.store.job_tables import Retirements
from birthmark_server.store.journal_entries import CertificateRevoked
from birthmark_server.store.rows import certificate_from, from_us, to_us
from birthmark_server.store.sql.certificates import CERTIFICATES, get_certificate
from birthmark_server.store.sql.devices import lock_device, set_state
from birthmark_server.store.sql.jobs import change_job, open_job
from birthmark_server.store.statement import Row, Statement, Value
from birthmark_server.store.tables import table_of

_RETIREMENTS: Final = table_of(Retirements)
_NAMES: Final = [column.name for column in _RETIREMENTS.columns]

_ASK: Final = Statement(
    lambda insert: (
        insert(_RETIREMENTS)
        .values({name: bindparam(name) for name in _NAMES})
        .on_conflict_do_update(
            index_elements=[_RETIREMENTS.c.device_id],
            set_={name: bindparam(name) for name in _NAMES if name != "device_id"},
        )
    )
)
_OLDER: Final = (
    CERTIFICATES.c.device_id == bindparam("key"),
    CERTIFICATES.c.profile != CertificateProfile.IDEVID.value,
    CERTIFICATES.c.revoked_at_us.is_(None),
    CERTIFICATES.c.sha256 != bindparam("kept"),
    CERTIFICATES.c.issued_at_us <= bindparam("issued"),
)
_ANY_OLDER: Final = Statement(select(CERTIFICATES.c.sha256).where(*_OLDER).limit(1))
_REVOKE_OLDER: Final = Statement(
    update(CERTIFICATES)
    .where(*_OLDER)
    .values(revoked_at_us=bindparam("now"), reason=bindparam("why"), revoked_by=bindparam("who"))
    .returning(*CERTIFICATES.columns)
)
_DUE: Final = Statement(
    select(_RETIREMENTS)
    .where(_RETIREMENTS.c.look_at_us <= bindparam("now"))
    .order_by(_RETIREMENTS.c.look_at_us)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_PUT_ON: Final = Statement(
    update(_RETIREMENTS)
    .where(_RETIREMENTS.c.device_id == bindparam("key"))
    .values(look_at_us=bindparam("then"), looks=bindparam("number"))
)
_HASTEN: Final = Statement(
    update(_RETIREMENTS)
    .where(_RETIREMENTS.c.device_id == bindparam("key"), _RETIREMENTS.c.look_at_us > bindparam("then"))
    .values(look_at_us=bindparam("then"))
)
_FORGET: Final = Statement(
    delete(_RETIREMENTS).where(
        _RETIREMENTS.c.device_id == bindparam("key"), _RETIREMENTS.c.certificate_sha256 == bindparam("kept")
    )
)


def retirement_values(retirement: Retirement) -> dict[str, Value]:
    return {
        "device_id": retirement.device_id,
        "certificate_sha256": retirement.certificate_sha256,
        "serial_number": retirement.serial_number,
        "asked_at_us": to_us(retirement.asked_at),
        "look_at_us": to_us(retirement.look_at),
        "looks": retirement.looks,
    }


def retirement_from(row: Row) -> Retirement:
    return Retirement(row[0], row[1], row[2], from_us(row[3]), from_us(row[4]), row[5])


def ask_retirement(tx: Transaction, retirement: Retirement, proof: bool) -> bool:
    kept = get_certificate(tx, retirement.certificate_sha256)
    older = tx.row(_ANY_OLDER, key=retirement.device_id, kept=kept.sha256, issued=to_us(kept.issued_at))
    if older is None and not proof:
        return False
    tx.run(_ASK, **retirement_values(retirement))
    return True


def claim_retirements(
    tx: Transaction, at: datetime, limit: int, following: Callable[[Retirement], datetime]
) -> list[Retirement]:
    claimed = [retirement_from(row) for row in tx.rows(_DUE, now=to_us(at), most=limit)]
    for one in claimed:
        tx.run(_PUT_ON, key=one.device_id, then=to_us(following(one)), number=one.looks + 1)
    return claimed


def hasten_retirement(tx: Transaction, device_id: str, at: datetime) -> None:
    tx.run(_HASTEN, key=device_id, then=to_us(at))


def retire(tx: Transaction, retirement: Retirement, at: datetime, by: str) -> list[CertificateRecord]:
    device, _ = lock_device(tx, retirement.device_id)
    kept = get_certificate(tx, retirement.certificate_sha256)
    if tx.run(_FORGET, key=device.device_id, kept=kept.sha256) == 0 or kept.revoked_at is not None:
        return []
    _end_job(tx, kept, at)
    why = RevocationReason.SUPERSEDED
    rows = tx.rows(
        _REVOKE_OLDER,
        key=device.device_id,
        kept=kept.sha256,
        issued=to_us(kept.issued_at),
        now=to_us(at),
        why=why.value,
        who=by,
    )
    revoked = [certificate_from(row) for row in rows]
    tx.tell(*(CertificateRevoked(one.sha256, why, at, by) for one in revoked))
    if revoked:
        set_state(tx, device, device.state)
    return revoked


def _end_job(tx: Transaction, kept: CertificateRecord, at: datetime) -> None:
    job = open_job(tx, kept.device_id)
    if job is None or job.certificate_sha256 != kept.sha256:
        return
    state = after(job.state, JobEvent.SEEN_LIVE)
    if state is not None:
        change_job(tx, job, replace(job, state=state, send_at=None, code="", detail="", ended_at=at))
