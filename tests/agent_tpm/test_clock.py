"""What time it is, on a device with no clock, a wrong one, or one that only looks right."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from birthmark_agent.clock import (
    CheckTime,
    Clock,
    ClockState,
    LinuxClock,
    SignedTime,
    TimeRefused,
)
from birthmark_agent.errors import StorageFailed
from birthmark_agent.files import Files

BUILT = datetime(2026, 1, 1, tzinfo=UTC)
ISSUED = datetime(2026, 3, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
FAR = datetime(2099, 1, 1, tzinfo=UTC)
BY_CLOCK = CheckTime(None, not_yet_valid_passes=False)


class _System:
    def __init__(self, wall: datetime, *, synchronised: bool) -> None:
        self.at, self.boot_s, self.synced = wall, 1000.0, synchronised

    def wall(self) -> datetime:
        return self.at

    def boot_time_s(self) -> float:
        return self.boot_s

    def synchronised(self) -> bool:
        return self.synced


def _clock(folder: Path, wall: datetime, *, synchronised: bool = False) -> tuple[Clock, _System]:
    system = _System(wall, synchronised=synchronised)
    clock = Clock(Files.at(folder), image_time=BUILT, not_before=lambda: [ISSUED], system=system)
    return clock, system


def test_floor_is_the_latest_of_what_has_certainly_passed(tmp_path: Path) -> None:
    clock, _system = _clock(tmp_path, NOW, synchronised=True)
    assert clock.floor() == ISSUED
    clock.persist(peer_not_after=FAR)
    assert clock.floor() == NOW
    assert Clock(Files.at(tmp_path), image_time=FAR, not_before=list, system=LinuxClock()).floor() == FAR


def test_device_without_anything_has_a_floor_all_the_same(tmp_path: Path) -> None:
    clock = Clock(Files.at(tmp_path), image_time=None, not_before=list, system=_System(NOW, synchronised=False))
    assert clock.floor() == datetime(1970, 1, 1, tzinfo=UTC)


def test_synchronised_clock_is_believed(tmp_path: Path) -> None:
    clock, _system = _clock(tmp_path, NOW, synchronised=True)
    assert (clock.state(), clock.now(), clock.check_times()) == (ClockState.SET, NOW, (BY_CLOCK,))


def test_clock_of_1970_is_wrong_and_checks_are_made_at_the_floor(tmp_path: Path) -> None:
    clock, system = _clock(tmp_path, datetime(1970, 1, 1, 0, 5, tzinfo=UTC))
    at_floor = CheckTime(ISSUED, not_yet_valid_passes=True)
    assert (clock.state(), clock.now(), clock.check_times()) == (ClockState.WRONG, ISSUED, (at_floor,))
    system.synced = True  # whatever the kernel says: that moment has passed
    assert clock.state() is ClockState.WRONG


def test_clock_that_nobody_vouches_for_is_tried_first_and_then_the_floor(tmp_path: Path) -> None:
    clock, _system = _clock(tmp_path, FAR)
    assert clock.state() is ClockState.UNSURE
    assert clock.check_times() == (BY_CLOCK, CheckTime(ISSUED, not_yet_valid_passes=True))


@pytest.mark.parametrize("wall", [datetime(1970, 1, 1, tzinfo=UTC), FAR])
def test_servers_time_goes_before_the_clock_and_runs_on_without_it(tmp_path: Path, wall: datetime) -> None:
    clock, system = _clock(tmp_path, wall)
    clock.learn(SignedTime(NOW, boot_time_s=1000.0))
    system.boot_s, system.at = 1090.0, datetime(2001, 1, 1, tzinfo=UTC)  # the wall clock jumps; nobody cares
    later = NOW + timedelta(seconds=90)
    assert (clock.state(), clock.now()) == (ClockState.SET, later)
    assert clock.check_times() == (CheckTime(later, not_yet_valid_passes=False),)


def test_servers_time_before_the_floor_is_refused(tmp_path: Path) -> None:
    clock, _system = _clock(tmp_path, NOW)
    with pytest.raises(TimeRefused, match="2026-03-01T00:00:00Z has passed"):
        clock.learn(SignedTime(ISSUED - timedelta(seconds=1), boot_time_s=0.0))


def test_doubtful_time_is_never_persisted(tmp_path: Path) -> None:
    clock, _system = _clock(tmp_path, FAR)
    clock.persist(peer_not_after=FAR)
    assert clock.floor() == ISSUED


def test_forged_ntp_time_raises_the_floor_to_the_peers_end_at_most(tmp_path: Path) -> None:
    clock, _system = _clock(tmp_path, FAR, synchronised=True)
    clock.persist(peer_not_after=NOW)
    assert clock.floor() == NOW


def test_flash_is_written_once_an_hour_at_most(tmp_path: Path) -> None:
    clock, system = _clock(tmp_path, NOW, synchronised=True)
    clock.persist(peer_not_after=FAR)
    system.at = NOW + timedelta(minutes=59)
    clock.persist(peer_not_after=FAR)
    assert clock.floor() == NOW
    system.at = NOW + timedelta(minutes=60)
    clock.persist(peer_not_after=FAR)
    assert clock.floor() == NOW + timedelta(hours=1)


def test_floor_never_falls(tmp_path: Path) -> None:
    clock, system = _clock(tmp_path, NOW, synchronised=True)
    clock.persist(peer_not_after=FAR)
    clock.persist(peer_not_after=NOW - timedelta(days=9))
    system.at = NOW - timedelta(days=9)
    clock.persist(peer_not_after=FAR)
    assert clock.floor() == NOW


class _FullFiles(Files):
    def write(self, name: str, data: bytes) -> None:
        raise StorageFailed("full")


def test_full_disk_is_no_reason_to_stop(tmp_path: Path) -> None:
    system = _System(NOW, synchronised=True)
    clock = Clock(_FullFiles.at(tmp_path), image_time=BUILT, not_before=list, system=system)
    clock.persist(peer_not_after=FAR)
    assert clock.floor() == BUILT


@pytest.mark.parametrize("contents", [b"", b"yesterday", b"2026-13-01T00:00:00Z", b"\xff" * 20])
def test_damaged_file_counts_as_absent(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "clock").write_bytes(contents)
    clock, _system = _clock(tmp_path, NOW)
    assert clock.floor() == ISSUED


def test_real_clock_answers() -> None:
    clock = LinuxClock()
    assert clock.wall().tzinfo is UTC
    assert clock.boot_time_s() > 0
    assert clock.synchronised() in (True, False)
