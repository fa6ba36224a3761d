"""Where a partition is, by its name: the primary GUID partition table (UEFI Specification 2.10 §5.3), read only."""

import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, Final

SECTOR: Final = 512
_HEADER: Final = struct.Struct("<8sIIIIQQQQ16sQIII")
_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_MOST_ENTRIES: Final = 1024


@dataclass(frozen=True, slots=True)
class Partition:
    """start, length: in bytes."""

    name: str
    start: int
    length: int


class NoTable(Exception):
    """There is no partition table that can be read, or it has no such partition."""


def find_partition(disk: BinaryIO, name: str) -> Partition:
    """Return the partition of that name; raise NoTable saying what is there."""
    found = {partition.name: partition for partition in read_partitions(disk)}
    if name not in found:
        raise NoTable(f"want a partition {name!r}, got {', '.join(found) or 'none'}")
    return found[name]


def read_partitions(disk: BinaryIO) -> list[Partition]:
    """Return all partitions, as the primary table has them; raise NoTable."""
    disk.seek(SECTOR)
    header = disk.read(SECTOR)
    if len(header) < SECTOR or header[:8] != b"EFI PART":
        raise NoTable("want a GPT (`EFI PART` in sector 1)")
    fields = _HEADER.unpack_from(header)
    size, checksum, table_at, entries, entry_size, table_checksum = (fields[place] for place in (2, 3, 10, 11, 12, 13))
    if not _HEADER.size <= size <= SECTOR:
        raise NoTable(f"want a header of {_HEADER.size} to {SECTOR} bytes, got {size}")
    if zlib.crc32(header[:16] + bytes(4) + header[20:size]) != checksum:
        raise NoTable("the header's checksum is another one")
    if not 1 <= entries <= _MOST_ENTRIES or not _ENTRY.size <= entry_size <= SECTOR:
        raise NoTable(f"want at most {_MOST_ENTRIES} entries of at most {SECTOR} bytes, got {entries} of {entry_size}")
    disk.seek(table_at * SECTOR)
    table = disk.read(entries * entry_size)
    if len(table) < entries * entry_size or zlib.crc32(table) != table_checksum:
        raise NoTable("the table's checksum is another one")
    each = (_ENTRY.unpack_from(table, place * entry_size) for place in range(entries))
    return [
        Partition(name.decode("utf-16-le", "replace").partition("\0")[0], first * SECTOR, (last - first + 1) * SECTOR)
        for kind, _own, first, last, _flags, name in each
        if any(kind)
    ]
