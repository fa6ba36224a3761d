"""A small disk image with its block map, as `birthmark image build` makes large ones: made by the same tools."""

import random
import subprocess
from pathlib import Path

from birthmark_server.factory.disk.provision import provision_partition, read_record
from birthmark_wire.factory import ProvisionRecord

MIB = 1 << 20


def small_image(folder: Path, *, seed: int = 1, root_mib: int = 16, data_mib: int = 9) -> Path:
    """Make device.img and device.bmap in a new folder: a GPT with a root and `provision`, holes between them.

    data_mib: how much of the root is written.
    """
    noise, provision = random.Random(seed), root_mib + 8
    folder.mkdir(parents=True)
    image = folder / "device.img"
    with image.open("wb") as file:
        file.truncate((provision + 16) * MIB)
        file.seek(1 * MIB)
        for _ in range(data_mib):
            file.write(noise.randbytes(MIB))
    fat = folder / "provision.img"
    with fat.open("wb") as file:
        file.truncate(8 * MIB)
    _run("mkfs.vfat", "--invariant", "-n", "PROVISION", fat)
    with image.open("r+b") as file:
        file.seek(provision * MIB)
        file.write(fat.read_bytes())
    fat.unlink()
    root, data = f"1:1M:+{root_mib}M", f"2:{provision}M:+8M"
    _run("sgdisk", "-n", root, "-c", "1:root-a", "-n", data, "-c", "2:provision", image)
    _run("bmaptool", "--quiet", "create", "-o", folder / "device.bmap", image)
    return folder


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def record_on(disk: Path) -> ProvisionRecord:
    """The device's record, as it lies on a flashed disk."""
    with disk.open("rb") as opened:
        return read_record(opened, provision_partition(disk))
