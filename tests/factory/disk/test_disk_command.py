"""`birthmark flash disk:PATH`, as a program of its own: its words, and its sudden end."""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from birthmark_server.factory.disk.gpt import NoTable, read_partitions
from birthmark_wire.factory import ProvisionRecord
from support.small_image import MIB, record_on

pytestmark = pytest.mark.parts

BIRTHMARK = Path(sys.executable).with_name("birthmark")


def command(image: Path, disk: Path, *more: str) -> list[str]:
    words = ["--image", str(image), "--serial", "SN-7", "--model", "EDGE-7", "--workorder", "WO-1", *more]
    return [str(BIRTHMARK), "flash", f"disk:{disk}", *words]


def flash(image: Path, disk: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command(image, disk, *more), capture_output=True, text=True, check=False, timeout=60)


def names(disk: Path) -> list[str]:
    """The partitions that a firmware finds."""
    with disk.open("rb") as file, suppress(NoTable):
        return [part.name for part in read_partitions(file)]
    return []


def test_without_a_terminal_it_says_a_line_for_each_tenth(image: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    done = flash(image / "device.img", disk)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert said[-2].startswith("SN-7: 100%, ")
    assert said[-2].endswith(" MB/s")
    assert 4 <= len(said) <= 11
    assert "is on disk:" in said[-1]
    assert done.stdout == ""
    record = ProvisionRecord("SN-7", "EDGE-7", "WO-1", "bench")
    assert record_on(disk) == record


def test_a_program_gets_one_object(image: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.touch()
    told = json.loads(flash(image, disk, "--json", "--hold").stdout)
    assert told.keys() == {"serial", "image_sha256", "written", "took_s"}
    assert record_on(disk).hold


def test_an_image_is_not_flashed_onto_itself(image: Path, tmp_path: Path) -> None:
    before = (image / "device.img").read_bytes()
    link = tmp_path / "link"
    link.symlink_to(image / "device.img")
    done = flash(image, link)
    assert done.returncode != 0
    assert "is the image itself" in done.stderr
    assert (image / "device.img").read_bytes() == before


def test_what_is_refused_names_the_next_step(image: Path, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.write_bytes(bytes(MIB))
    done = flash(image, disk)
    assert done.returncode != 0
    assert "has 1,048,576 bytes, the image needs 41,943,040" in done.stderr
    assert "Put the device aside: its disk is not of this model." in done.stderr


def full_pipe() -> tuple[int, int]:
    """A pipe that nobody empties: who writes to it waits."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    with suppress(BlockingIOError):
        while True:
            os.write(theirs, b"\n")
    os.set_blocking(theirs, True)
    return ours, theirs


def test_one_that_is_killed_midway_leaves_a_disk_that_boots_nothing(image: Path, tmp_path: Path) -> None:
    """It waits to say its first line, behind a tenth of the bytes, and there it ends."""
    disk = tmp_path / "disk"
    disk.touch()
    assert flash(image, disk).returncode == 0
    assert names(disk) == ["root-a", "provision"]
    ours, theirs = full_pipe()
    with subprocess.Popen(command(image, disk), stderr=theirs) as running:
        until = time.monotonic() + 60
        while names(disk):
            assert time.monotonic() < until
            time.sleep(0.02)
        assert running.poll() is None
        running.kill()
    os.close(ours)
    os.close(theirs)
    assert names(disk) == []
    assert flash(image, disk).returncode == 0
    assert names(disk) == ["root-a", "provision"]
