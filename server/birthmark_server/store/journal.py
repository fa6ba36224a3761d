"""The journal: issuances, revocations, operators' acts, outside the database: a restored backup forgets none of them.

One file per replica, one JSON line per transaction (several for a long one, as a manifest's), appended and fsynced
*before* the transaction commits. Each line carries the SHA-256 of the line before it, so a lost or altered line is
noticed; it does not stop someone who may write the file from making a new chain (the audit log does). Keep it on
another disk than the database.

A line may tell of a transaction that then failed to commit. Nothing of it was released (the caller got an error), and
telling it again is harmless: docs/storage.md goes through each kind. A last line without its newline was cut off by a
crash before its fsync returned, so before its commit: it is ignored, reported, and overwritten by the next append.
"""

import fcntl
import hashlib
import heapq
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from birthmark_server.errors import Misconfigured
from birthmark_server.store.errors import JournalDamaged, StoreFailed
from birthmark_server.store.journal_entries import Entry, from_json, to_json

_log = logging.getLogger(__name__)

_START: Final = "0" * 64
"""What the first line of a file has as the hash of the line before it."""
_TAIL_BYTES: Final = 1 << 16
_MOST_PER_LINE: Final = 200
"""So many entries, that every start looks at the last line and not at a whole manifest."""
_JSON: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)


@dataclass(frozen=True, slots=True)
class JournalLine:
    """One transaction, or a part of a long one. number: 1 for the first line of the file."""

    number: int
    at: datetime
    entries: tuple[Entry, ...]


class Journal:
    """The open journal of this replica. Thread-safe, and safe beside other processes on the same file."""

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        """Open or create `path` (mode 0600, its folder fsynced). Raise Misconfigured if that cannot be."""
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._fd = _open(path)
        self._end = -1  # how far we know the file: another process may have appended since
        self._number = 0
        self._hash = _START
        with self._lock:
            self._locked(self._catch_up)

    def append(self, entries: Sequence[Entry]) -> None:
        """Write one transaction and wait until it is on the disk. Raise StoreFailed, the file then being as it was."""
        parts = [entries[start : start + _MOST_PER_LINE] for start in range(0, len(entries), _MOST_PER_LINE)]
        told = [_JSON.encode([to_json(entry) for entry in part]) for part in parts]
        with self._lock:
            if self._fd < 0:
                raise StoreFailed(f"the journal {self.path} is closed")
            try:
                self._locked(lambda: self._append(told))
            except OSError as error:
                raise StoreFailed(f"cannot write the journal {self.path}: {error.strerror or error}") from error

    def close(self) -> None:
        """Close the file. Appending afterwards raises StoreFailed."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _locked(self, work: Callable[[], None]) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            work()
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _append(self, told: Sequence[str]) -> None:
        self._catch_up()
        at, lines, last = self._clock().isoformat(), list[bytes](), self._hash
        for number, part in enumerate(told, self._number + 1):
            line = f'{{"n":{number},"prev":"{last}","at":"{at}","tx":{part}}}'.encode()
            lines += (line, b"\n")
            last = _digest(line)
        data = b"".join(lines)
        end, self._end = self._end, -1  # unknown until all has gone well
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], end + written)
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, end)
            raise
        self._end = end + len(data)
        self._number += len(told)
        self._hash = last

    def _catch_up(self) -> None:
        """Know the last line, whoever wrote it. Cheap when it was us: two stats."""
        here, there = os.fstat(self._fd), os.stat(self.path)  # noqa: PTH116  # one call, on the way of every issuance
        if (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev):
            raise OSError("the file was replaced while in use; restart to begin with the new one")
        size = here.st_size
        if size == self._end:
            return
        last, end = _last_line(self._fd, size)
        if end < size:
            _log.warning("journal %s: %d bytes of a line cut off by a crash are dropped", self.path, size - end)
            os.ftruncate(self._fd, end)
        self._number, self._hash = (0, _START) if last is None else (_parse(last, self.path)[0].number, _digest(last))
        self._end = end


def read_journal(path: Path) -> Iterator[JournalLine]:
    """Yield every line, in order, its hash chain checked. A torn last line is logged and left out.

    Raises JournalDamaged at the first line that is not what the chain says, Misconfigured if there is no such file.
    """
    expected, number = _START, 0
    with _reading(path) as file:
        for raw in file:
            if not raw.endswith(b"\n"):
                _log.warning("journal %s: line %d was cut off by a crash and is left out", path, number + 1)
                return
            line, previous = _parse(raw[:-1], path)
            if previous != expected or line.number != number + 1:
                raise JournalDamaged(f"{path}: line {number + 1} does not follow the line before it")
            yield line
            expected, number = _digest(raw[:-1]), number + 1


def last_lines(path: Path) -> list[JournalLine]:
    """A cheap look at the end: the lines that lie wholly in the last 64 KiB, one at least if there is any."""
    with _reading(path) as file:
        size = file.seek(0, os.SEEK_END)
        span = _TAIL_BYTES
        while True:
            file.seek(max(0, size - span))
            pieces = file.read().split(b"\n")
            whole = pieces[0 if span >= size else 1 : -1]
            if whole or span >= size:
                return [_parse(raw, path)[0] for raw in whole]
            span *= 2


def merged(paths: Iterable[Path]) -> Iterator[JournalLine]:
    """The journals of several replicas as one, by time. Their clocks need only be about right: see replay.py."""
    return heapq.merge(*(read_journal(path) for path in paths), key=lambda line: line.at)


def _open(path: Path) -> int:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Misconfigured(f"cannot open the journal {path}: {error.strerror}; its folder must exist") from error
    if os.fstat(fd).st_mode & 0o077:
        os.close(fd)
        raise Misconfigured(f"the journal {path} can be read or written by others: chmod 600 {path}")
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return fd


def _reading(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise Misconfigured(f"cannot read the journal {path}: {error.strerror}") from error


def _last_line(fd: int, size: int) -> tuple[bytes | None, int]:
    """Return the last whole line without its newline, or None, and where it ends."""
    span = _TAIL_BYTES
    while True:
        start = max(0, size - span)
        tail = os.pread(fd, size - start, start)
        end = tail.rfind(b"\n")
        begin = tail.rfind(b"\n", 0, max(end, 0))
        if end >= 0 and (begin >= 0 or start == 0):
            return tail[begin + 1 : end], start + end + 1
        if start == 0:
            return None, 0
        span *= 2


def _parse(raw: bytes, path: Path) -> tuple[JournalLine, str]:
    """Return the line and the hash that it says the line before it has."""
    try:
        told = json.loads(raw)
        entries = tuple(from_json(entry) for entry in told["tx"])
        line = JournalLine(int(told["n"]), datetime.fromisoformat(told["at"]), entries)
        return line, str(told["prev"])
    except (ValueError, KeyError, TypeError) as error:
        raise JournalDamaged(f"{path}: a line cannot be read: {error}") from error


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
