"""The device's own record on its data partition: a FAT file system that nobody mounts (mtools).

The partition is a place within the disk, so a partition table is not needed to write it.
"""

import shutil
import subprocess
from pathlib import Path
from typing import BinaryIO, Final

from birthmark_server.factory.disk.errors import DiskGone, ImageUnusable, ToolMissing
from birthmark_server.factory.disk.gpt import NoTable, Partition, find_partition
from birthmark_server.factory.errors import ReadBackDiffers
from birthmark_wire.errors import DecodeError
from birthmark_wire.factory import PROVISION_FILE, ProvisionRecord

PARTITION: Final = "provision"
_TIMEOUT_S: Final = 60


def need_tools() -> None:
    """Raise ToolMissing, before anything is written, rather than when the record's turn comes."""
    for tool in ("mcopy", "mtype"):
        if shutil.which(tool) is None:
            raise ToolMissing(f"{tool} is not installed: apt-get install mtools")


def provision_partition(image: Path) -> Partition:
    """Return where an image keeps the record; raise ImageUnusable."""
    try:
        with image.open("rb") as file:
            return find_partition(file, PARTITION)
    except NoTable as error:
        raise ImageUnusable(f"{image}: {error}") from None
    except OSError as error:
        raise ImageUnusable(f"{image}: {error.strerror}") from error


def write_record(disk: BinaryIO, partition: Partition, record: ProvisionRecord) -> None:
    """Put the record there, in place of one that is there. disk: open for writing."""
    _mtools(disk, partition, "mcopy", "-o", "-D", "o", "-", f"::{PROVISION_FILE}", data=record.encode())


def read_record(disk: BinaryIO, partition: Partition) -> ProvisionRecord:
    """Read it back; raise ReadBackDiffers where there is none that can be read."""
    said = _mtools(disk, partition, "mtype", f"::{PROVISION_FILE}")
    try:
        return ProvisionRecord.decode(said)
    except DecodeError as error:
        raise ReadBackDiffers(f"{PROVISION_FILE} on the disk: {error}") from None


def _mtools(disk: BinaryIO, partition: Partition, *command: str, data: bytes = b"") -> bytes:
    """Run one of mtools on the open disk itself: its name may lead elsewhere by now."""
    number = disk.fileno()
    words = [command[0], "-i", f"/proc/self/fd/{number}@@{partition.start}", *command[1:]]
    try:
        done = subprocess.run(
            words, input=data, capture_output=True, timeout=_TIMEOUT_S, check=False, pass_fds=[number]
        )
    except subprocess.TimeoutExpired:
        raise DiskGone(f"{command[0]} did not end within {_TIMEOUT_S} s") from None
    if done.returncode != 0:
        raise DiskGone(
            f"{command[0]} ended with {done.returncode}: {done.stderr.decode(errors='replace').strip()[:300]}"
        )
    return done.stdout
