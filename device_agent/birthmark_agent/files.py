"""Files that survive a power cut at any instruction: the whole old one or the whole new one, never a part.

Temporary file in the same folder, fsync, rename, fsync of the folder. Every step is a method of `Disk`, so that a test
can die before any of them, or lose what was not synced. Mode 0600 in a folder of 0700. Trusts the file system to keep
what it has synced, and rename to be atomic (POSIX); both hold on ext4, f2fs, ubifs and xfs.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

from birthmark_agent.errors import StorageFailed

_TEMPORARY: Final = ".new"


class Disk(Protocol):
    """One folder, and the system calls that a durable write is made of. All raise OSError."""

    def read(self, name: str) -> bytes:
        """Return a file's contents; raise FileNotFoundError."""

    def create(self, name: str, data: bytes) -> None:
        """Write a file, replacing one of that name. Not durable yet, and not atomic."""

    def sync(self, name: str) -> None:
        """Make a file's contents durable."""

    def rename(self, source: str, target: str) -> None:
        """Give a file another name, replacing what had it. Atomic, not durable yet."""

    def remove(self, name: str) -> None:
        """Remove a file; raise FileNotFoundError. Not durable yet."""

    def sync_folder(self) -> None:
        """Make names durable: what was renamed, created and removed."""


class PosixDisk:
    """A folder of the file system, made with mode 0700 if it is not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"{folder}: {error.strerror}") from error

    def read(self, name: str) -> bytes:
        """See Disk."""
        return (self._folder / name).read_bytes()

    def create(self, name: str, data: bytes) -> None:
        """See Disk."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._folder / name, flags, 0o600)
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        finally:
            os.close(descriptor)

    def sync(self, name: str) -> None:
        """See Disk."""
        self._sync(self._folder / name)

    def rename(self, source: str, target: str) -> None:
        """See Disk."""
        (self._folder / source).rename(self._folder / target)

    def remove(self, name: str) -> None:
        """See Disk."""
        (self._folder / name).unlink()

    def sync_folder(self) -> None:
        """See Disk."""
        self._sync(self._folder)

    @staticmethod
    def _sync(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Files:
    """Durable files over a disk. Names are the caller's own, never a peer's."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @classmethod
    def at(cls, folder: Path) -> "Files":
        """Return the files of a folder. Raise StorageFailed."""
        return cls(PosixDisk(folder))

    def read(self, name: str) -> bytes | None:
        """Return a file's contents, None where there is no such file. Raise StorageFailed."""
        try:
            return self._disk.read(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed("read", name, error) from error

    def write(self, name: str, data: bytes) -> None:
        """Make `data` the contents of `name`, durably. Raise StorageFailed: then the old contents stand, or, where
        only the very last step failed, the new ones; whole in either case.
        """
        temporary = name + _TEMPORARY
        try:
            self._disk.create(temporary, data)
            self._disk.sync(temporary)
            self._disk.rename(temporary, name)
            self._disk.sync_folder()
        except OSError as error:
            with suppress(OSError):
                self._disk.remove(temporary)  # a full disk has use for the space
            raise _failed("write", name, error) from error

    def remove(self, name: str) -> None:
        """Remove a file, durably; none of that name is fine. Raise StorageFailed."""
        try:
            self._disk.remove(name)
            self._disk.sync_folder()
        except FileNotFoundError:
            return
        except OSError as error:
            raise _failed("remove", name, error) from error


def _failed(verb: str, name: str, error: OSError) -> StorageFailed:
    return StorageFailed(f"can't {verb} {name}: {error.strerror or error}")
