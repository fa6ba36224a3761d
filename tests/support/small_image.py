"""A small disk image with its block map, as `birthmark image build` makes large ones: made by the same tools."""

import random
import subprocess
from pathlib import Path

MIB = 1 << 20


def small_image(folder: Path, *, seed: int = 1) -> Path:
    """Make device.img and device.bmap in a new folder: a GPT with a root and `provision`, holes between them."""
    folder.mkdir(parents=True)
    image = folder / "device.img"
    with image.open("wb") as file:
        file.truncate(40 * MIB)
        file.seek(1 * MIB)
        file.write(random.Random(seed).randbytes(9 * MIB))
    fat = folder / "provision.img"
    with fat.open("wb") as file:
        file.truncate(8 * MIB)
    _run("mkfs.vfat", "--invariant", "-n", "PROVISION", fat)
    with image.open("r+b") as file:
        file.seek(24 * MIB)
        file.write(fat.read_bytes())
    fat.unlink()
    _run("sgdisk", "-n", "1:1M:+16M", "-c", "1:root-a", "-n", "2:24M:+8M", "-c", "2:provision", image)
    _run("bmaptool", "--quiet", "create", "-o", folder / "device.bmap", image)
    return folder


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)
