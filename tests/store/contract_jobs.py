"""The contract: jobs, and certificates that wait to be retired."""

from dataclasses import replace
from datetime import datetime

import pytest

from birthmark_server.domain import Device, RevocationReason
from birthmark_server.jobs import Job, JobState, NewJob, Retirement
from birthmark_server.store.errors import DeviceNotActive, NonceUnknown, UnknownCertificate, UnknownJob
from birthmark_server.store.sql.store import SqlStore
from store.values import DAY, HOUR, MINUTE, NOW, bear, give_nonce, issuance
from store.world import World, race


def new_job(of: Device, name: str = "a", *, at: datetime = NOW) -> NewJob:
    return NewJob(f"job-{of.device_id}-{name}", of.device_id, "alice", at, at + DAY)


def opened(store: SqlStore, of: Device, name: str = "a") -> Job:
    (job,) = store.jobs.open_jobs([new_job(of, name)])
    return job


def ended(job: Job, state: JobState = JobState.FAILED) -> Job:
    return replace(job, state=state, send_at=None, code="why", detail="because", ended_at=NOW + HOUR)


def later(_: object) -> datetime:
    return NOW + HOUR


def issue(store: SqlStore, of: Device, name: str, at: datetime) -> Retirement:
    """Have the device issued one more certificate; return its retirement's other end."""
    told = issuance(of, name, give_nonce(store, of.device_id, name, expires_at=at + MINUTE), at=at)
    told = replace(told, certificate=replace(told.certificate, issued_at=at))
    store.commit_issuance(told)
    return Retirement(of.device_id, told.certificate.sha256, told.certificate.serial_number, at, at)


