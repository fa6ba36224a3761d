"""An image onto a disk: written where its block map says, read back, compared; bootable only when all of that is done.

    guard -> wipe both tables -> blocks -> read back -> record -> read back -> tables -> read back

The first and last MiB, where a disk's two partition tables are, are wiped first and written last: a disk that was torn
away at any point before has no table, and boots nothing, neither the old system nor half of the new one. The image is
compared with its block map while it is read, so one that was changed leaves no table behind either.
"""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, Final

from birthmark_server.factory.disk.blockmap import BlockMap, Extent, read_block_map
from birthmark_server.factory.disk.errors import DiskFull, DiskGone, ImageUnusable, NotADisk
from birthmark_server.factory.disk.guard import open_disk
from birthmark_server.factory.disk.provision import need_tools, provision_partition, read_record, write_record
from birthmark_server.factory.errors import ReadBackDiffers
from birthmark_server.factory.target import Flashed, Progress
from birthmark_wire.factory import ProvisionRecord

IMAGE: Final = "device.img"
_EDGE: Final = 1 << 20
_CHUNK: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class Image:
    """What is flashed. path: the raw image; block_map: read from the .bmap beside it. sha256: of the whole file,
    as `birthmark image build` and the manifest name it."""

    path: Path
    block_map: BlockMap
    sha256: str


def open_image(path: Path) -> Image:
    """Return an image: a raw file, or a folder of `birthmark image build`. Raise ImageUnusable."""
    file = path / IMAGE if path.is_dir() else path
    try:
        seen = file.stat()
    except OSError as error:
        raise ImageUnusable(f"the image {file}: {error.strerror}") from error
    block_map = read_block_map(file.with_suffix(".bmap"))
    if seen.st_size != block_map.image_size:
        raise ImageUnusable(
            f"{file} has {seen.st_size:,} bytes, its block map is of an image of {block_map.image_size:,}"
        )
    return Image(file, block_map, _hash_of(file, seen.st_ino, seen.st_mtime_ns, block_map))


@lru_cache(maxsize=8)
def _hash_of(file: Path, _inode: int, _changed_ns: int, block_map: BlockMap) -> str:
    """Return a file's SHA-256, worked out once for as long as it is the same file.

    Raise ImageUnusable where it has anything but zeros outside of its block map: those bytes are not written, so a disk
    would keep its own there, under the hash of a whole image.
    """
    digest = hashlib.sha256()
    gaps = _gaps(block_map)
    with file.open("rb") as source:
        for start, end, counts in gaps:
            source.seek(start)
            while start < end:
                data = source.read(min(_CHUNK, end - start))
                if not data:
                    raise ImageUnusable(f"{file} ends at byte {start:,}, its block map is of one with more")
                if not counts and data.count(0) != len(data):
                    raise ImageUnusable(f"{file} has data at {start:,} that its block map leaves out")
                digest.update(data)
                start += len(data)
    return digest.hexdigest()


def _gaps(block_map: BlockMap) -> Iterator[tuple[int, int, bool]]:
    """Yield the whole image as pieces, start and end, and whether the block map has them."""
    at = 0
    for extent in block_map.extents:
        yield at, extent.start, False
        at = extent.start + extent.length
        yield extent.start, at, True
    yield at, block_map.image_size, False


def flash(image: Image, disk: Path, record: ProvisionRecord, progress: Progress) -> Flashed:
    """Write and verify; return what was written. progress: counts what is written and what is read back.

    Raises the errors of this room; before the last steps the disk then has no partition table.
    """
    began = time.monotonic()
    place = provision_partition(image.path)
    need_tools()
    if disk.exists() and disk.samefile(image.path):
        raise NotADisk(f"{disk} is the image itself")
    with open_disk(disk, needs=image.block_map.image_size) as target, _told(disk):
        flashing = _Flashing(image, target, progress)
        flashing.wipe()
        flashing.write()
        flashing.verify()
        write_record(target, place, record)
        _drop(target)
        if read_record(target, place) != record:
            raise ReadBackDiffers(f"the record that was read back from {disk} is another one")
        flashing.finish()
    return Flashed(image.sha256, image.block_map.mapped, timedelta(seconds=time.monotonic() - began))


