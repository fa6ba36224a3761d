"""SqlJobs: the JobStore protocol (store/job_protocol.py) over a Database. Nothing happens here."""

from collections.abc import Callable, Sequence
from datetime import datetime

from birthmark_server.domain import CertificateRecord
from birthmark_server.jobs import Job, NewJob, Retirement
from birthmark_server.store.database import Database
from birthmark_server.store.job_protocol import JobStore
from birthmark_server.store.protocol import Issuance
from birthmark_server.store.sql import jobs, retirements


class SqlJobs(JobStore):
    """Jobs on SQLite or PostgreSQL. Made by SqlStore."""

    def __init__(self, database: Database) -> None:
        self._read = database.read
        self._write = database.write

    def open_jobs(self, new: Sequence[NewJob]) -> list[Job]:
        return self._write(jobs.open_jobs, new)

    def get_job(self, job_id: str) -> Job:
        return self._read(jobs.get_job, job_id)

    def open_job(self, device_id: str) -> Job | None:
        return self._read(jobs.open_job, device_id)

    def device_jobs(self, device_id: str, *, limit: int = 100) -> list[Job]:
        return self._read(jobs.device_jobs, device_id, limit)

    def change_job(self, job: Job, changed: Job) -> bool:
        return self._write(jobs.change_job, job, changed)

    def commit_job_issuance(self, issuance: Issuance, job: Job, changed: Job) -> None:
        self._write(jobs.commit_job_issuance, issuance, job, changed)

    def claim_due(self, *, at: datetime, limit: int, following: Callable[[Job], datetime]) -> list[Job]:
        return self._write(jobs.claim_due, at, limit, following)

    def due_deadlines(self, *, at: datetime, limit: int) -> list[Job]:
        return self._read(jobs.due_deadlines, at, limit)

    def count_under_way(self, *, at: datetime) -> int:
        return self._read(jobs.count_under_way, at)

    def device_certificate(self, device_id: str, serial_number: str) -> CertificateRecord | None:
        return self._read(jobs.device_certificate, device_id, serial_number)

    def ask_retirement(self, retirement: Retirement, *, proof: bool = False) -> bool:
        return self._write(retirements.ask_retirement, retirement, proof)

    def claim_retirements(
        self, *, at: datetime, limit: int, following: Callable[[Retirement], datetime]
    ) -> list[Retirement]:
        return self._write(retirements.claim_retirements, at, limit, following)

    def hasten_retirement(self, device_id: str, *, at: datetime) -> None:
        self._write(retirements.hasten_retirement, device_id, at)

    def retire(self, retirement: Retirement, *, at: datetime, by: str) -> list[CertificateRecord]:
        return self._write(retirements.retire, retirement, at, by)
