"""What all images of one architecture share: everything but the options. Made once and kept in the cache.

Its key is a hash over the packages, the agent's files and the code that makes it: whatever changes, it is made anew.
One build at a time works in a cache (flock): apt's lists bear no two.
"""

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from birthmark_server.factory.image import initramfs, root, wheels
from birthmark_server.factory.image.arch import Arch
from birthmark_server.factory.image.errors import ImageFailed
from birthmark_server.factory.image.packages import Archive, Package
from birthmark_server.factory.image.wheels import Wheel

_STUBS: Final = "usr/lib/systemd/boot/efi"
_KEPT: Final = 4
"""Bases of one architecture that are kept; older ones are removed."""


@dataclass(frozen=True, slots=True)
class Base:
    """folder: has root/, kernel, initramfs and stub. newest: the time of the newest file in the packages."""

    folder: Path
    debian: tuple[Package, ...]
    python: tuple[Wheel, ...]
    agent_sha256: str
    newest: datetime

    @property
    def root(self) -> Path:
        """The tree, without what the options say."""
        return self.folder / "root"

    @property
    def stub(self) -> Path:
        """systemd's UEFI stub."""
        return self.folder / "stub"


def prepare(arch: Arch, kernel: str, cache: Path, step: Callable[[str, str], None]) -> Base:
    """Fetch packages and return the base, made or found. kernel: the package that depends on the newest one. step: is
    told what was done."""
    cache.mkdir(parents=True, exist_ok=True)
    with _alone(cache):
        archive = Archive(cache, arch)
        archive.update()
        debian, boot = root.packages(archive), _boot_packages(archive, kernel)
        step("packages", f"{len(debian) + len(boot)} of Debian")
        python = wheels.fetch(archive, arch, cache / "wheels")
        step("wheels", f"{len(python)} of Python")
        agent = _tree_sha256(root.agent_sources())
        folder = cache / "base" / _key(agent, (*debian, *boot), python)
        if folder.is_dir():
            step("base", "made before")
        else:
            _make(folder, debian, boot, python)
            step("base", "unpacked, Python compiled")
        folder.touch()
        newest = datetime.fromtimestamp(json.loads((folder / "newest").read_text()), UTC)
        return Base(folder, (*debian, *boot), python, agent, newest)


@contextmanager
def _alone(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _boot_packages(archive: Archive, kernel: str) -> tuple[Package, ...]:
    kernels = archive.depends(kernel, lambda name: name.startswith("linux-image-"))
    if not kernels:
        raise ImageFailed(f"{kernel} depends on no kernel")
    return archive.alone((kernels[0], "systemd-boot-efi"))


def _make(folder: Path, debian: Sequence[Package], boot: Sequence[Package], python: Sequence[Wheel]) -> None:
    folder.parent.mkdir(exist_ok=True)
    for old in sorted(folder.parent.iterdir(), key=lambda one: one.stat().st_mtime)[: -_KEPT + 1]:
        shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=folder.parent.parent, prefix="new-") as name:
        made = Path(name) / "base"
        made.mkdir()
        newest = root.unpack(made / "root", debian, python)
        root.furnish(made / "root")
        root.compile_python(made / "root")
        (made / "newest").write_text(json.dumps(newest))
        _boot_files(boot, Path(name) / "boot", made)
        made.rename(folder)


def _boot_files(packages: Sequence[Package], unpacked: Path, into: Path) -> None:
    unpacked.mkdir()
    for package in packages:
        package.extract(unpacked)
    (modules,) = (unpacked / "lib/modules").iterdir()
    (kernel,) = (unpacked / "boot").glob("vmlinuz-*")
    (stub,) = (unpacked / _STUBS).glob("linux*.efi.stub")
    shutil.copyfile(kernel, into / "kernel")
    shutil.copyfile(stub, into / "stub")
    archive = initramfs.build(
        modules=modules,
        busybox=(into / "root/bin/busybox").read_bytes(),
        init=(root.DEVICE_FILES / "initramfs-init").read_bytes(),
    )
    (into / "initramfs").write_bytes(archive)


def _key(agent: str, debian: Sequence[Package], python: Sequence[Wheel]) -> str:
    ours = _tree_sha256({str(file.name): file for file in Path(__file__).parent.rglob("*") if file.is_file()})
    names = [agent, ours, *(one.file.name for one in debian), *(one.sha256 for one in python)]
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:16]


def _tree_sha256(files: dict[str, Path]) -> str:
    """One hash over files, by their names: of what sha256sum would list."""
    named = ((name, path) for name, path in sorted(files.items()) if path.suffix != ".pyc")
    lines = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n" for name, path in named)
    return hashlib.sha256(lines.encode()).hexdigest()
