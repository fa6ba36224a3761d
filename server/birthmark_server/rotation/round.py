"""What has to be done now and then, by any server: send what is due, end what is late, retire what is proven.

Any number of servers do a round at the same time: what one has claimed the others pass over, for as long as it takes to
send it (store/job_protocol.py). A server that dies in between has sent it or not; after that time another one sends it
again, which a device that has it already answers as it did.
"""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final, Protocol

from birthmark_server.broker.control import Connection
from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.broker.link import SESSION_EXPIRY_S
from birthmark_server.broker.policy import Role
from birthmark_server.jobs import Job, JobEvent, JobState, Retirement, after
from birthmark_server.rotation.hearing import Publisher, Together
from birthmark_server.rotation.service import RotationService
from birthmark_server.store.errors import UnknownCertificate, UnknownDevice
from birthmark_server.store.job_protocol import JobStore

MOST_AT_ONCE: Final = 500
MOST_LOOKED_FOR: Final = 5000
"""Certificates that are looked for at one time."""
REST: Final = 1
"""How many times as long as asking the broker took we don't ask again."""
_FIRST_AGAIN: Final = timedelta(seconds=SESSION_EXPIRY_S + 5)
"""Longer than the broker gives a killed server its share of the answers, or the answer to this one is lost as well."""
_LAST_AGAIN: Final = timedelta(hours=1)
_FIRST_LOOK: Final = timedelta(seconds=2)
_LAST_LOOK: Final = timedelta(minutes=10)
_log: Final = logging.getLogger(__name__)

LATE: Final = {
    JobState.WAITING: ("not-accepted", "the device did not accept before the deadline"),
    JobState.ACCEPTED: ("no-request", "the device accepted, and sent no request that could be granted"),
    JobState.ISSUED: ("not-used", "the device was issued a certificate, and did not say that it uses it"),
    JobState.ACTIVE: ("not-seen", "the device says that it uses its certificate; the broker never showed it"),
}
"""Why a job expired, by where it stood, if nothing worse was noted before."""


class Broker(Protocol):
    """The part of BrokerControl and its link that a round needs."""

    @property
    def live(self) -> bool: ...

    def connections_of(self, device_ids: Collection[str]) -> list[Connection]: ...


class Round:
    """One server's share of the work. What it retires gets onto the broker's deny list as everything does that the
    database denies (denials.DenyFileKeeper): nobody is connected with it, so there is no hurry."""

    def __init__(
        self,
        *,
        store: Together,
        jobs: JobStore,
        service: RotationService,
        publisher: Publisher,
        broker: Broker,
        now: Callable[[], datetime],
        stopwatch: Callable[[], float] = time.perf_counter,
    ) -> None:
        """stopwatch: seconds from anywhere."""
        self._store = store
        self._jobs = jobs
        self._service = service
        self._publisher = publisher
        self._broker = broker
        self._now = now
        self._stopwatch = stopwatch
        self._rested = stopwatch()

    def run(self) -> int:
        """Do what is due; return how much was done. 0: come back in a second."""
        done = self.end_late()
        if self._broker.live:
            done += self.send_due() + self.retire_proven()
        return done

    def end_late(self) -> int:
        """End the jobs whose deadline has passed."""
        at = self._now()
        late = self._jobs.due_deadlines(at=at, limit=MOST_AT_ONCE)
        if not late:
            return 0
        with self._store.together():
            return sum(self._jobs.change_job(job, expired(job, at)) for job in late)

    def send_due(self) -> int:
        """Send the commands that are due."""
        at = self._now()
        claimed = self._jobs.claim_due(at=at, limit=MOST_AT_ONCE, following=lambda job: _again(job, at))
        for job in claimed:
            said = self._service.reminder(job, at=at)
            try:
                if said is not None:
                    self._publisher.publish(said.topic, said.payload, expires_s=said.expires_s)
            except BrokerUnavailable as error:
                _log.warning("commands not sent", extra={"fields": {"count": len(claimed), "reason": str(error)}})
                return 0
        return len(claimed)

    def retire_proven(self) -> int:
        """Retire the older certificates of devices that the broker shows with their new ones."""
        if self._stopwatch() < self._rested:
            return 0
        at = self._now()
        waiting = self._jobs.claim_retirements(at=at, limit=MOST_LOOKED_FOR, following=lambda one: _look_again(one, at))
        if not waiting:
            return 0
        began = self._stopwatch()
        try:
            shown = self._broker.connections_of({one.device_id for one in waiting})
        except BrokerUnavailable as error:
            _log.warning("connections not listed", extra={"fields": {"reason": str(error)}})
            return 0
        ended = self._stopwatch()
        self._rested = ended + REST * (ended - began)
        live = {(one.identity, one.serial) for one in shown if one.role is Role.DEVICE}
        proven = [one for one in waiting if (one.device_id, one.serial_number) in live]
        with self._store.together():
            for one in proven:
                try:
                    self._jobs.retire(one, at=at, by=f"device:{one.device_id}")
                except (UnknownDevice, UnknownCertificate) as error:
                    _log.error("not retired", extra={"fields": {"device": one.device_id, "reason": str(error)}})
        return len(proven)


def expired(job: Job, at: datetime) -> Job:
    """Return the job as its deadline leaves it."""
    state = after(job.state, JobEvent.TIMED_OUT)
    if state is None:
        raise ValueError(f"a job that is {job.state} has no deadline")
    code, detail = (job.code, job.detail) if job.code else LATE[job.state]
    return replace(
        job, state=state, nonce=b"", nonce_expires_at=None, send_at=None, code=code, detail=detail, ended_at=at
    )


def _again(job: Job, at: datetime) -> datetime:
    return at + min(_FIRST_AGAIN * 4.0 ** min(job.sends, 6), _LAST_AGAIN)


def _look_again(retirement: Retirement, at: datetime) -> datetime:
    return at + min(_FIRST_LOOK * 2.0 ** min(retirement.looks, 10), _LAST_LOOK)
