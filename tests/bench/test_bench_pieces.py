"""The bench's own pieces, without timings: what it counts, how it runs its load, what it prints."""

import multiprocessing
import os
import time
from pathlib import Path

import pytest
from sqlalchemy import create_engine, func, select

from benchmark import bare, bulk, crl, load, ocsp
from benchmark.device_cost import Agent, Handshake
from benchmark.report import Figures, RenewFront, lines, table
from benchmark.server_cost import Enroll
from birthmark_server.store.tables import Certificates, Devices, table_of
from support.pki import make_pki
from support.server import Installation

LOAD = load.Load(per_s=100.0, p50_ms=10.0, p99_ms=20.0, server_cpu_ms=3.0)


def figures() -> Figures:
    floor = (bare.Operation("sign", 1, 100.0), bare.Operation("verify", 2, 450.0))
    return Figures(
        Enroll(LOAD, floor), LOAD, RenewFront("haproxy", LOAD), Handshake(2.0, 5.0, 1.0), Agent(44.0, 0.5), 1.1
    )


def test_floor_counts_every_operation_of_an_enrollment(tmp_path: Path) -> None:
    floor = bare.enrollment_floor(bare.Connection(make_pki(tmp_path / "ca")), runs=1)
    assert [operation.times for operation in floor] == [1, 3, 2, 1, 1, 1]
    assert all(operation.cpu_us > 0 for operation in floor)


def test_floors_are_averaged_operation_by_operation() -> None:
    one = (bare.Operation("sign", 1, 100.0), bare.Operation("verify", 2, 450.0))
    other = (bare.Operation("sign", 1, 200.0), bare.Operation("verify", 2, 150.0))
    assert bare.mean([one, other]) == (bare.Operation("sign", 1, 150.0), bare.Operation("verify", 2, 300.0))


def test_ratio_is_over_each_operation_as_often_as_it_is_needed() -> None:
    enroll = figures().enroll
    assert enroll is not None
    assert (enroll.crypto_ms, enroll.cpu_over_crypto) == (1.0, 3.0)


def test_json_has_the_agreed_keys() -> None:
    told = figures().as_json()
    assert set(told) == {"enroll", "renew", "renew_front", "handshake", "agent", "growth"}
    assert set(told["enroll"]) == {"per_s", "p50_ms", "p99_ms", "server_cpu_ms", "cpu_over_crypto", "operations"}
    assert set(told["renew"]) == {"per_s", "server_cpu_ms"}
    assert set(told["renew_front"]) == {"front", "per_s", "server_cpu_ms"}
    assert set(told["handshake"]) == {"software_ms", "tpm_ms", "tpm_signatures"}
    assert set(told["agent"]) == {"rss_mb", "start_s"}
    assert set(told["growth"]) == {"enroll_100k_over_1k"}


def test_a_section_that_was_not_run_is_not_told() -> None:
    only = Figures(renew=LOAD)
    assert set(only.as_json()) == {"renew"}
    assert table(only).row_count == len(lines(only)) == 2


def test_load_does_each_job_once_and_counts_the_cpu_of_the_server_only() -> None:
    done = multiprocessing.get_context("fork").Value("i", 0)

    def job() -> None:
        with done.get_lock():
            done.value += 1

    measured = load.run([job] * 10, at_once=4, server_pids=[os.getppid()])
    assert done.value == 10
    assert measured.per_s > 0


def test_stretches_of_a_load_are_one_load() -> None:
    stretches = [load.Stretch((10.0, 20.0), 0.5, 0.01), load.Stretch((30.0,), 1.0, 0.05)]
    measured = load.summary(stretches)
    assert (measured.per_s, measured.p50_ms, round(measured.server_cpu_ms, 6)) == (2.0, 20.0, 20.0)


def test_neighbour_works_until_it_is_no_longer_needed() -> None:
    done = multiprocessing.get_context("fork").Value("i", 0)

    def job() -> None:
        with done.get_lock():
            done.value += 1
        time.sleep(0.001)

    with load.neighbour(job):
        until = time.monotonic() + 30
        while (seen := done.value) < 5 and time.monotonic() < until:
            time.sleep(0.01)
    assert seen >= 5
    assert not multiprocessing.active_children()


def test_load_ends_with_the_first_job_that_fails() -> None:
    def job() -> None:
        raise RuntimeError("refused")

    with pytest.raises(load.JobFailed, match="refused"):
        load.run([job] * 4, at_once=2, server_pids=[])


def test_copies_of_a_device_are_devices_of_their_own(tmp_path: Path) -> None:
    with Installation.create(tmp_path) as site:
        bulk.fill(site, 50)
        assert not site.store.check()
        engine = create_engine(site.database_url)
        with engine.connect() as connection:
            counts = [
                connection.execute(select(func.count()).select_from(table_of(row))).scalar()
                for row in (Devices, Certificates)
            ]
        engine.dispose()
    assert counts == [50, 100]


def test_both_crls_are_made_and_say_the_same() -> None:
    cost = crl.measure_crl(2_000)  # which compares them
    assert cost.entries == 2_000
    assert min(cost.seconds, cost.cpu_seconds, cost.openssl_seconds, cost.peak_mib, cost.openssl_peak_mib) > 0


@pytest.mark.parts
def test_both_responders_are_asked() -> None:
    rate = ocsp.measure_ocsp(120)
    assert min(rate.per_s, rate.signed_per_s, rate.openssl_per_s) > 0
