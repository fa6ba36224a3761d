"""The rows of jobs. See store/job_protocol.py for what each function promises."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select, update

from birthmark_server.domain import CertificateProfile, CertificateRecord
from birthmark_server.jobs import ENDED, Job, JobState, NewJob
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import NonceUnknown, UnknownJob
from birthmark_server.store.job_tables import Jobs
from birthmark_server.store.protocol import Issuance
from birthmark_server.store.rows import certificate_from, from_us, from_us_or_none, to_us, to_us_or_none
from birthmark_server.store.sql.certificates import CERTIFICATES
from birthmark_server.store.sql.devices import find_device
from birthmark_server.store.sql.issuance import commit_issuance
from birthmark_server.store.statement import Row, Statement, Value, insert_all
from birthmark_server.store.tables import table_of

JOBS: Final = table_of(Jobs)

_OPEN: Final = JOBS.c.ended_at_us.is_(None)
_INSERT: Final = insert_all(JOBS)
_GET: Final = Statement(select(JOBS).where(JOBS.c.job_id == bindparam("key")))
_OPEN_OF: Final = Statement(select(JOBS).where(JOBS.c.device_id == bindparam("key"), _OPEN))
_OF_DEVICE: Final = Statement(
    select(JOBS).where(JOBS.c.device_id == bindparam("key")).order_by(JOBS.c.sequence.desc()).limit(bindparam("most"))
)
_LAST_SEQUENCE: Final = Statement(
    select(func.coalesce(func.max(JOBS.c.sequence), 0)).where(JOBS.c.device_id == bindparam("key"))
)
_FIXED: Final = ("job_id", "device_id", "campaign_id", "sequence", "created_by", "created_at_us", "deadline_us")
"""What a job has from its beginning to its end: not written again, so its indexes aren't either."""
_CHANGE: Final = Statement(
    update(JOBS).where(JOBS.c.job_id == bindparam("key"), JOBS.c.revision == bindparam("seen")),
    columns=[column.name for column in JOBS.columns if column.name not in _FIXED],
)
_DUE: Final = Statement(
    select(JOBS)
    .where(_OPEN, JOBS.c.send_at_us <= bindparam("now"))
    .order_by(JOBS.c.send_at_us)
    .limit(bindparam("most"))
    .with_for_update(skip_locked=True)
)
_LATE: Final = Statement(
    select(JOBS)
    .where(_OPEN, JOBS.c.deadline_us <= bindparam("now"))
    .order_by(JOBS.c.deadline_us)
    .limit(bindparam("most"))
)
_UNDER_WAY: Final = Statement(
    select(func.count()).where(
        _OPEN, JOBS.c.state == JobState.ACCEPTED.value, JOBS.c.nonce_expires_at_us > bindparam("now")
    )
)
_BY_SERIAL: Final = Statement(
    select(CERTIFICATES).where(
        CERTIFICATES.c.device_id == bindparam("key"),
        CERTIFICATES.c.serial_number == bindparam("number"),
        CERTIFICATES.c.profile != CertificateProfile.IDEVID.value,
    )
)


def job_values(job: Job) -> dict[str, Value]:
    return {
        "job_id": job.job_id,
        "device_id": job.device_id,
        "campaign_id": job.campaign_id,
        "sequence": job.sequence,
        "state": job.state.value,
        "created_by": job.created_by,
        "created_at_us": to_us(job.created_at),
        "deadline_us": to_us(job.deadline),
        "send_at_us": to_us_or_none(job.send_at),
        "sends": job.sends,
        "nonce": job.nonce,
        "nonce_expires_at_us": to_us_or_none(job.nonce_expires_at),
        "request_sha256": job.request_sha256,
        "certificate_sha256": job.certificate_sha256,
        "code": job.code,
        "detail": job.detail,
        "ended_at_us": to_us_or_none(job.ended_at),
        "revision": job.revision,
    }


def job_from(row: Row) -> Job:
    return Job(
        job_id=row[0],
        device_id=row[1],
        campaign_id=row[2],
        sequence=row[3],
        state=JobState(row[4]),
        created_by=row[5],
        created_at=from_us(row[6]),
        deadline=from_us(row[7]),
        send_at=from_us_or_none(row[8]),
        sends=row[9],
        nonce=bytes(row[10]),
        nonce_expires_at=from_us_or_none(row[11]),
        request_sha256=row[12],
        certificate_sha256=row[13],
        code=row[14],
        detail=row[15],
        ended_at=from_us_or_none(row[16]),
        revision=row[17],
    )


def open_jobs(tx: Transaction, jobs: Sequence[NewJob]) -> list[Job]:
    return [opened for new in jobs if (opened := _open(tx, new)) is not None]


def _open(tx: Transaction, new: NewJob) -> Job | None:
    if find_device(tx, new.device_id) is None:
        return None
    ((last,),) = tx.rows(_LAST_SEQUENCE, key=new.device_id)
    job = Job(
        job_id=new.job_id,
        device_id=new.device_id,
        campaign_id=new.campaign_id,
        sequence=max(int(last) + 1, to_us(new.created_at) // 1000),
        state=JobState.WAITING,
        created_by=new.created_by,
        created_at=new.created_at,
        deadline=new.deadline,
        send_at=new.created_at,
    )
    return job if tx.run(_INSERT, **job_values(job)) == 1 else None


def get_job(tx: Transaction, job_id: str) -> Job:
    row = tx.row(_GET, key=job_id)
    if row is None:
        raise UnknownJob(f"no job {job_id!r}")
    return job_from(row)


def open_job(tx: Transaction, device_id: str) -> Job | None:
    row = tx.row(_OPEN_OF, key=device_id)
    return None if row is None else job_from(row)


def device_jobs(tx: Transaction, device_id: str, limit: int) -> list[Job]:
    return [job_from(row) for row in tx.rows(_OF_DEVICE, key=device_id, most=limit)]


def change_job(tx: Transaction, job: Job, changed: Job) -> bool:
    if (changed.state in ENDED) != (changed.ended_at is not None):
        raise ValueError(f"a job that is {changed.state} with an end at {changed.ended_at}")
    values = job_values(replace(changed, revision=job.revision + 1))
    return tx.run(_CHANGE, key=job.job_id, seen=job.revision, **values) == 1


def commit_job_issuance(tx: Transaction, issuance: Issuance, job: Job, changed: Job) -> None:
    if not change_job(tx, job, changed):
        raise NonceUnknown(f"job {job.job_id} went on since: this nonce was used, or another one given out")
    commit_issuance(tx, issuance)


def claim_due(tx: Transaction, at: datetime, limit: int, following: Callable[[Job], datetime]) -> list[Job]:
    claimed = []
    for row in tx.rows(_DUE, now=to_us(at), most=limit):
        job = job_from(row)
        put_on = replace(job, send_at=following(job), sends=job.sends + 1)
        if change_job(tx, job, put_on):
            claimed.append(replace(put_on, revision=job.revision + 1))
    return claimed


def due_deadlines(tx: Transaction, at: datetime, limit: int) -> list[Job]:
    return [job_from(row) for row in tx.rows(_LATE, now=to_us(at), most=limit)]


def count_under_way(tx: Transaction, at: datetime) -> int:
    ((number,),) = tx.rows(_UNDER_WAY, now=to_us(at))
    return int(number)


def device_certificate(tx: Transaction, device_id: str, serial_number: str) -> CertificateRecord | None:
    row = tx.row(_BY_SERIAL, key=device_id, number=serial_number)
    return None if row is None else certificate_from(row)
