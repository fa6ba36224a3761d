"""An image onto a disk: all of it is there, or nothing on it boots."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server.factory.disk.errors import DiskFull, DiskGone, DiskInUse, DiskTooSmall, ImageUnusable, NotADisk
from birthmark_server.factory.disk.flash import _Flashing, flash, open_image
from birthmark_server.factory.disk.gpt import NoTable, read_partitions
from birthmark_server.factory.errors import ReadBackDiffers
from birthmark_wire.factory import ProvisionRecord
from support.small_image import MIB, record_on

pytestmark = pytest.mark.parts

RECORD = ProvisionRecord("SN-7", "EDGE-7", "WO-1", "line-2", hold=True)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A blank one, with what an earlier life left on it."""
    path = tmp_path / "disk"
    with path.open("wb") as file:
        file.write(b"\xa5" * (2 * MIB))
        file.truncate(64 * MIB)
        file.seek(64 * MIB - 2 * MIB)
        file.write(b"\xa5" * (2 * MIB))
    return path


def ignore(done: int, of: int) -> None: ...


def has_table(disk: Path) -> bool:
    """Whether any firmware would find a partition table: where the primary is, or the backup."""
    data = disk.read_bytes()
    places = [512, len(data) - 512, 40 * MIB - 512]
    return any(data[place : place + 8] == b"EFI PART" for place in places)


def test_what_is_flashed_is_the_image_with_the_devices_record(image: Path, disk: Path) -> None:
    told: list[tuple[int, int]] = []
    flashed = flash(open_image(image), disk, RECORD, lambda done, of: told.append((done, of)))
    assert flashed.image_sha256 == hashlib.sha256((image / "device.img").read_bytes()).hexdigest()
    assert flashed.written == open_image(image).block_map.mapped == told[-1][0] // 2
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    assert record_on(disk) == RECORD
    given, got = (image / "device.img").read_bytes(), disk.read_bytes()
    assert got[: 10 * MIB] == given[: 10 * MIB]
    assert got[32 * MIB : 40 * MIB] == given[32 * MIB :]
    assert subprocess.run(["sgdisk", "-v", disk], capture_output=True, check=False).returncode == 0


def test_a_file_that_is_empty_grows_to_the_image(image: Path, tmp_path: Path) -> None:
    disk = tmp_path / "empty"
    disk.touch()
    flash(open_image(image), disk, RECORD, ignore)
    with disk.open("rb") as file:
        assert [part.name for part in read_partitions(file)] == ["root-a", "provision"]


class Cut(BaseException):
    """The power."""


