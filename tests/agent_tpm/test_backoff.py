"""The pace of attempts: spread out, bounded, and not reset by restarts, reboots, clock jumps or a full disk."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent.backoff import Backoff, LinuxBootClock, Pace
from birthmark_agent.errors import StorageFailed
from birthmark_agent.files import Files

PACE = Pace(first_s=2.0, most_s=900.0, floor_s=30.0)


class _Boot:
    def __init__(self, name: str = "boot-1", at_s: float = 100.0) -> None:
        self.name, self.at_s = name, at_s

    def boot_time_s(self) -> float:
        return self.at_s

    def boot_id(self) -> str:
        return self.name


def _backoff(folder: Path, boot: _Boot, *, draw: float = 0.0, pace: Pace = PACE) -> Backoff:
    return Backoff("broker", pace, files=Files.at(folder), clock=boot, random=lambda: draw)


def test_first_attempt_has_a_window_too(tmp_path: Path) -> None:
    assert _backoff(tmp_path, _Boot(), draw=0.0).wait_s() == 0.0
    assert _backoff(tmp_path, _Boot(), draw=0.75).wait_s() == 1.5


def test_window_doubles_up_to_the_cap(tmp_path: Path) -> None:
    boot = _Boot()
    backoff = _backoff(tmp_path, boot, draw=0.999999)
    windows = []
    for _attempt in range(12):
        backoff.begin()
        boot.at_s += 10_000  # long after the floor
        windows.append(round(backoff.wait_s()))
    assert windows == [4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
    backoff.succeeded()
    assert round(backoff.wait_s()) == 2


def test_floor_holds_after_success(tmp_path: Path) -> None:
    boot = _Boot()
    backoff = _backoff(tmp_path, boot)
    backoff.begin()
    backoff.succeeded()
    boot.at_s += 10
    assert backoff.wait_s() == backoff.floor_left_s() == pytest.approx(20)


def test_what_the_server_asked_for_holds_over_restarts_until_the_next_attempt(tmp_path: Path) -> None:
    boot = _Boot()
    before = _backoff(tmp_path, boot)
    before.begin()
    boot.at_s += 5
    assert before.wait_s(retry_after_s=600) == pytest.approx(600)
    after = _backoff(tmp_path, boot)
    boot.at_s += 100
    assert after.wait_s() == pytest.approx(500)
    assert after.floor_left_s() == pytest.approx(500)
    rebooted = _backoff(tmp_path, _Boot("boot-2", 50.0))
    assert rebooted.floor_left_s() == pytest.approx(555)  # a reboot can only make it longer
    after.begin()
    assert after.floor_left_s() == pytest.approx(PACE.floor_s)


def test_a_server_that_asks_before_any_attempt_is_kept_to_as_well(tmp_path: Path) -> None:
    boot = _Boot()
    assert _backoff(tmp_path, boot).wait_s(retry_after_s=60) == pytest.approx(60)
    assert _backoff(tmp_path, boot).floor_left_s() == pytest.approx(60)


def test_restart_keeps_failures_and_floor(tmp_path: Path) -> None:
    boot = _Boot()
    for _start in range(3):
        _backoff(tmp_path, boot).begin()  # and dies: it never comes to succeeded()
    boot.at_s += 12
    again = _backoff(tmp_path, boot, draw=0.5)
    assert again.failures == 3
    assert again.wait_s() == pytest.approx(18)


def test_after_a_reboot_the_floor_counts_from_the_boot(tmp_path: Path) -> None:
    _backoff(tmp_path, _Boot("boot-1", 50_000.0)).begin()
    assert _backoff(tmp_path, _Boot("boot-2", 4.0)).wait_s() == pytest.approx(26)
    assert _backoff(tmp_path, _Boot("boot-2", 40.0)).wait_s() == 0.0


def test_retry_after_is_kept_to_and_spread(tmp_path: Path) -> None:
    assert _backoff(tmp_path, _Boot(), draw=0.5).wait_s(retry_after_s=120.0) == 121.0


def test_clock_that_runs_backwards_waits_the_floor_at_most(tmp_path: Path) -> None:
    boot = _Boot(at_s=9e9)
    backoff = _backoff(tmp_path, boot)
    backoff.begin()
    boot.at_s = 1.0
    assert backoff.wait_s() == PACE.floor_s


class _FullFiles(Files):
    def write(self, name: str, data: bytes) -> None:
        raise StorageFailed("full")


def test_full_disk_neither_stops_it_nor_sets_it_free(tmp_path: Path) -> None:
    boot = _Boot()
    backoff = Backoff("broker", PACE, files=_FullFiles.at(tmp_path), clock=boot, random=lambda: 0.0)
    backoff.begin()
    assert (backoff.failures, backoff.wait_s()) == (1, 30.0)


@given(contents=st.one_of(st.binary(max_size=80), st.sampled_from([
    b'{"failures": -5, "boot_id": "x", "begun_s": 0}',
    b'{"failures": 1e999, "boot_id": "x", "begun_s": 0}',
    b'{"failures": 1, "boot_id": "boot-1", "begun_s": NaN}',
    b'{"failures": 1, "boot_id": "boot-1", "begun_s": Infinity}',
    b'{"failures": 99999, "boot_id": "boot-1", "begun_s": 1e300}',
    b"[]", b"null", b'{"failures": null}',
])))  # fmt: skip
def test_any_file_gives_a_bounded_wait(tmp_path_factory: pytest.TempPathFactory, contents: bytes) -> None:
    folder = tmp_path_factory.mktemp("state")
    (folder / "backoff-broker").write_bytes(contents)
    assert 0.0 <= _backoff(folder, _Boot(), draw=0.999).wait_s() <= PACE.most_s


def test_a_fleet_spreads_evenly_over_the_window(tmp_path: Path) -> None:
    pace = Pace(first_s=100.0, most_s=100.0, floor_s=0.0)
    backoff = Backoff("broker", pace, files=Files.at(tmp_path), clock=_Boot())
    waits = [backoff.wait_s() for _device in range(4000)]
    per_decile = [sum(low <= wait < low + 10 for wait in waits) for low in range(0, 100, 10)]
    assert min(per_decile) > 300


def test_real_clock_answers() -> None:
    clock = LinuxBootClock()
    assert clock.boot_time_s() > 0
    assert len(clock.boot_id()) == 36
