"""Debian packages for another machine, by apt, from this machine's own sources and with its own keys.

apt works here on a state of its own (lists, an empty list of installed packages, an archive of .deb files), for the
device's architecture: nothing is installed on this machine, and nobody needs to be root. Packages are unpacked and
their scripts are not run; what those would have done, root.py does. Signatures and hashes are apt's work.
"""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from birthmark_server.factory.image.arch import Arch
from birthmark_server.factory.image.errors import ImageFailed, NoPackages
from birthmark_server.factory.image.tools import run

LISTS_STAY_S: Final = 86_400.0
"""For so long the lists of packages are not asked for again: two builds of a day have the same packages."""
_URI: Final = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Package:
    """One package: its file, and what that says of itself."""

    name: str
    version: str
    architecture: str
    file: Path

    @property
    def sha256(self) -> str:
        """Of its file, hex."""
        return sha256(self.file.read_bytes()).hexdigest()

    def extract(self, into: Path, *, leave_out: Sequence[str] = ()) -> None:
        """Unpack it. leave_out: tar's patterns, as `./usr/share/doc/*`."""
        tar = run(["dpkg-deb", "--fsys-tarfile", self.file])
        excluded = [f"--exclude={pattern}" for pattern in leave_out]
        run(["tar", "-x", "-C", into, "--no-same-owner", "-p", *excluded], stdin=tar)


class Archive:
    """Packages for one architecture. folder: of lists and files, kept for the next build. etc: apt's settings."""

    def __init__(self, folder: Path, arch: Arch, *, etc: Path = Path("/etc/apt")) -> None:
        self._files = folder / "archives"
        self._lists = folder / "lists"
        self._etc = etc
        none = folder / "none"
        for made in (self._files / "partial", self._lists / "partial", none / "partial"):
            made.mkdir(parents=True, exist_ok=True)
        status = folder / "status"
        status.touch()
        settings = {
            "APT::Architecture": arch.debian,
            "APT::Architectures": arch.debian,
            "APT::Sandbox::User": "root",  # the folders are ours, not user _apt's
            "APT::Install-Recommends": "false",
            "Acquire::Languages": "none",
            "Acquire::Retries": "2",
            "Dir::Etc": str(etc),
            "Dir::State": str(folder),
            "Dir::State::Lists": str(self._lists),
            "Dir::State::Status": str(status),
            "Dir::Cache": str(folder),
            "Dir::Cache::Archives": str(self._files),
            "Dir::Cache::PkgCache": "pkgcache.bin",  # whatever this machine does without
            "Dir::Cache::SrcPkgCache": "srcpkgcache.bin",
        }
        self._options = [f"-o{name}={value}" for name, value in settings.items()]
        # apt names only files that it does not have.
        self._list = [f"-oDir::Cache::Archives={none}", "--print-uris"]

    def update(self) -> None:
        """Fetch the lists of packages, where they are older than a day; raise NoPackages where there are none."""
        stamp = self._lists.parent / "updated"
        if stamp.exists() and time.time() - stamp.stat().st_mtime < LISTS_STAY_S:
            return
        if not self._sources():
            raise NoPackages(f"{self._etc} names no apt sources; an image is made of a Debian mirror's packages")
        try:
            run(["apt-get", *self._options, "-q", "update"])
        except ImageFailed as error:
            raise NoPackages(f"apt reaches no source that {self._etc} names: {error}") from None
        stamp.touch()

    def _sources(self) -> bool:
        folder = self._etc / "sources.list.d"
        files = [self._etc / "sources.list", *folder.glob("*.list"), *folder.glob("*.sources")]
        lines = (line for file in files if file.is_file() for line in file.read_text().splitlines())
        return any(re.match(r"\s*(deb\s|URIs:)", line) for line in lines)

    def with_depends(self, names: Iterable[str]) -> tuple[Package, ...]:
        """Return these packages and all that they depend on, fetched, in the order of their names."""
        command = ["apt-get", *self._options, "-qq", "-y", "install", *names]
        listed = self._asked([*command, *self._list]).decode()
        self._asked([*command, "--download-only"])
        files = (self._files / match["file"] for match in _URI.finditer(listed))
        return tuple(sorted((_read(file) for file in files), key=lambda package: package.name))

    def alone(self, names: Iterable[str]) -> tuple[Package, ...]:
        """Return these packages, fetched, without what they depend on."""
        wanted = list(names)
        listed = self._asked(["apt-get", *self._options, "-qq", *self._list, "download", *wanted]).decode()
        found = [(match, self._files / match["file"]) for match in _URI.finditer(listed)]
        absent = [file for match, file in found if not file.exists() or file.stat().st_size != int(match["size"])]
        if absent:
            names = [file.name.split("_")[0] for file in absent]
            self._asked(["apt-get", *self._options, "-qq", "download", *names], cwd=self._files)
        return tuple(_read(file) for _, file in found)

    def depends(self, name: str, wanted: Callable[[str], bool]) -> tuple[str, ...]:
        """Return the names of what a package depends on that are `wanted`."""
        lines = self._asked(["apt-cache", *self._options, "depends", name]).decode().splitlines()
        names = (line.split()[-1] for line in lines if "Depends:" in line)
        return tuple(dict.fromkeys(one for one in names if wanted(one)))

    def _asked(self, command: Sequence[str], *, cwd: Path | None = None) -> bytes:
        try:
            return run(command, cwd=cwd)
        except ImageFailed as error:
            raise NoPackages(f"apt can't give what the image needs: {error}") from None


def _read(file: Path) -> Package:
    """Read a file's name, as apt keeps it: NAME_VERSION_ARCHITECTURE.deb."""
    name, version, architecture = unquote(file.stem).split("_")
    return Package(name, version, architecture, file)
