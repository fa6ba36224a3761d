"""A disk that is in use is never written. Block devices are played by a sysfs in a folder; the rest is real."""

import os
from pathlib import Path

import pytest

from birthmark_server.factory.disk.guard import _uses, open_disk


@pytest.fixture
def system(tmp_path: Path) -> tuple[Path, Path]:
    """sysfs and procfs with a disk sdx (8:0) of one partition (8:1), used for nothing."""
    sys, proc = tmp_path / "sys", tmp_path / "proc"
    disk = sys / "devices" / "sdx"
    for folder, number in ((disk, "8:0"), (disk / "sdx1", "8:1")):
        (folder / "holders").mkdir(parents=True)
        (folder / "dev").write_text(number + "\n")
        (sys / "dev" / "block").mkdir(parents=True, exist_ok=True)
        (sys / "dev" / "block" / number).symlink_to(folder)
    (disk / "sdx1" / "partition").write_text("1\n")
    (proc / "self").mkdir(parents=True)
    (proc / "self" / "mountinfo").write_text("22 1 254:1 / / rw - ext4 /dev/vda1 rw\n")
    (proc / "swaps").write_text("Filename Type Size Used Priority\n")
    return sys, proc


def test_a_disk_that_nobody_uses_is_free(system: tuple[Path, Path]) -> None:
    assert list(_uses(8, 0, *system)) == []


def test_a_partition_is_no_disk(system: tuple[Path, Path]) -> None:
    assert "it is a partition of sdx; want the whole disk" in list(_uses(8, 1, *system))


def test_a_mounted_partition_is_named_with_its_place(system: tuple[Path, Path]) -> None:
    (system[1] / "self" / "mountinfo").write_text("40 22 8:1 / /mnt/data rw - ext4 /dev/sdx1 rw\n")
    assert list(_uses(8, 0, *system)) == ["sdx1 is mounted at /mnt/data"]


def test_what_holds_a_disk_is_named(system: tuple[Path, Path]) -> None:
    (system[0] / "devices" / "sdx" / "sdx1" / "holders" / "dm-0").mkdir()
    (system[1] / "swaps").write_text("Filename Type Size Used Priority\n/dev/sdx1 partition 100 0 -2\n")
    assert list(_uses(8, 0, *system)) == ["sdx1 is held by dm-0", "/dev/sdx1 is swap"]


def test_this_machines_own_disk_is_in_use() -> None:
    """The kernel's own word, of the disk that this test runs from."""
    device = Path("/").stat().st_dev
    if not Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").exists():
        device = next(
            os.makedev(*map(int, line.split()[2].split(":")))
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if Path(f"/sys/dev/block/{line.split()[2]}").exists()
        )
    assert any("is mounted at" in use for use in _uses(os.major(device), os.minor(device), Path("/sys"), Path("/proc")))


def test_a_file_that_is_large_enough_is_opened(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(100))
    with open_disk(disk, needs=100) as opened:
        assert opened.read() == bytes(100)
