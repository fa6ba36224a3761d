"""The agent's Python packages, by pip: as requirements/agent.lock has them, each by its hash.

All but one come as wheels for the device's processor. tpm2-pytss has none: it is compiled here, against the device's
own libtss2 headers and C library, without the FAPI, which the agent does not use and which would bring curl and LDAP.
"""

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from zipfile import ZipFile

from birthmark_server.factory.image.arch import Arch
from birthmark_server.factory.image.errors import ImageFailed, ToolMissing
from birthmark_server.factory.image.packages import Archive, Package
from birthmark_server.factory.image.tools import run

PYTHON: Final = "3.11"
COMPILED: Final = "tpm2-pytss"
_BUILD_ONLY: Final = ("pycparser",)
"""What cffi needs to compile, and nobody to run."""
_HEADERS: Final = ("libtss2-dev", "libc6", "libc6-dev", "linux-libc-dev", f"libpython{PYTHON}-dev")
_PIP: Final = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "-q")


@dataclass(frozen=True, slots=True)
class Wheel:
    """One Python package."""

    name: str
    version: str
    file: Path

    @property
    def sha256(self) -> str:
        """Of its file, hex."""
        return sha256(self.file.read_bytes()).hexdigest()

    def extract(self, into: Path) -> None:
        """Unpack it; what is in there is a folder for each import package, and its dist-info."""
        with ZipFile(self.file) as archive:
            archive.extractall(into)


def agent_lock() -> Path:
    """Return the list of the agent's packages; raise ImageFailed where this is no checkout."""
    agent = find_spec("birthmark_wire")
    source = Path(agent.origin or "").resolve().parents[2] if agent else Path()
    lock = source / "requirements" / "agent.lock"
    if not lock.is_file():
        raise ImageFailed(f"no {lock}: images are built from a checkout of Birthmark, which pins the agent's packages")
    return lock


def fetch(archive: Archive, arch: Arch, folder: Path) -> tuple[Wheel, ...]:
    """Return the agent's packages for `arch`, in the order of their names. folder: where they are kept, for the next
    build; another list, or other headers, mean another folder in there."""
    if find_spec("pip") is None:
        raise ToolMissing("Python's pip is not in this environment; python3 -m ensurepip")
    pins = _pins(agent_lock().read_text())
    headers = archive.alone((*_HEADERS, *archive.depends("libtss2-dev", tss2_library)))
    key = sha256("\n".join([*sorted(pins.values()), *(package.file.name for package in headers)]).encode())
    kept = folder / key.hexdigest()[:16]
    if not kept.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="new-") as work:
            made = Path(work) / "wheels"
            _download([pin for name, pin in pins.items() if name != COMPILED], arch, made)
            _compile(pins[COMPILED], headers, arch, Path(work), made)
            if not kept.is_dir():  # another build was quicker
                shutil.move(made, kept)
    return tuple(_read(file) for file in sorted(kept.glob("*.whl")))


def tss2_library(package: str) -> bool:
    """Tell whether the agent needs this package of libtss2: all but the FAPI and what talks to other TPMs."""
    return bool(re.fullmatch(r"libtss2-(esys-[\d.-]+|(mu|rc|sys|tctildr|tcti-device)\d+)", package))


def _pins(lock: str) -> dict[str, str]:
    """Read pip's requirements: name to its lines, version and hashes."""
    blocks = re.split(r"^(?=[a-z0-9])", lock, flags=re.MULTILINE)
    pins = {block.split("==")[0]: block for block in blocks if "==" in block}
    return {name: pin for name, pin in pins.items() if name not in _BUILD_ONLY}


def _download(pins: list[str], arch: Arch, into: Path) -> None:
    into.mkdir()
    lock = into.parent / "wheels.lock"
    lock.write_text("".join(pins))
    platforms = [part for platform in arch.wheels for part in ("--platform", platform)]
    target = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", PYTHON, *platforms]
    run([*_PIP, "download", "--no-deps", "--require-hashes", "-r", lock, "-d", into, *target])


def _compile(pin: str, headers: tuple[Package, ...], arch: Arch, work: Path, into: Path) -> None:
    sysroot = work / "sysroot"
    sysroot.mkdir()
    for package in headers:
        package.extract(sysroot)
    libraries = sysroot / "usr/lib" / arch.triplet / "pkgconfig"
    (libraries / "tss2-fapi.pc").unlink(missing_ok=True)
    compiler = work / "cc"
    compiler.write_text(
        f'#!/bin/sh\nexec {arch.compiler} --sysroot={sysroot} -ffile-prefix-map={work}=. "$@"\n', encoding="utf-8"
    )
    compiler.chmod(0o755)
    lock = work / "compiled.lock"
    lock.write_text(pin)
    environment = {
        "CC": str(compiler),
        "LDSHARED": f"{compiler} -shared",
        "CFLAGS": f"-g0 -I{sysroot}/usr/include/python{PYTHON} -I{sysroot}/usr/include",
        "PKG_CONFIG_LIBDIR": str(libraries),
        "PKG_CONFIG_SYSROOT_DIR": str(sysroot),
        "SOURCE_DATE_EPOCH": "315532800",  # 1980: the first that a zip file can name
        "TMPDIR": str(work),
    }
    source: list[str | Path] = ["--no-deps", "--no-binary", COMPILED, "--no-cache-dir", "--require-hashes", "-r", lock]
    run([*_PIP, "wheel", *source, "-w", into], env=environment)


def _read(file: Path) -> Wheel:
    name, version = file.name.split("-")[:2]
    return Wheel(name.replace("_", "-"), version, file)