class JobContract:
    """`store` has MODEL."""

    def test_a_job_is_kept_as_it_is(self, store: SqlStore) -> None:
        known = bear(store, 1)
        job = opened(store, known)
        assert (job.state, job.send_at, job.sends, job.revision) == (JobState.WAITING, NOW, 0, 0)
        assert store.jobs.get_job(job.job_id) == store.jobs.open_job(known.device_id) == job
        full = replace(
            job,
            state=JobState.ISSUED,
            sends=3,
            nonce=b"\x00\xff",
            nonce_expires_at=NOW + MINUTE,
            request_sha256="r",
            certificate_sha256="c",
            code="late",
            detail="näher",
        )
        assert store.jobs.change_job(job, full)
        assert store.jobs.get_job(job.job_id) == replace(full, revision=1)
        with pytest.raises(UnknownJob):
            store.jobs.get_job("nobody's")

    def test_a_device_has_one_open_job(self, store: SqlStore) -> None:
        known = bear(store, 1)
        job = opened(store, known)
        assert store.jobs.open_jobs([new_job(known, "b")]) == []
        assert store.jobs.change_job(job, ended(job))
        assert store.jobs.open_job(known.device_id) is None
        again = opened(store, known, "b")
        assert again.sequence > job.sequence
        assert [one.job_id for one in store.jobs.device_jobs(known.device_id)] == [again.job_id, job.job_id]

    def test_a_device_that_is_not_on_record_gets_none(self, store: SqlStore) -> None:
        assert store.jobs.open_jobs([NewJob("j", "nobody", "alice", NOW, NOW + DAY)]) == []

    def test_a_sequence_is_no_less_than_the_time_so_that_a_restored_database_gives_none_twice(
        self, store: SqlStore
    ) -> None:
        assert opened(store, bear(store, 1)).sequence == int(NOW.timestamp() * 1000)

    def test_a_change_to_what_was_changed_since_is_none(self, store: SqlStore) -> None:
        job = opened(store, bear(store, 1))
        assert store.jobs.change_job(job, replace(job, state=JobState.ACCEPTED))
        assert not store.jobs.change_job(job, ended(job))
        assert store.jobs.get_job(job.job_id).state is JobState.ACCEPTED

    def test_of_two_changes_at_once_one_counts(self, world: World, store: SqlStore) -> None:
        job = opened(store, bear(store, 1))
        other = world.open()
        won = race(
            lambda: store.jobs.change_job(job, ended(job)),
            lambda: other.jobs.change_job(job, replace(job, state=JobState.ACCEPTED)),
        )
        assert sorted(won) == [False, True]

    def test_of_two_jobs_at_once_for_a_device_one_is_opened(self, world: World, store: SqlStore) -> None:
        known, other = bear(store, 1), world.open()
        results = race(
            lambda: store.jobs.open_jobs([new_job(known, "a")]), lambda: other.jobs.open_jobs([new_job(known, "b")])
        )
        assert sorted(map(len, results)) == [0, 1]

    def test_what_is_due_is_claimed_once_and_put_on(self, world: World, store: SqlStore) -> None:
        jobs = [opened(store, bear(store, number)) for number in range(6)]
        other = world.open()
        mine, others = race(
            lambda: store.jobs.claim_due(at=NOW, limit=4, following=later),
            lambda: other.jobs.claim_due(at=NOW, limit=4, following=later),
        )
        claimed = [job.job_id for job in (*mine, *others)]
        assert len(claimed) == len(set(claimed))
        rest = store.jobs.claim_due(at=NOW, limit=9, following=later)
        assert {*claimed, *(job.job_id for job in rest)} == {job.job_id for job in jobs}
        assert store.jobs.claim_due(at=NOW, limit=9, following=later) == []
        job = store.jobs.get_job(jobs[0].job_id)
        assert (job.sends, job.send_at) == (1, NOW + HOUR)
        assert job in [*mine, *others, *rest]

    def test_deadlines_pass_for_open_jobs_alone(self, store: SqlStore) -> None:
        job, over = opened(store, bear(store, 1)), opened(store, bear(store, 2))
        store.jobs.change_job(over, ended(over))
        assert store.jobs.due_deadlines(at=NOW + HOUR, limit=9) == []
        assert store.jobs.due_deadlines(at=NOW + DAY, limit=9) == [job]

    def test_jobs_with_a_living_nonce_are_under_way(self, store: SqlStore) -> None:
        job = opened(store, bear(store, 1))
        opened(store, bear(store, 2))
        accepted = replace(job, state=JobState.ACCEPTED, nonce=b"n", nonce_expires_at=NOW + MINUTE)
        store.jobs.change_job(job, accepted)
        assert store.jobs.count_under_way(at=NOW) == 1
        assert store.jobs.count_under_way(at=NOW + MINUTE) == 0

    def test_an_issuance_moves_its_job_in_the_same_transaction(self, store: SqlStore) -> None:
        known = bear(store, 1)
        job = opened(store, known)
        told = issuance(known, "x", None)
        issued = replace(job, state=JobState.ISSUED, certificate_sha256=told.certificate.sha256)
        store.jobs.commit_job_issuance(told, job, issued)
        assert store.jobs.get_job(job.job_id) == replace(issued, revision=1)
        serial = told.certificate.serial_number
        assert store.jobs.device_certificate(known.device_id, serial) == told.certificate
        assert store.jobs.device_certificate("dev-000002", serial) is None
        with pytest.raises(NonceUnknown):
            store.jobs.commit_job_issuance(issuance(known, "y", None), job, issued)
        assert len(store.device_certificates(known.device_id)) == 2

    def test_a_refused_issuance_leaves_its_job(self, store: SqlStore) -> None:
        known = bear(store, 1)
        job = opened(store, known)
        store.revoke_device(known.device_id, reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="alice")
        with pytest.raises(DeviceNotActive):
            store.jobs.commit_job_issuance(issuance(known, "x", None), job, replace(job, state=JobState.ISSUED))
        assert store.jobs.get_job(job.job_id) == job

    def test_a_birth_certificate_is_no_operational_one(self, store: SqlStore) -> None:
        known = bear(store, 1)
        (idevid,) = store.device_certificates(known.device_id)
        assert store.jobs.device_certificate(known.device_id, idevid.serial_number) is None


