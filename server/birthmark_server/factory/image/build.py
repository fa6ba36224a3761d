"""The way from options to a folder with an image: device.img, device.bmap, device.sbom.json, device.json, device.efi.

Each step says its name and what it did. The folder appears whole or not at all.
"""

import hashlib
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Final

from birthmark_server.factory.image import disk, initramfs, kernel, root, sbom, wheels
from birthmark_server.factory.image.errors import ImageFailed, WrongOption
from birthmark_server.factory.image.packages import Archive, Package
from birthmark_server.factory.image.spec import ImageSpec
from birthmark_server.factory.image.tools import need, need_room

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
        need({"sbsign": "sbsigntool", "sbverify": "sbsigntool"})
    if out.exists():
        raise WrongOption(f"--out: {out} is there already; nothing was overwritten")
    out.parent.mkdir(parents=True, exist_ok=True)
    cache.mkdir(parents=True, exist_ok=True)
    for folder in {out.parent, cache}:
        need_room(folder, _NEEDS_MB)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as name:
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
        archive = Archive(self._cache, spec.arch)
        archive.update()
        debian = root.packages(archive)
        boot_packages = _boot_packages(archive, spec)
        self._step("packages", f"{len(debian) + len(boot_packages)} of Debian")
        python = wheels.fetch(archive, spec.arch, self._cache / "wheels")
        self._step("wheels", f"{len(python)} of Python")

        tree = work / "root"
        newest = root.unpack(tree, debian, python)
        built_at = self._built_at or newest
        root.furnish(tree, spec, built_at=built_at)
        root.compile_python(tree)
        self._step("root", f"unpacked, Python compiled; files of {built_at:%Y-%m-%d %H:%M:%SZ}")
        squash = work / "root.squashfs"
        root.squash(tree, squash, built_at=built_at)
        self._step("squashfs", _megabytes(squash))

        parts = self._boot_parts(boot_packages, tree, squash)
        boot = kernel.build(
            parts, stub=work / "boot" / "usr/lib/systemd/boot/efi" / spec.arch.stub, arch=spec.arch, work=work
        )
        if spec.signing:
            boot = kernel.sign(boot, spec.signing, work=work)
        self._step("boot file", f"{len(boot) / 1e6:.1f} MB, {'signed' if spec.signing else 'not signed'}")

        image = self._out / IMAGE
        disk.build(boot=boot, root=squash, spec=spec, built_at=built_at, work=work, out=image)
        disk.block_map(image, self._out / BLOCK_MAP)
        digest = _sha256(image)
        self._step("disk", f"{_megabytes(image)} with holes")

        (self._out / BOOT).write_bytes(boot)
        agent = installed_version("birthmark")
        bill = sbom.write(
            spec,
            (*debian, *boot_packages),
            python,
            agent_version=agent,
            agent_sha256=_tree_sha256(tree / root.SITE, ("birthmark_agent", "birthmark_wire")),
            image_sha256=digest,
            built_at=built_at,
        )
        (self._out / BILL).write_bytes(bill)
        (self._out / MANIFEST).write_bytes(self._manifest(parts, boot, built_at, agent))
        self._step("bill of materials", f"{len(debian) + len(boot_packages) + len(python)} packages")
        return digest

    def _boot_parts(self, packages: Sequence[Package], tree: Path, squash: Path) -> kernel.BootParts:
        boot = self._work / "boot"
        boot.mkdir()
        for package in packages:
            package.extract(boot)
        (modules,) = (boot / "lib/modules").iterdir()
        (vmlinuz,) = (boot / "boot").glob("vmlinuz-*")
        cmdline = (
            f"console={self._spec.arch.console} quiet panic=10 birthmark.slot=a "
            f"birthmark.root={_sha256(squash)}:{squash.stat().st_size}"
        )
        return kernel.BootParts(
            kernel=vmlinuz.read_bytes(),
            initramfs=initramfs.build(
                modules=modules,
                busybox=(tree / "bin/busybox").read_bytes(),
                init=(root.DEVICE_FILES / "initramfs-init").read_bytes(),
            ),
            cmdline=cmdline,
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


def _boot_packages(archive: Archive, spec: ImageSpec) -> tuple[Package, ...]:
    kernels = archive.depends(spec.arch.kernel, lambda name: name.startswith("linux-image-"))
    if not kernels:
        raise ImageFailed(f"{spec.arch.kernel} depends on no kernel")
    return archive.alone((kernels[0], "systemd-boot-efi"))


def _megabytes(file: Path) -> str:
    return f"{file.stat().st_size / 1e6:.1f} MB"


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _tree_sha256(folder: Path, names: Sequence[str]) -> str:
    """One hash over the source files below these folders: as sha256sum lists them, sorted by path."""
    files = sorted(
        path for name in names for path in (folder / name).rglob("*") if path.is_file() and path.suffix != ".pyc"
    )
    lines = "".join(f"{_sha256(path)}  {path.relative_to(folder)}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()
