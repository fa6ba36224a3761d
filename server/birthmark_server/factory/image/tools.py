"""Programs of this machine that build the parts: found before the work begins, run without a shell."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from birthmark_server.factory.image.errors import ImageFailed, NoRoom, ToolMissing

_SBIN = "/usr/sbin:/sbin"
"""Where Debian keeps mkfs.vfat and mke2fs: not on an ordinary user's PATH."""


def need(programs: Mapping[str, str]) -> None:
    """Raise ToolMissing, naming all that is missing. programs: name to Debian package."""
    missing = {name: package for name, package in programs.items() if _find(name) is None}
    if missing:
        names, packages = ", ".join(missing), " ".join(dict.fromkeys(missing.values()))
        raise ToolMissing(f"not on this machine: {names}; apt-get install {packages}")


def need_room(folder: Path, megabytes: int) -> None:
    """Raise NoRoom where `folder` has not that many MB free."""
    free = shutil.disk_usage(folder).free // 1_000_000
    if free < megabytes:
        raise NoRoom(f"{folder} has {free} MB free; the build needs {megabytes} MB there")


def run(
    command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: bytes = b""
) -> bytes:
    """Run a program to its end and return what it printed; raise ImageFailed with the end of what it said. env: on top
    of this process's. Each runs in the C locale and in UTC: neither may show in the image."""
    done = subprocess.run(
        [str(part) for part in command],
        input=stdin,
        capture_output=True,
        cwd=cwd,
        env=os.environ | {"PATH": _path(), "LC_ALL": "C.UTF-8", "TZ": "UTC"} | dict(env or {}),
        check=False,
    )
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip()
        if "No space left on device" in said:
            raise NoRoom(f"{Path(command[0]).name}: no space left on the disk: {said[-300:]}")
        raise ImageFailed(f"{Path(command[0]).name} ended with {done.returncode}: {said[-1500:]}")
    return done.stdout


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:{_SBIN}"


def _find(name: str) -> str | None:
    return shutil.which(name, path=_path())


@contextmanager
def readable_by_all() -> Iterator[None]:
    """Make files with mode 0644, whatever umask the builder has: the agent runs as a user of its own, and an image is
    the same wherever it is built. For a process that does nothing else meanwhile."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)