class RetirementContract:
    """`store` has MODEL."""

    def test_what_was_issued_before_is_retired_and_the_rest_stands(self, store: SqlStore) -> None:
        known = bear(store, 1)
        first = issue(store, known, "first", NOW + MINUTE)
        second = issue(store, known, "second", NOW + 2 * MINUTE)
        third = issue(store, known, "third", NOW + 3 * MINUTE)
        assert store.jobs.ask_retirement(second)
        revoked = store.jobs.retire(second, at=NOW + HOUR, by="device:dev-000001")
        assert [one.sha256 for one in revoked] == [first.certificate_sha256]
        standing = {one.sha256: one for one in store.device_certificates(known.device_id)}
        assert standing[first.certificate_sha256].reason is RevocationReason.SUPERSEDED
        assert standing[first.certificate_sha256].revoked_by == "device:dev-000001"
        for kept in (second, third):
            assert standing[kept.certificate_sha256].revoked_at is None
        assert store.get_device(known.device_id).epoch == known.epoch + 1
        assert store.jobs.retire(second, at=NOW + HOUR, by="x") == []

    def test_the_first_certificate_has_nothing_to_retire(self, store: SqlStore) -> None:
        known = bear(store, 1)
        assert not store.jobs.ask_retirement(issue(store, known, "first", NOW + MINUTE))
        assert store.jobs.claim_retirements(at=NOW + DAY, limit=9, following=later) == []

    def test_a_certificate_that_nobody_issued_retires_nothing(self, store: SqlStore) -> None:
        with pytest.raises(UnknownCertificate):
            store.jobs.ask_retirement(Retirement(bear(store, 1).device_id, "unknown", "1", NOW, NOW))

    def test_a_revoked_certificate_retires_nothing(self, store: SqlStore) -> None:
        known = bear(store, 1)
        issue(store, known, "first", NOW + MINUTE)
        second = issue(store, known, "second", NOW + 2 * MINUTE)
        store.jobs.ask_retirement(second)
        store.revoke_certificate(
            second.certificate_sha256, reason=RevocationReason.KEY_COMPROMISE, at=NOW + HOUR, by="alice"
        )
        assert store.jobs.retire(second, at=NOW + HOUR, by="x") == []

    def test_a_later_word_replaces_an_earlier_one(self, store: SqlStore) -> None:
        known = bear(store, 1)
        issue(store, known, "first", NOW + MINUTE)
        second = issue(store, known, "second", NOW + 2 * MINUTE)
        third = issue(store, known, "third", NOW + 3 * MINUTE)
        assert store.jobs.ask_retirement(second)
        assert store.jobs.ask_retirement(third)
        assert store.jobs.claim_retirements(at=NOW + HOUR, limit=9, following=later) == [third]
        assert store.jobs.retire(second, at=NOW + HOUR, by="x") == []

    def test_claimed_retirements_are_put_on_and_hastened(self, store: SqlStore) -> None:
        known = bear(store, 1)
        issue(store, known, "first", NOW + MINUTE)
        second = issue(store, known, "second", NOW + 2 * MINUTE)
        store.jobs.ask_retirement(second)
        assert store.jobs.claim_retirements(at=NOW + MINUTE, limit=9, following=later) == []
        assert store.jobs.claim_retirements(at=NOW + 2 * MINUTE, limit=9, following=later) == [second]
        assert store.jobs.claim_retirements(at=NOW + 3 * MINUTE, limit=9, following=later) == []
        store.jobs.hasten_retirement(known.device_id, at=NOW + 3 * MINUTE)
        (again,) = store.jobs.claim_retirements(at=NOW + 3 * MINUTE, limit=9, following=later)
        assert again.looks == 1

    def test_the_retirement_ends_the_job_that_it_proves(self, store: SqlStore) -> None:
        known = bear(store, 1)
        issue(store, known, "first", NOW + MINUTE)
        job = opened(store, known)
        second = issue(store, known, "second", NOW + 2 * MINUTE)
        store.jobs.ask_retirement(second)
        active = replace(job, state=JobState.ACTIVE, certificate_sha256=second.certificate_sha256)
        store.jobs.change_job(job, active)
        store.jobs.retire(second, at=NOW + HOUR, by="x")
        done = store.jobs.get_job(job.job_id)
        assert (done.state, done.ended_at) == (JobState.DONE, NOW + HOUR)
