"""Images that the station refuses before it asks the board for anything, each for its own reason."""

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from birthmark_server.factory.smp import errors
from birthmark_server.factory.smp.image import SLOT_BYTES, FirmwareImage, Version, check_image, read_image
from birthmark_server.factory.smp.image import read_image_key as read_key
from support.mcu_image import ImageSigner

PROGRAM = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ImageSigner:
    return ImageSigner.create(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def key(signer: ImageSigner) -> ec.EllipticCurvePublicKey:
    return read_key(signer.public)


@pytest.fixture(scope="module")
def good(signer: ImageSigner, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return signer.sign(PROGRAM, tmp_path_factory.mktemp("image") / "good.bin", version="1.2.3+4").read_bytes()


def check(data: bytes, key: ec.EllipticCurvePublicKey) -> FirmwareImage:
    return check_image(data, key=key, slot_bytes=SLOT_BYTES, name="image")


def test_an_image_that_imgtool_signed_is_ours(good: bytes, key: ec.EllipticCurvePublicKey) -> None:
    image = check(good, key)
    assert (image.version, len(image.digest), image.data) == (Version(1, 2, 3, 4), 32, good)


def test_protected_tlvs_are_part_of_what_is_signed(
    signer: ImageSigner, key: ec.EllipticCurvePublicKey, tmp_path: Path
) -> None:
    image = signer.sign(PROGRAM, tmp_path / "i.bin", more=("--security-counter", "7"))
    counter = image.read_bytes()
    assert check(counter, key).version == Version(1, 2, 0)
    at = counter.rindex(struct.pack("<HHI", 0x50, 4, 7))
    with pytest.raises(errors.ImageTampered):
        check(counter[: at + 4] + b"\x08" + counter[at + 5 :], key)


@pytest.mark.parametrize("share", [0, 0.001, 0.3, 0.97, 0.999])
def test_a_truncated_image_is_named_so(share: float, good: bytes, key: ec.EllipticCurvePublicKey) -> None:
    with pytest.raises(errors.ImageTruncated):
        check(good[: int(len(good) * share)], key)


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


TAMPERINGS: dict[str, Callable[[bytes], bytes]] = {
    "a bit of the program": lambda data: _flip(data, 0x300),
    "the version": lambda data: _flip(data, 22),
    "the load address": lambda data: _flip(data, 5),
    "bytes behind its end": lambda data: data + b"\xff" * 64,
    "the signature's last byte": lambda data: _flip(data, len(data) - 1),
}


@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_tampered_image_is_named_so(what: str, good: bytes, key: ec.EllipticCurvePublicKey) -> None:
    with pytest.raises(errors.ImageTampered):
        check(TAMPERINGS[what](good), key)


def test_an_image_by_another_key_is_named_so(good: bytes, key: ec.EllipticCurvePublicKey, tmp_path: Path) -> None:
    foreign = ImageSigner.create(tmp_path).sign(PROGRAM, tmp_path / "foreign.bin")
    with pytest.raises(errors.ImageWrongKey, match="signed by the key"):
        check(foreign.read_bytes(), key)


def test_an_image_by_nobody_is_named_so(key: ec.EllipticCurvePublicKey) -> None:
    header = struct.pack("<IIHHIIBBHII", 0x96F3B83D, 0, 0x200, 0, 4, 0, 1, 0, 0, 0, 0).ljust(0x200, b"\0") + b"prog"
    import hashlib

    tlv = struct.pack("<HH", 0x10, 32) + hashlib.sha256(header).digest()
    with pytest.raises(errors.ImageWrongKey, match="no ECDSA signature"):
        check(header + struct.pack("<HH", 0x6907, 4 + len(tlv)) + tlv, key)


def test_an_image_larger_than_the_slot_is_named_so(good: bytes, key: ec.EllipticCurvePublicKey) -> None:
    with pytest.raises(errors.ImageTooLarge, match="the board's slot has 4096"):
        check_image(good, key=key, slot_bytes=4096, name="image")


def test_an_image_below_the_boards_version_is_named_so(good: bytes, key: ec.EllipticCurvePublicKey) -> None:
    image = check(good, key)
    image.check_not_below(Version(1, 2, 3, 4))
    with pytest.raises(errors.ImageDowngrade, match=r"the image is 1\.2\.3\+4, the board has 1\.3\.0"):
        image.check_not_below(Version.parse("1.3.0"))


def test_a_file_that_is_not_there_is_named_so(key: ec.EllipticCurvePublicKey, tmp_path: Path) -> None:
    with pytest.raises(errors.ImageRefused, match=r"none\.bin: can't be read: No such file"):
        read_image(tmp_path / "none.bin", key=key)


@settings(max_examples=300)
@given(data=st.data())
def test_any_bytes_are_an_image_of_ours_or_refused(
    data: st.DataObject, good: bytes, key: ec.EllipticCurvePublicKey
) -> None:
    at = data.draw(st.integers(0, len(good) - 1))
    piece = data.draw(st.binary(min_size=1, max_size=8))
    changed = good[:at] + piece + good[at + len(piece) :]
    try:
        assert check(changed, key).data == good
    except errors.ImageRefused:
        assert changed != good
