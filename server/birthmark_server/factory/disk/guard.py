"""May this disk be written? What is in use is never touched, whatever it was named as.

A disk is a block device, or a regular file that stands for one. In use is: mounted (it or a partition of it), swap,
held by device-mapper or RAID, backing a loop device, or opened by somebody alone (the kernel's O_EXCL, which is asked
last and held while the disk is written).
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from birthmark_server.factory.disk.errors import DiskInUse, DiskTooSmall, NotADisk


def open_disk(path: Path, *, needs: int, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> BinaryIO:
    """Open a disk for writing, alone. needs: bytes that must fit; a file is made as large.

    Raise NotADisk, DiskInUse, DiskTooSmall: then nothing was changed.
    """
    try:
        kind = path.stat()
    except FileNotFoundError:
        raise NotADisk(f"{path} is not there; want a disk, or a file that stands for one") from None
    except OSError as error:
        raise NotADisk(f"{path}: {error.strerror}") from error
    if stat.S_ISBLK(kind.st_mode):
        for use in _uses(os.major(kind.st_rdev), os.minor(kind.st_rdev), sys, proc):
            raise DiskInUse(f"{path}: {use}")
        return _open_device(path, needs)
    if stat.S_ISREG(kind.st_mode):
        for loop in (sys / "block").glob("loop*/loop/backing_file"):
            if loop.read_text().strip() == str(path.resolve()):
                raise DiskInUse(f"{path} backs {loop.parts[-3]}")
        return _open_file(path, kind.st_size, needs)
    raise NotADisk(f"{path} is neither a disk nor a regular file")


def _open_device(path: Path, needs: int) -> BinaryIO:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise DiskInUse(f"{path} can't be opened alone: {error.strerror}") from error
    disk = os.fdopen(descriptor, "r+b", buffering=0)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size < needs:
        disk.close()
        raise DiskTooSmall(f"{path} has {size:,} bytes, the image needs {needs:,}")
    return disk


def _open_file(path: Path, size: int, needs: int) -> BinaryIO:
    if 0 < size < needs:
        raise DiskTooSmall(f"{path} has {size:,} bytes, the image needs {needs:,}; an empty file grows by itself")
    try:
        disk = path.open("r+b", buffering=0)
    except OSError as error:
        raise NotADisk(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(disk, fcntl.LOCK_EX | fcntl.LOCK_NB)  # what O_EXCL is for a device
    except BlockingIOError:
        disk.close()
        raise DiskInUse(f"{path} is being flashed by another process, or in another slot") from None
    if size == 0:
        os.ftruncate(disk.fileno(), needs)
    return disk


def _uses(major: int, minor: int, sys: Path, proc: Path) -> Iterator[str]:
    """Yield what a disk is in use for."""
    disk = (sys / "dev" / "block" / f"{major}:{minor}").resolve()
    if (disk / "partition").exists():
        yield f"it is a partition of {disk.parent.name}; want the whole disk"
    parts = [disk, *(one.parent for one in disk.glob("*/partition"))]
    numbers = {(part / "dev").read_text().strip(): part.name for part in parts if (part / "dev").exists()}
    for line in (proc / "self" / "mountinfo").read_text().splitlines():
        fields = line.split()
        if fields[2] in numbers:
            yield f"{numbers[fields[2]]} is mounted at {fields[4]}"
    for part in parts:
        for holder in (part / "holders").glob("*"):
            yield f"{part.name} is held by {holder.name}"
    names = {f"/dev/{part.name}" for part in parts}
    for line in (proc / "swaps").read_text().splitlines()[1:]:
        if line.split()[0] in names:
            yield f"{line.split()[0]} is swap"
