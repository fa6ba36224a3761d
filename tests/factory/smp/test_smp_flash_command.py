"""`birthmark flash smp:...`: what is refused, and in which words. No board is asked for anything."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.mcu_image import ImageSigner
from support.smp_board import Group64
from support.smp_peer import SmpPeer, peer

BIRTHMARK = Path(sys.executable).with_name("birthmark")
NEXT = "Take the image from where it is released again; this one must not be flashed."


@pytest.fixture(scope="module")
def signer(tmp_path_factory: pytest.TempPathFactory) -> ImageSigner:
    return ImageSigner.create(tmp_path_factory.mktemp("signer"))


@pytest.fixture(scope="module")
def image(signer: ImageSigner, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return signer.sign(bytes(range(256)) * 30, tmp_path_factory.mktemp("image") / "i.bin").read_bytes()


@pytest.fixture
def board() -> Iterator[SmpPeer]:
    with peer(Group64(lambda _: b"").answer) as served:
        yield served


def flash(image: Path, *, target: str, key: Path | None) -> subprocess.CompletedProcess[str]:
    command = [str(BIRTHMARK), "flash", f"smp:{target}", "--image", str(image), "--serial", "A-1", "--model", "node-1"]
    command += ["--image-key", str(key)] if key else []
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=image.parent)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data[:-40], "its signature ends at"),
        (lambda data: data[:0x400] + b"\x99" + data[0x401:], "its SHA-256 is"),
        (lambda data: data + bytes(0x80000), "the board's slot has 524288"),
        (lambda data: b"\x7fELF" + data[4:], "no MCUboot image"),
    ],
    ids=["truncated", "tampered", "too large", "foreign"],
)
def test_an_image_that_is_none_of_ours_is_refused(
    change: Callable[[bytes], bytes], words: str, image: bytes, signer: ImageSigner, board: SmpPeer, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.bin"
    bad.write_bytes(change(image))
    done = flash(bad, target=board.address, key=signer.public)
    assert done.returncode == 1
    assert words in done.stderr
    assert NEXT in done.stderr
    assert board.asked == []


def test_an_image_by_another_key_is_refused(image: bytes, board: SmpPeer, tmp_path: Path) -> None:
    other = ImageSigner.create(tmp_path, "other")
    (tmp_path / "i.bin").write_bytes(image)
    done = flash(tmp_path / "i.bin", target=board.address, key=other.public)
    assert done.returncode == 1
    assert "signed by the key" in done.stderr
    assert board.asked == []


def test_a_board_that_is_not_there_is_a_cable(image: bytes, signer: ImageSigner, tmp_path: Path) -> None:
    (tmp_path / "i.bin").write_bytes(image)
    done = flash(tmp_path / "i.bin", target=f"unix:{tmp_path}/none", key=signer.public)
    assert done.returncode == 1
    assert "can't be opened" in done.stderr
    assert "Check the cable and the board's power" in done.stderr


def test_without_the_signers_key_nothing_is_flashed(image: bytes, board: SmpPeer, tmp_path: Path) -> None:
    (tmp_path / "i.bin").write_bytes(image)
    done = flash(tmp_path / "i.bin", target=board.address, key=None)
    assert done.returncode == 78
    assert "image_key is missing" in done.stderr
    assert board.asked == []
