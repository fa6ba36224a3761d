"""The part of the store that jobs need; its rules are those of protocol.py, and tests/store/contract_jobs.py is it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from birthmark_server.domain import CertificateRecord
from birthmark_server.jobs import Job, NewJob, Retirement
from birthmark_server.store.protocol import Issuance


class JobStore(Protocol):
    """Jobs, and certificates that wait to be retired. Errors: store/errors.py."""

    def open_jobs(self, new: Sequence[NewJob]) -> list[Job]:
        """Open them, WAITING and to be sent at once; return those opened. One for a device that has an open job, or is
        not on record, is left out. A job's sequence is above all that the device ever had, and no less than the
        milliseconds since 1970, so that a restored database gives none twice."""

    def get_job(self, job_id: str) -> Job:
        """Raise UnknownJob."""

    def open_job(self, device_id: str) -> Job | None:
        """The device's open job, if any."""

    def device_jobs(self, device_id: str, *, limit: int = 100) -> list[Job]:
        """All jobs of a device, newest first."""

    def change_job(self, job: Job, changed: Job) -> bool:
        """Write `changed`, one revision on, if the job still stands as `job`; return whether it did."""

    def commit_job_issuance(self, issuance: Issuance, job: Job, changed: Job) -> None:
        """As Store.commit_issuance and change_job, in one transaction. NonceUnknown if the job stands otherwise: then
        its nonce was used, or another one was given out since."""

    def claim_due(self, *, at: datetime, limit: int, following: Callable[[Job], datetime]) -> list[Job]:
        """Take open jobs whose time to be sent has come, oldest first, and put that time on to `following(job)`: no
        other server takes them before. Those that another one is just taking are passed over. Returned as written."""

    def due_deadlines(self, *, at: datetime, limit: int) -> list[Job]:
        """Open jobs whose deadline has passed."""

    def count_under_way(self, *, at: datetime) -> int:
        """How many open jobs hold a nonce that is still good."""

    def device_certificate(self, device_id: str, serial_number: str) -> CertificateRecord | None:
        """The device's operational certificate of this serial number."""

    def ask_retirement(self, retirement: Retirement, *, proof: bool = False) -> bool:
        """Note it, in place of the device's earlier one, if there is anything to retire: an unrevoked operational
        certificate of the device, issued before this one. proof: in any case, since a job waits to see it live. Return
        whether it was noted."""

    def claim_retirements(
        self, *, at: datetime, limit: int, following: Callable[[Retirement], datetime]
    ) -> list[Retirement]:
        """As claim_due, for retirements to be looked at."""

    def hasten_retirement(self, device_id: str, *, at: datetime) -> None:
        """Have the device's retirement, if any, looked at now."""

    def retire(self, retirement: Retirement, *, at: datetime, by: str) -> list[CertificateRecord]:
        """The broker shows this certificate: revoke (superseded) every operational certificate of the device that was
        issued before it, raise the epoch if there was one, end the device's job if it is ACTIVE with it, and forget the
        retirement. Return those newly revoked. Nothing at all if the certificate is revoked or the retirement is not
        the one on record."""
