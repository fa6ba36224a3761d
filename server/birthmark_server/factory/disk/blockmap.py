"""Block maps (bmap 2.0, as `bmaptool create` writes them): which blocks of an image count, each range with its hash.

    <bmap version="2.0"> ImageSize BlockSize BlocksCount MappedBlocksCount ChecksumType BmapFileChecksum
        BlockMap: <Range chksum="SHA-256"> first-last </Range> ...

The file's own checksum is SHA-256 over the file with that checksum as zeros. It keeps accidents away, not attackers:
who signs what is the boot file's affair (Secure Boot). What a map leaves out must be holes in the image (flash.py).
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree

from birthmark_server.factory.disk.errors import ImageUnusable

_MOST_BYTES: Final = 16 << 20
_MOST_BLOCK: Final = 1 << 20
_RANGE: Final = re.compile(r"\s*(\d{1,12})(?:-(\d{1,12}))?\s*")
_HASH: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of an image that count: from `start` on, `length` of them. sha256: hex, of them."""

    start: int
    length: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BlockMap:
    """extents: ascending, apart from each other. mapped: bytes in them."""

    image_size: int
    extents: tuple[Extent, ...]

    @property
    def mapped(self) -> int:
        """How many bytes are to be written."""
        return sum(extent.length for extent in self.extents)


def read_block_map(path: Path) -> BlockMap:
    """Read a block map; raise ImageUnusable saying what was seen and wanted."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ImageUnusable(f"the image's block map {path}: {error.strerror}") from error
    try:
        return _parse(data)
    except _Unreadable as error:
        raise ImageUnusable(f"the image's block map {path}: {error}") from None


class _Unreadable(Exception):
    """Why it is no block map."""


def _parse(data: bytes) -> BlockMap:
    if len(data) > _MOST_BYTES:
        raise _Unreadable(f"want at most {_MOST_BYTES} bytes")
    if b"\0" in data or not data.isascii():  # then what follows sees every character
        raise _Unreadable("want plain ASCII, as bmaptool writes it")
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise _Unreadable("want no document type and no entities")
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - without entities there is nothing to expand
    except ElementTree.ParseError as error:
        raise _Unreadable(f"want XML: {error}") from None
    version = root.get("version", "")
    if root.tag != "bmap" or version.partition(".")[0] != "2":
        raise _Unreadable(f"want a bmap of version 2, got {root.tag} {version!r}")
    if (kind := _text(root, "ChecksumType")) != "sha256":
        raise _Unreadable(f"want ChecksumType sha256, got {kind!r}")
    _check_itself(data, _text(root, "BmapFileChecksum"))
    size, block = _number(root, "ImageSize"), _number(root, "BlockSize")
    if not 512 <= block <= _MOST_BLOCK or size < 1:
        raise _Unreadable(f"want blocks of 512 to {_MOST_BLOCK} bytes and an image, got {block} and {size} bytes")
    ranges = root.find("BlockMap")
    extents = tuple(_extent(one, size, block) for one in (ranges if ranges is not None else ()))
    ends = [0]
    for extent in extents:
        if extent.start < ends[-1]:
            raise _Unreadable("want ranges that ascend and do not overlap")
        ends.append(extent.start + extent.length)
    if not extents:
        raise _Unreadable("want at least one range")
    return BlockMap(size, extents)


def _check_itself(data: bytes, said: str) -> None:
    if not _HASH.fullmatch(said) or data.count(said.encode()) != 1:
        raise _Unreadable("want its own checksum in it, once")
    if hashlib.sha256(data.replace(said.encode(), b"0" * 64)).hexdigest() != said:
        raise _Unreadable("it was changed: its own checksum is another one")


def _extent(element: ElementTree.Element, size: int, block: int) -> Extent:
    found, sha256 = _RANGE.fullmatch(element.text or ""), element.get("chksum", "")
    if not found or not _HASH.fullmatch(sha256):
        raise _Unreadable(f"want a range of blocks with its SHA-256, got {(element.text or '')[:40]!r}")
    first, last = int(found[1]), int(found[2] or found[1])
    start, end = first * block, min((last + 1) * block, size)
    if not start < end:
        raise _Unreadable(f"want blocks of the image's {size} bytes, got {first}-{last}")
    return Extent(start, end - start, sha256)


def _text(root: ElementTree.Element, name: str) -> str:
    return (root.findtext(name) or "").strip()


def _number(root: ElementTree.Element, name: str) -> int:
    text = _text(root, name)
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise _Unreadable(f"want a number as {name}, got {text[:40]!r}")
    return int(text)
