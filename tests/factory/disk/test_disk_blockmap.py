"""Block maps: what bmaptool writes is read; anything else is refused by what is wrong with it."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.factory.disk import blockmap
from birthmark_server.factory.disk.blockmap import Extent, read_block_map
from birthmark_server.factory.disk.errors import ImageUnusable
from support.small_image import MIB


def written(ranges: str, *, size: int = 8192, block: int = 4096, kind: str = "sha256", version: str = "2.0") -> bytes:
    body = f"""<?xml version="1.0" ?>
<bmap version="{version}">
    <ImageSize> {size} </ImageSize><BlockSize> {block} </BlockSize><BlocksCount> 2 </BlocksCount>
    <MappedBlocksCount> 1 </MappedBlocksCount><ChecksumType> {kind} </ChecksumType>
    <BmapFileChecksum> {"0" * 64} </BmapFileChecksum>
    <BlockMap>{ranges}</BlockMap>
</bmap>
""".encode()
    return body.replace(b"0" * 64, hashlib.sha256(body).hexdigest().encode(), 1)


def one(text: str, sha256: str = "ab" * 32) -> str:
    return f'<Range chksum="{sha256}"> {text} </Range>'


def read(tmp_path: Path, data: bytes) -> blockmap.BlockMap:
    path = tmp_path / "some.bmap"
    path.write_bytes(data)
    return read_block_map(path)


@pytest.mark.parts
def test_what_bmaptool_writes_is_read(image: Path) -> None:
    found = read_block_map(image / "device.bmap")
    data = (image / "device.img").read_bytes()
    assert found.image_size == len(data)
    assert 17 * MIB < found.mapped < 20 * MIB
    for extent in found.extents:
        assert hashlib.sha256(data[extent.start : extent.start + extent.length]).hexdigest() == extent.sha256


def test_the_last_block_ends_with_the_image(tmp_path: Path) -> None:
    found = read(tmp_path, written(one("0") + one("1"), size=5000))
    assert found.extents == (Extent(0, 4096, "ab" * 32), Extent(4096, 904, "ab" * 32))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "want XML"),
        (b"<bmap", "want XML"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><bmap/>', "no document type"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><bmap/>'.encode("utf-16"), "plain ASCII"),
        (written(one("0"), version="1.4"), "bmap of version 2"),
        (written(one("0"), kind="sha1"), "ChecksumType sha256, got 'sha1'"),
        (written(one("0")).replace(b"8192", b"8193"), "it was changed"),
        (written(""), "at least one range"),
        (written(one("2")), "blocks of the image's 8192 bytes, got 2-2"),
        (written(one("1-0")), "got 1-0"),
        (written(one("-1")), "a range of blocks"),
        (written(one("0", "zz")), "a range of blocks"),
        (written(one("1") + one("0")), "ascend"),
        (written(one("0-1") + one("1")), "do not overlap"),
        (written(one("0"), block=1), "blocks of 512 to"),
        (written(one("0"), block=1 << 40), "blocks of 512 to"),
    ],
)
def test_what_is_no_block_map_is_refused(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(ImageUnusable, match=why):
        read(tmp_path, data)


def test_one_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageUnusable, match=r"none\.bmap: No such file"):
        read_block_map(tmp_path / "none.bmap")


@given(st.binary(max_size=400), st.integers(0, 400))
def test_nothing_but_a_refusal_comes_of_garbage(noise: bytes, at: int) -> None:
    data = written(one("0"))
    try:
        blockmap._parse(data[:at] + noise + data[at:])
    except blockmap._Unreadable:
        return