def test_a_power_cut_at_any_write_leaves_a_disk_that_boots_nothing_until_all_is_verified(
    image: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, real = open_image(image), os.pwrite
    writes = 0

    def counted(descriptor: int, data: bytes, at: int) -> int:
        nonlocal writes
        writes += 1
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", counted)
    flash(opened, disk, RECORD, ignore)
    assert has_table(disk)
    for cut in range(1, writes + 1):
        number = 0

        def torn(descriptor: int, data: bytes, at: int, cut: int = cut) -> int:
            nonlocal number
            number += 1
            if number == cut:
                real(descriptor, bytes(data)[: len(data) // 2], at)
                raise Cut
            return real(descriptor, data, at)

        monkeypatch.setattr(os, "pwrite", torn)
        with pytest.raises(Cut):
            flash(opened, disk, RECORD, ignore)
        # Three writes wipe the tables before anything else is touched; the last two bring them, after all was verified.
        if 3 < cut < writes - 1:
            assert not has_table(disk), f"cut at write {cut} of {writes}"
    monkeypatch.setattr(os, "pwrite", real)
    flash(opened, disk, RECORD, ignore)
    assert record_on(disk) == RECORD


@pytest.mark.parametrize("at", [5 * MIB, 600, 40 * MIB - 512])
def test_an_image_that_was_changed_is_refused_and_leaves_no_table(
    image: Path, disk: Path, tmp_path: Path, at: int
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(image, changed)
    with (changed / "device.img").open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(ImageUnusable):
        flash(open_image(changed), disk, RECORD, ignore)
    assert not has_table(disk)


def test_a_disk_that_does_not_keep_what_it_is_given_is_found_out(
    image: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite

    def forgetful(descriptor: int, data: bytes, at: int) -> int:
        return len(data) if at == 5 * MIB else real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", forgetful)
    with pytest.raises(ReadBackDiffers, match="are not what was written"):
        flash(open_image(image), disk, RECORD, ignore)
    assert not has_table(disk)


def test_a_disk_that_is_too_small_is_left_as_it_is(image: Path, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.write_bytes(b"\xa5" * (39 * MIB))
    with pytest.raises(DiskTooSmall, match=r"has 40,894,464 bytes, the image needs 41,943,040"):
        flash(open_image(image), disk, RECORD, ignore)
    assert disk.read_bytes() == b"\xa5" * (39 * MIB)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk's file on a file system with room for half of it."""
    folder = tmp_path / "full"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], check=True)
    try:
        (folder / "disk").touch()
        yield folder / "disk"
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_file_system_says_so(image: Path, full: Path) -> None:
    with pytest.raises(DiskFull, match="No space left"):
        flash(open_image(image), full, RECORD, ignore)


def test_a_cable_that_is_pulled_says_so(image: Path, disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def pulled(descriptor: int, data: bytes, at: int) -> int:
        if at >= 5 * MIB:
            raise OSError(5, "Input/output error")
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pulled)
    with pytest.raises(DiskGone, match="Input/output error"):
        flash(open_image(image), disk, RECORD, ignore)


@pytest.mark.parametrize("path", ["/nonexistent/disk", "/dev/null", "/tmp"])
def test_what_is_no_disk_is_named(image: Path, path: str) -> None:
    with pytest.raises(NotADisk, match=path):
        flash(open_image(image), Path(path), RECORD, ignore)


def test_an_image_without_a_place_for_the_record_is_refused(image: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(image, bare)
    subprocess.run(["sgdisk", "-c", "2:other", bare / "device.img"], check=True, capture_output=True)
    subprocess.run(["bmaptool", "--quiet", "create", "-o", bare / "device.bmap", bare / "device.img"], check=True)
    with pytest.raises(ImageUnusable, match="want a partition 'provision', got root-a, other"):
        flash(open_image(bare), tmp_path / "disk", RECORD, ignore)


def test_a_table_with_another_checksum_is_none(image: Path, tmp_path: Path) -> None:
    data = bytearray((image / "device.img").read_bytes()[: 2 * MIB])
    for at in (512 + 24, 1024 + 3):
        changed = bytearray(data)
        changed[at] ^= 1
        (tmp_path / "table").write_bytes(changed)
        with (tmp_path / "table").open("rb") as file, pytest.raises(NoTable, match="checksum"):
            read_partitions(file)


def test_an_images_hash_is_worked_out_once(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_image(image).sha256
    monkeypatch.setattr(hashlib, "file_digest", None)
    assert open_image(image).sha256 == first


def test_a_disks_file_is_flashed_by_one_at_a_time(image: Path, disk: Path) -> None:
    with disk.open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DiskInUse, match="is being flashed"):
            flash(open_image(image), disk, RECORD, ignore)
    flash(open_image(image), disk, RECORD, ignore)


def test_an_image_with_data_that_its_map_leaves_out_is_refused(image: Path, tmp_path: Path) -> None:
    """Those blocks would stay as the disk had them, under the whole image's hash."""
    more = tmp_path / "more"
    shutil.copytree(image, more)
    with (more / "device.img").open("r+b") as file:
        file.seek(20 * MIB)
        file.write(b"left out")
    with pytest.raises(ImageUnusable, match=r"has data at .* that its block map leaves out"):
        open_image(more)


def test_the_record_goes_onto_the_disk_that_was_opened(
    image: Path, disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name under /dev/disk/by-path may lead to another disk as soon as something is plugged in."""
    other, name = tmp_path / "other", tmp_path / "by-path"
    shutil.copy(disk, other)
    name.symlink_to(disk)
    before = other.read_bytes()
    verify = _Flashing.verify

    def replugged(self: _Flashing) -> None:
        verify(self)
        name.unlink()
        name.symlink_to(other)

    monkeypatch.setattr(_Flashing, "verify", replugged)
    flash(open_image(image), name, RECORD, ignore)
    assert record_on(disk) == RECORD
    assert other.read_bytes() == before
