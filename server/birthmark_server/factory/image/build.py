"""The way from options to a folder with an image: device.img, device.bmap, device.sbom.json, device.json, device.efi.

Each step says its name and what it did. The folder appears whole or not at all.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

from birthmark_server.factory.image import disk, kernel, root, sbom
from birthmark_server.factory.image.base import Base, prepare
from birthmark_server.factory.image.errors import WrongOption
from birthmark_server.factory.image.spec import ImageSpec
from birthmark_server.factory.image.tools import need, need_room, readable_by_all, run

Told = Callable[[str, str, float], None]
"""A step's name, what it did, and the seconds that it took."""

IMAGE: Final = "device.img"
BLOCK_MAP: Final = "device.bmap"
BILL: Final = "device.sbom.json"
BOOT: Final = "device.efi"
MANIFEST: Final = "device.json"
MANIFEST_FORMAT: Final = "birthmark-image/1"
_NEEDS_MB: Final = 1200
_TOOLS: Final = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "tar": "tar",
    "mksquashfs": "squashfs-tools",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "genimage": "genimage",
    "bmaptool": "bmap-tools",
    "pkg-config": "pkg-config",
}


@dataclass(frozen=True, slots=True)
class Built:
    """What came out. folder: with the files named above; manifest: what MANIFEST says."""

    folder: Path
    image_sha256: str
    took_s: float


def build(spec: ImageSpec, out: Path, *, cache: Path, told: Told, built_at: datetime | None = None) -> Built:
    """Build an image into the new folder `out`. cache: kept for the next build. built_at: the time of all files;
    by default of the newest file in the packages. Raise an error of errors.py."""
    began = time.monotonic()
    need({**_TOOLS, **dict.fromkeys((spec.arch.compiler, spec.arch.objcopy), spec.arch.tool_package)})
    if spec.signing:
        need({"sbsign": "sbsigntool", "sbverify": "sbsigntool", "faketime": "faketime"})
    if out.exists():
        raise WrongOption(f"--out: {out} is there already; nothing was overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    for folder in {out.parent, cache}:
        need_room(folder, _NEEDS_MB)
    with readable_by_all(), tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
        work = Path(name)
        made = work / "out"
        made.mkdir()
        digest = _Builder(spec, work, made, cache / spec.arch.debian, told, built_at).run()
        made.rename(out)
    return Built(out, digest, time.monotonic() - began)


class _Builder:
    """One build, step by step."""

    def __init__(
        self, spec: ImageSpec, work: Path, out: Path, cache: Path, told: Told, built_at: datetime | None
    ) -> None:
        self._spec, self._work, self._out, self._cache, self._told = spec, work, out, cache, told
        self._built_at = built_at
        self._since = time.monotonic()

    def run(self) -> str:
        """Build; return the image's hash."""
        spec, work = self._spec, self._work
        base = prepare(spec.arch, spec.kernel, self._cache, self._step)
        built_at = self._built_at or base.newest
        tree = work / "root"
        run(["cp", "-a", "--reflink=auto", base.root, tree])
        root.customise(tree, spec, built_at=built_at)
        squash = work / "root.squashfs"
        root.squash(tree, squash, built_at=built_at)
        self._step("root", f"{_megabytes(squash)}, of {built_at:%Y-%m-%d %H:%M:%SZ}")

        parts = self._boot_parts(base, tree, squash)
        boot = kernel.build(parts, stub=base.stub, arch=spec.arch, work=work)
        if spec.signing:
            boot = kernel.sign(boot, spec.signing, at=built_at, work=work)
        self._step("boot file", f"{len(boot) / 1e6:.1f} MB, {'signed' if spec.signing else 'not signed'}")

        image = self._out / IMAGE
        disk.build(boot=boot, root=squash, spec=spec, built_at=built_at, work=work, out=image)
        disk.block_map(image, self._out / BLOCK_MAP)
        digest = _sha256(image)
        self._step("disk", f"{_megabytes(image)} with holes")

        (self._out / BOOT).write_bytes(boot)
        agent = installed_version("birthmark")
        bill = sbom.write(spec, base, agent_version=agent, image_sha256=digest, built_at=built_at)
        (self._out / BILL).write_bytes(bill)
        (self._out / MANIFEST).write_bytes(self._manifest(parts, boot, built_at, agent))
        self._step("bill of materials", f"{len(base.debian) + len(base.python)} packages")
        return digest

    def _boot_parts(self, base: Base, tree: Path, squash: Path) -> kernel.BootParts:
        checked = f"birthmark.root={_sha256(squash)}:{squash.stat().st_size}"
        return kernel.BootParts(
            kernel=(base.folder / "kernel").read_bytes(),
            initramfs=(base.folder / "initramfs").read_bytes(),
            cmdline=f"console={self._spec.arch.console} quiet panic=10 birthmark.slot=a {checked}",
            os_release=(tree / "etc/os-release").read_bytes(),
        )

    def _manifest(self, parts: kernel.BootParts, boot: bytes, built_at: datetime, agent: str) -> bytes:
        spec = self._spec
        document = {
            "format": MANIFEST_FORMAT,
            "model": spec.model,
            "version": spec.version,
            "arch": spec.arch.debian,
            "server": spec.server,
            "agent": agent,
            "built_at": f"{built_at:%Y-%m-%dT%H:%M:%SZ}",
            "anchors_sha256": hashlib.sha256(spec.anchors).hexdigest(),
            "files": {
                name: {"sha256": _sha256(self._out / name), "size": (self._out / name).stat().st_size}
                for name in (IMAGE, BLOCK_MAP, BILL, BOOT)
            },
            "boot": {
                "signed": spec.signing is not None,
                "authenticode_sha256": kernel.authenticode_sha256(boot),
                "cmdline": parts.cmdline,
                "os_release_sha256": hashlib.sha256(parts.os_release).hexdigest(),
                "cmdline_sha256": hashlib.sha256(parts.cmdline.encode()).hexdigest(),
                "initrd_sha256": hashlib.sha256(parts.initramfs).hexdigest(),
                "kernel_sha256": hashlib.sha256(parts.kernel).hexdigest(),
                "kernel_authenticode_sha256": kernel.authenticode_sha256(parts.kernel),
            },
        }
        return (json.dumps(document, indent=2) + "\n").encode()

    def _step(self, name: str, did: str) -> None:
        now = time.monotonic()
        self._told(name, did, now - self._since)
        self._since = now


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
