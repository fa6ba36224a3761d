"""Rotations by a real server process, over a real Mosquitto with our gate, by devices with a TPM in software."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest

from birthmark_server.domain import RevocationReason
from birthmark_server.jobs import Job, JobState, NewJob
from birthmark_server.store.sql.store import SqlStore
from birthmark_wire.rotation import Ack, AckState
from support.rotating_live import LiveDevice, born, broker_of, connected
from support.server import Installation, now

pytestmark = pytest.mark.parts


def store_of(site: Installation) -> SqlStore:
    assert isinstance(site.store, SqlStore)
    return site.store


def tell_to_rotate(site: Installation, devices: list[LiveDevice]) -> list[str]:
    ids = [one.device.device_id for one in devices]
    new = [NewJob(f"job-{one}", one, "alice", now(), now() + timedelta(hours=1)) for one in ids]
    return [job.job_id for job in store_of(site).jobs.open_jobs(new)]


def jobs(site: Installation, ids: list[str]) -> list[Job]:
    return [store_of(site).jobs.get_job(one) for one in ids]


def states(site: Installation, ids: list[str]) -> list[JobState]:
    return [job.state for job in jobs(site, ids)]


def until(condition: Callable[[], bool], timeout_s: float = 40) -> bool:
    give_up = time.monotonic() + timeout_s
    while time.monotonic() < give_up:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def all_done(site: Installation, ids: list[str]) -> bool:
    return until(lambda: set(states(site, ids)) == {JobState.DONE})


def test_devices_rotate_refuse_and_come_late(tmp_path: Path) -> None:
    with (
        Installation.create(tmp_path) as site,
        broker_of(site) as broker,
        site.start(broker=site.broker_lines(broker.port)) as server,
    ):
        devices = [born(site, server, broker, f"SN-{number}") for number in range(5)]
        *willing, unwilling, late = devices
        unwilling.device.answer = lambda command: Ack(command.job_id, AckState.REFUSED, code="tpm-lockout")
        old = [one.device.serial for one in devices]
        with connected([*willing, unwilling]):
            ids = tell_to_rotate(site, devices)
            assert until(lambda: set(states(site, ids[:4])) == {JobState.DONE, JobState.REFUSED}), jobs(site, ids)
            assert [job.code for job in jobs(site, ids)][3] == "tpm-lockout"
            assert states(site, ids)[4] is JobState.WAITING
            with connected([late]):  # its first hello brings it the job
                assert all_done(site, ids[4:])
            revoked = {
                one.serial_number: one.reason
                for device in devices
                for one in site.store.device_certificates(device.device.device_id)
                if one.revoked_at
            }
            assert revoked == {serial: RevocationReason.SUPERSEDED for place, serial in enumerate(old) if place != 3}


def test_a_broker_that_restarts_midway_and_messages_that_are_lost_strand_nobody(tmp_path: Path) -> None:
    with (
        Installation.create(tmp_path) as site,
        broker_of(site) as broker,
        site.start(broker=site.broker_lines(broker.port), extra="[rotation]\nsilence_s = 10\n") as server,
    ):
        devices = [born(site, server, broker, f"SN-{number}") for number in range(3)]
        devices[0].mute = {"ack"}
        devices[1].mute = {"csr"}
        with connected(devices):
            ids = tell_to_rotate(site, devices)
            assert until(lambda: states(site, ids)[1:] == [JobState.ACCEPTED, JobState.DONE]), jobs(site, ids)
            broker.kill()
            for one in devices:
                one.mute = set()
            broker.start()
            assert all_done(site, ids), jobs(site, ids)


def test_a_server_that_is_killed_midway_goes_on_where_it_was(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site, broker_of(site) as broker:
        lines = site.broker_lines(broker.port)
        with suppress(AssertionError), site.start(broker=lines) as server:  # it does not end well: it is killed
            devices = [born(site, server, broker, f"SN-{number}") for number in range(3)]
            for one in devices[:2]:
                one.mute = {"active"}
            with connected(devices):
                ids = tell_to_rotate(site, devices)
                midway = until(lambda: states(site, ids) == [JobState.ISSUED, JobState.ISSUED, JobState.DONE])
                server.process.send_signal(signal.SIGKILL)
        assert midway, jobs(site, ids)
        with site.start(broker=lines), connected(devices):
            for one in devices[:2]:
                one.mute = set()
                one.start_over()
            assert all_done(site, ids), jobs(site, ids)
            for one in devices:
                assert len(site.store.device_certificates(one.device.device_id)) == 3
