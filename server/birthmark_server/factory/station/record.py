"""The record of a station: one line of JSON for each event, each with the hash of the line before; never changed.

    {"n":2,"at":"2026-11-28T05:00:00.000Z","prev":"SHA-256 of line 1, hex","kind":"attempt",...}

`prev` is over the whole line before, without its end of line; line 1 has 64 zeros. A line is on the disk before
`append` returns, and whoever acts on it acts after that. A power cut can leave half a line at the end: it is taken off
and a `repaired` line says so. Anything else that is not as it was written is refused, by the number of the line.

The chain shows any change within; it can't show that lines at the end are missing, or that the whole was written anew:
what the station signed (the entries) and what the server has can.
"""

import fcntl
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Final, Self

from birthmark_server.factory.station.errors import NotForTheRecord, RecordDamaged, RecordInUse, RecordNotWritten
from birthmark_server.factory.station.events import (
    Begun,
    Event,
    Repaired,
    event_members,
    read_event,
    read_moment,
    write_moment,
)
from birthmark_wire.encoding import read_json, write_json
from birthmark_wire.errors import DecodeError

RECORD_FILE: Final = "record.jsonl"
NO_LINE: Final = "0" * 64
_MOST_LINES: Final = 1 << 31
_LONGEST: Final = 1 << 17


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the record. number: from 1 on. sha256: what the next line's `prev` is."""

    number: int
    at: datetime
    event: Event
    sha256: str


def write_line(event: Event, *, number: int, at: datetime, prev: str) -> bytes:
    """Return a line with its end."""
    return write_json({"n": number, "at": write_moment(at), "prev": prev} | event_members(event)) + b"\n"


def read_line(data: bytes, *, number: int, prev: str) -> Line:
    """Read a line without its end, which must be the `number`th and follow `prev`; raise DecodeError."""
    message = read_json(data)
    message.integer("n", low=number, high=number)
    if (seen := message.text("prev")) != prev:
        raise DecodeError(f"want the hash of the line before, {prev}, got {seen[:80]}", field="prev")
    at = read_moment(message.text("at"), field="at")
    event = read_event(message)
    message.done()
    if (number == 1) is not isinstance(event, Begun):
        raise DecodeError("want a `begun` line first, and nowhere else", field="kind")
    line = Line(number, at, event, sha256(data).hexdigest())
    if write_line(event, number=number, at=at, prev=prev) != data + b"\n":
        raise DecodeError("want the one way to write this line")
    return line


def read_record(path: Path) -> Iterator[Line]:
    """Yield each line of a record, verified; raise RecordDamaged. Needs nothing but the file.

    Half a line at the end is passed over: a line is being written, or the power went.
    """
    with path.open("rb") as file:
        for line, _ in _lines(file, path):
            yield line


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[Line, int]]:
    """Yield each whole line and how many bytes it has."""
    number, prev = 1, NO_LINE
    while data := file.readline(_LONGEST):
        if not data.endswith(b"\n"):
            if len(data) == _LONGEST or file.read(1):
                raise RecordDamaged(f"{path}, line {number}: longer than {_LONGEST} bytes")
            return
        try:
            line = read_line(data[:-1], number=number, prev=prev)
        except DecodeError as error:
            raise RecordDamaged(f"{path}, line {number}: {error}") from None
        yield line, len(data)
        number, prev = number + 1, line.sha256


class Record:
    """The open record of one station: this process alone has it. Safe to use from several threads.

    told: called with each line that is read when it is opened, then with each that is appended, in order, one at a
    time.
    """

    def __init__(self, file: BinaryIO, path: Path, now: Callable[[], datetime], told: Callable[[Line], None]) -> None:
        self._file = file
        self._path = path
        self._now = now
        self._told = told
        self._turn = threading.RLock()
        self._size = 0
        self._number, self._prev = 0, NO_LINE
        self._broken = ""
        self.first_sha256 = NO_LINE
        """Of the first line: no two records have the same."""

    @classmethod
    def open(
        cls, path: Path, *, station: str, now: Callable[[], datetime], told: Callable[[Line], None] = lambda _: None
    ) -> Self:
        """Open the record, or begin one. Raise RecordDamaged, RecordInUse, or RecordNotWritten."""
        is_new = not path.exists()
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)
        record = cls(file, path, now, told)
        try:
            _lock(file, path)
            record._read()
            if is_new:
                _sync_folder(path.parent)
            if record._number == 0:
                record.append(Begun(station, secrets.token_hex(16)))
        except BaseException:
            file.close()
            raise
        return record

    def _read(self) -> None:
        with self._path.open("rb") as reader:
            for line, size in _lines(reader, self._path):
                self._size += size
                self._number, self._prev = line.number, line.sha256
                self.first_sha256 = line.sha256 if line.number == 1 else self.first_sha256
                self._told(line)
        torn = os.fstat(self._file.fileno()).st_size - self._size
        if torn:
            self._cut_back()
            if self._number:
                self.append(Repaired(torn))

    def append(self, event: Event) -> Line:
        """Write one line; when this returns, it survives a power cut. Raise RecordNotWritten if it is not there;
        NotForTheRecord, nothing being written, for what could not be read again."""
        with self._turn:
            if self._broken:
                raise RecordNotWritten(self._broken)
            at = self._now()
            data = write_line(event, number=self._number + 1, at=at, prev=self._prev)
            self._require_readable(data)
            try:
                self._write(data)
            except OSError as error:
                message = f"{self._path}: {error.strerror}; line {self._number + 1} was not written"
                self._give_up(message)
                raise RecordNotWritten(message) from error
            line = Line(self._number + 1, at.replace(microsecond=at.microsecond // 1000 * 1000), event, _hash(data))
            self._size += len(data)
            self._number, self._prev = line.number, line.sha256
            self.first_sha256 = line.sha256 if line.number == 1 else self.first_sha256
            self._told(line)
            return line

    def _require_readable(self, data: bytes) -> None:
        """What can't be read again would end the record: whoever said it, a device perhaps, is refused instead."""
        try:
            if len(data) >= _LONGEST:
                raise DecodeError(f"want at most {_LONGEST} bytes, got {len(data)}")
            read_line(data[:-1], number=self._number + 1, prev=self._prev)
        except DecodeError as error:
            raise NotForTheRecord(f"this can't be kept on record: {error}") from None

    def _write(self, data: bytes) -> None:
        at = self._size
        while data:
            written = os.pwrite(self._file.fileno(), data, at)
            data, at = data[written:], at + written
        os.fdatasync(self._file.fileno())

    def _give_up(self, message: str) -> None:
        """Take off what was half written. Where even that fails, nothing more is appended: after a failed sync nobody
        knows what the disk holds (fsync(2)), and the next to open the record finds out."""
        try:
            self._cut_back()
        except OSError:
            self._broken = message

    def _cut_back(self) -> None:
        os.ftruncate(self._file.fileno(), self._size)
        os.fdatasync(self._file.fileno())

    def close(self) -> None:
        """Let go of it."""
        with self._turn:
            self._broken = self._broken or f"{self._path} is closed"
            self._file.close()


def _hash(data: bytes) -> str:
    return sha256(data[:-1]).hexdigest()


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RecordInUse(f"{path} is in use: another `birthmark factory run` works with this station") from None


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
