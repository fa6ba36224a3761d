"""Files that a CA folder is made of: written whole or not at all, never over another, private ones checked.

Every write goes to a temporary file beside its place, is synced, and appears under its name in one step, then the
folder is synced: after a power cut a file is there whole, or it is not there.
"""

import contextlib
import os
import tempfile
from pathlib import Path

from birthmark_server.ca.errors import CeremonyRefused, KeyUnusable


def write_new(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file that must not exist yet; raise CeremonyRefused if it does."""
    temporary = _write_beside(path, data, mode)
    try:
        os.link(temporary, path)  # unlike rename, fails if the name is taken
    except FileExistsError:
        raise CeremonyRefused(f"{path} is there already; nothing was overwritten") from None
    finally:
        temporary.unlink()
    _sync_folder(path.parent)


def replace(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file, in place of an older one where there is one."""
    temporary = _write_beside(path, data, mode)
    try:
        temporary.replace(path)
    except OSError:
        temporary.unlink()
        raise
    _sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make a folder for its owner only, where it is missing; refuse one that others may write to."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o022:
        raise CeremonyRefused(f"{path} may be written to by others: chmod go-w {path}")


def read_private(path: Path) -> bytes:
    """Read a secret; raise KeyUnusable if it is missing, or if anyone but its owner may read it.

    Its owner must be this process's user, or root.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o077:
                raise KeyUnusable(f"{path} may be read by others (mode {status.st_mode & 0o777:04o}): chmod 600 {path}")
            if status.st_uid not in (os.geteuid(), 0):
                raise KeyUnusable(f"{path} belongs to user {status.st_uid}, who could replace it")
            return file.read()
    except OSError as error:
        raise KeyUnusable(f"{path}: {error.strerror}") from None


def _write_beside(path: Path, data: bytes, mode: int) -> Path:
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
