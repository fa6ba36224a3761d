"""The initial RAM file system: busybox, the kernel's modules that reach disk, TPM and network, and an init.

The archive is written here ("newc", Linux Documentation/driver-api/early-userspace/buffer-format.rst): the same files
give the same bytes, and nobody needs to be root.
"""

import gzip
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from birthmark_server.factory.image.errors import ImageFailed

_WANTED: Final = (
    "virtio_pci", "virtio_mmio", "virtio_blk", "virtio_scsi", "virtio_net", "virtio_rng",
    "e1000", "e1000e", "igb", "igc", "r8169", "ax88179_178a", "r8152",
    "nvme", "ahci", "sd_mod", "mmc_block", "sdhci_pci", "sdhci_acpi", "xhci_pci", "uas", "usb_storage",
    "squashfs", "ext4", "vfat", "nls_cp437", "nls_ascii", "tpm_tis", "tpm_crb",
)  # fmt: skip
"""Modules that a device may need: disk, network, TPM; nothing on it loads others. Those that a kernel
does not have, it does not need."""
_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")
_FOLDERS: Final = ("bin", "dev", "modules", "proc", "root", "sys")


@dataclass(frozen=True, slots=True)
class Entry:
    """One file of the archive. mode: with its type, as in inode(7)."""

    name: str
    mode: int
    data: bytes = b""


def build(*, modules: Path, busybox: bytes, init: bytes) -> bytes:
    """Return the archive, compressed. modules: the kernel's /lib/modules/VERSION."""
    entries = [Entry(name, stat.S_IFDIR | 0o755) for name in _FOLDERS]
    entries += [Entry("bin/busybox", stat.S_IFREG | 0o755, busybox), Entry("init", stat.S_IFREG | 0o755, init)]
    for place, module in enumerate(in_order(modules)):
        entries.append(Entry(f"modules/{place:03}-{module.name}", stat.S_IFREG | 0o644, module.read_bytes()))
    return gzip.compress(cpio(entries), compresslevel=9, mtime=0)


def in_order(modules: Path) -> tuple[Path, ...]:
    """Return the files of the wanted modules, each behind those that it depends on."""
    files = {_name(file): file for file in modules.rglob("*.ko")}
    if not files:
        raise ImageFailed(f"{modules} has no kernel modules (*.ko)")
    ordered: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in ordered or name not in files:
            return
        for other in _depends(files[name]):
            add(other)
        ordered[name] = files[name]

    for name in _WANTED:
        add(name)
    return tuple(ordered.values())


def cpio(entries: Sequence[Entry]) -> bytes:
    """Return a cpio archive of these entries, in their order, all root's and without times."""
    return b"".join(_records((*entries, Entry("TRAILER!!!", 0))))


def _records(entries: Iterable[Entry]) -> Iterator[bytes]:
    for number, entry in enumerate(entries, start=1):
        name = entry.name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(entry.mode) else 1
        # inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of the name, no checksum
        fields = (number, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        head = b"070701" + b"".join(b"%08x" % field for field in fields)
        yield _padded(head + name)
        yield _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _name(file: Path) -> str:
    return file.stem.replace("-", "_")


def _depends(file: Path) -> list[str]:
    found = _DEPENDS.search(file.read_bytes())
    return [name.replace("-", "_") for name in found[1].decode().split(",") if name] if found else []