def _place(extent: Extent) -> str:
    return f"bytes {extent.start:,} to {extent.start + extent.length:,}"


class _Flashing:
    """One disk on its way. What belongs to its edges is kept in memory until the end."""

    def __init__(self, image: Image, disk: BinaryIO, progress: Progress) -> None:
        self._image = image
        self._disk = disk
        self._size = os.lseek(disk.fileno(), 0, os.SEEK_END)
        self._tell = progress
        self._done, self._all = 0, 2 * image.block_map.mapped
        self._held: dict[int, bytes] = {}
        self._buffer = memoryview(bytearray(_CHUNK))
        end = image.block_map.image_size
        self._edges = ((0, _EDGE), (max(_EDGE, end - _EDGE), end))

    def wipe(self) -> None:
        """Take both partition tables away: at the disk's ends, and where the image's second one will be."""
        for start, end in (*self._edges, (max(_EDGE, self._size - _EDGE), self._size)):
            if start < end:
                self._put(start, bytes(end - start))
        os.fdatasync(self._disk.fileno())

    def write(self) -> None:
        """Write everything but the edges. Raise ImageUnusable where the image is not what its block map says."""
        # Hashing has a thread of its own: a disk of some 1 GB/s would wait for it.
        with self._image.path.open("rb", buffering=0) as source, ThreadPoolExecutor(1) as beside:
            for extent in self._image.block_map.extents:
                digest = hashlib.sha256()
                for start, length in self._cut(extent):
                    data = self._read(source, start, length)
                    hashed = beside.submit(digest.update, data)
                    if self._is_edge(start):
                        self._held[start] = bytes(data)
                    else:
                        self._put(start, data)
                        self._count(len(data))
                    hashed.result()
                if digest.hexdigest() != extent.sha256:
                    raise ImageUnusable(
                        f"{self._image.path}, {_place(extent)}: SHA-256 {digest.hexdigest()}, "
                        f"its block map says {extent.sha256}"
                    )

    def verify(self) -> None:
        """Read everything but the edges back, from the disk itself, and compare with the block map."""
        _drop(self._disk)
        for extent in self._image.block_map.extents:
            digest = hashlib.sha256()
            for start, length in self._cut(extent):
                held = self._held.get(start)
                digest.update(self._read(self._disk, start, length) if held is None else held)
                self._count(length if held is None else 0)
            if digest.hexdigest() != extent.sha256:
                raise ReadBackDiffers(f"{_place(extent)} are not what was written")

    def finish(self) -> None:
        """Write the edges, the first one last, and read them back."""
        for start, data in sorted(self._held.items(), reverse=True):
            self._put(start, data)
            os.fdatasync(self._disk.fileno())
            self._count(len(data))
        _drop(self._disk)
        for start, data in self._held.items():
            if os.pread(self._disk.fileno(), len(data), start) != data:
                raise ReadBackDiffers(f"bytes {start:,} to {start + len(data):,} are not what was written")
            self._count(len(data))

    def _cut(self, extent: Extent) -> Iterator[tuple[int, int]]:
        """Yield start and length of its pieces: at most a chunk each, and in an edge or outside of it."""
        start, end = extent.start, extent.start + extent.length
        bounds = sorted({bound for edge in self._edges for bound in edge})
        while start < end:
            stop = min([start + _CHUNK, end, *(bound for bound in bounds if bound > start)])
            yield start, stop - start
            start = stop

    def _is_edge(self, start: int) -> bool:
        return any(first <= start < last for first, last in self._edges)

    def _read(self, source: BinaryIO, start: int, length: int) -> memoryview:
        """Return what is there, until the next call: one buffer, since fresh memory costs as much as a copy."""
        return self._buffer[: os.preadv(source.fileno(), [self._buffer[:length]], start)]

    def _put(self, start: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._disk.fileno(), view, start)
            view, start = view[written:], start + written

    def _count(self, length: int) -> None:
        self._done += length
        self._tell(self._done, self._all)


def _drop(disk: BinaryIO) -> None:
    """Have the kernel forget what it has of the disk in memory: what is read next comes from the disk."""
    os.fdatasync(disk.fileno())
    os.posix_fadvise(disk.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextmanager
def _told(disk: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"{disk}: {error.strerror}") from error
        raise DiskGone(f"{disk}: {error.strerror}") from error
