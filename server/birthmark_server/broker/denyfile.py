"""The deny file: certificates and devices that the gate refuses whatever else they show.

    birthmark-deny 2 VERSION ISSUED UNTIL
    device ID
    serial HEX
    end COUNT
    signer BASE64
    signature BASE64

One entry a line, in strictly ascending byte order; HEX is lower case without leading zeros; the last two lines are
signing.py's. A file that was cut short or changed, or is not ours, is not read: the gate then keeps the list that it
has (server/mosquitto_gate/denylist.h reads the same format). ISSUED and UNTIL, seconds since 1970, are the list's
lease: after it the gate lets nobody in, since a broker that hears nothing can't know who was revoked meanwhile.

Rules: a change is on the disk before the call returns, and it is there whole: temporary file, fsync, rename, fsync of
the folder. Writers take turns by a lock beside the file, so two server processes lose none of each other's entries.
VERSION rises with every write, and every write begins a new lease. The gate takes no file that is older than the list
in force, and reports the version of that list: so a writer knows that it was read. A list that is written anew, when
nobody can say what the gate saw last, gets the Unix time in milliseconds: far above all that was counted up to then.
"""

import fcntl
import logging
import os
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

from birthmark_server.broker.errors import DenyFileMalformed
from birthmark_server.broker.signing import DenySigner

LEASE_MOST_S: Final = 7 * 86_400
"""The longest lease that the gate takes (server/mosquitto_gate/denylist.h)."""

RENEWALS_PER_LEASE: Final = 3
"""Two may fail before a lease runs out."""

_NUMBER: Final = "(0|[1-9][0-9]{0,17})"
_HEADER: Final = re.compile(rf"birthmark-deny 2 {_NUMBER} {_NUMBER} {_NUMBER}", re.ASCII)
_HEADER_BYTES: Final = 80
_END: Final = re.compile(f"end {_NUMBER}", re.ASCII)
_ENTRY: Final = r"(?:device [a-z0-9-]{1,64}|serial [1-9a-f][0-9a-f]{0,39})"
_ONE_ENTRY: Final = re.compile(_ENTRY, re.ASCII)
_ENTRIES: Final = re.compile(rf"(?:{_ENTRY}\n)*", re.ASCII)
_MODE: Final = 0o644  # no secret, and the broker runs as another user
_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Denials:
    """Who is to be denied. devices: by id. serials: of certificates, lower-case hex without leading zeros."""

    devices: Collection[str] = ()
    serials: Collection[str] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """For how long a list may be believed to be the newest, in seconds since 1970."""

    issued_s: int
    until_s: int


@dataclass(frozen=True, slots=True)
class DenyList:
    """What one version of the file says. entries: its lines between first and last, checked, ascending, each once.

    lease: as it stands in the file; two lists are equal if they deny the same.
    """

    version: int
    entries: tuple[str, ...] = ()
    lease: Lease = field(default=Lease(0, 1), compare=False)

    @classmethod
    def of(cls, version: int, *, devices: Collection[str] = (), serials: Collection[str] = ()) -> Self:
        """Make a list. serials: of certificates, lower-case hex without leading zeros.

        Raises DenyFileMalformed for a value that the gate would not take.
        """
        return cls(version, tuple(sorted(_entries(devices, serials))))

    def with_more(self, *, devices: Collection[str] = (), serials: Collection[str] = ()) -> Self:
        """Return the next version with these as well, or this very list where it has them all. Raises as of()."""
        new = [entry for entry in _entries(devices, serials) if not self._has(entry)]
        # Sorting two ascending runs takes one pass: a long list grows by one entry in no time.
        return (
            replace(self, version=self.version + 1, entries=tuple(sorted([*self.entries, *sorted(new)])))
            if new
            else self
        )

    def _has(self, entry: str) -> bool:
        at = bisect_left(self.entries, entry)
        return at < len(self.entries) and self.entries[at] == entry

    @property
    def devices(self) -> frozenset[str]:
        """The ids of the devices in it."""
        return frozenset(entry[7:] for entry in self.entries if entry.startswith("device "))

    @property
    def serials(self) -> frozenset[str]:
        """The serial numbers in it."""
        return frozenset(entry[7:] for entry in self.entries if entry.startswith("serial "))


def _entries(devices: Collection[str], serials: Collection[str]) -> set[str]:
    entries = {*(f"device {one}" for one in devices), *(f"serial {one}" for one in serials)}
    for entry in entries:
        if not _ONE_ENTRY.fullmatch(entry):
            raise DenyFileMalformed(f"want a device id or a serial number in lower-case hex, got {entry[:80]!r}")
    return entries


def encode(denied: DenyList) -> bytes:
    """Return the text for `denied`, to be signed."""
    first = f"birthmark-deny 2 {denied.version} {denied.lease.issued_s} {denied.lease.until_s}"
    lines = (first, *denied.entries, f"end {len(denied.entries)}", "")
    return "\n".join(lines).encode("ascii")


def decode(data: bytes) -> DenyList:
    """Read a text that was signed. Raises DenyFileMalformed for whatever the gate would refuse."""
    try:
        text = data.decode("ascii")
        first, *entries, last, rest = text.split("\n")
    except ValueError:
        raise DenyFileMalformed("want at least a first and a last line of ASCII") from None
    header, end = _HEADER.fullmatch(first), _END.fullmatch(last)
    if header is None:
        raise DenyFileMalformed(f"want 'birthmark-deny 2 VERSION ISSUED UNTIL' first, got {first[:80]!r}")
    lease = Lease(int(header[2]), int(header[3]))
    if not 0 < lease.until_s - lease.issued_s <= LEASE_MOST_S:
        raise DenyFileMalformed(f"want a lease of 1 to {LEASE_MOST_S} s, got {first[:80]!r}")
    if end is None or rest or int(end[1]) != len(entries):
        raise DenyFileMalformed(f"cut short: want 'end {len(entries)}' last, got {last[:80]!r}")
    if not _ENTRIES.fullmatch(text, len(first) + 1, len(text) - len(last) - 1):
        raise DenyFileMalformed("want only lines 'device ID' and 'serial HEX'")
    if any(a >= b for a, b in pairwise(entries)):
        raise DenyFileMalformed("want the entries in strictly ascending order")
    return DenyList(int(header[1]), tuple(entries), lease)


class DenyFile:
    """The deny file at `path`. lease_s: of each list that is written. clock: Unix time in seconds.

    copies: where each list is put as well, for the gates of other brokers. One that can't be written is logged, and
    fails nothing: keep_copies() makes it good, and until then that gate's lease runs out.

    Errors of every method: OSError, DenyFileMalformed (also for a file that none of our signers signed).
    """

    def __init__(
        self,
        path: Path,
        *,
        signer: DenySigner,
        lease_s: int = 900,
        clock: Callable[[], float] = time.time,
        copies: Sequence[Path] = (),
    ) -> None:
        self.path = path
        self._copies = tuple(copies)
        self.signer = signer
        self._lease_s = lease_s
        self._clock = clock
        self._said: set[Path] = set()

    def read(self) -> DenyList:
        """Return the list on disk."""
        return decode(self.signer.open(self.path.read_bytes()))

    def renewal_due(self) -> bool:
        """Return whether a third of the lease is over, by the file's first line; also where the clock was set back
        behind its beginning, or another lease is wanted. Cheap, and believes that line: renew() does not."""
        _, issued_s, until_s = self._first_line()
        return self._due(Lease(issued_s, until_s))

    def version(self) -> int:
        """Return the list's version, by the file's first line. Cheap, and believes it."""
        return self._first_line()[0]

    def _first_line(self) -> tuple[int, int, int]:
        with self.path.open("rb") as file:
            first = file.readline(_HEADER_BYTES).decode("ascii", "replace").rstrip("\n")
        header = _HEADER.fullmatch(first)
        if header is None:
            raise DenyFileMalformed(f"want 'birthmark-deny 2 VERSION ISSUED UNTIL' first, got {first!r}")
        return int(header[1]), int(header[2]), int(header[3])

    def renew(self) -> DenyList:
        """Write the list once more, with a new lease, where that is due; return what is on disk."""
        with self._lock():
            old = self.read()
            return self._write(replace(old, version=old.version + 1)) if self._due(old.lease) else old

    def _due(self, lease: Lease) -> bool:
        if lease.until_s - lease.issued_s != self._lease_s:
            return True
        return not lease.issued_s <= self._clock() < lease.issued_s + self._lease_s / RENEWALS_PER_LEASE

    def create(self) -> DenyList:
        """Return the list on disk; write an empty one where there is no file yet."""
        with self._lock():
            if self.path.exists():
                return self.read()
            return self._write(DenyList(version=1))

    def add(self, *, devices: Collection[str] = (), serials: Collection[str] = ()) -> DenyList:
        """Deny these as well; return the list that is now on disk. What is denied already changes nothing."""
        with self._lock():
            old = self.read()
            new = old.with_more(devices=devices, serials=serials)
            return old if new is old else self._write(new)

    def replace(self, read_denials: Callable[[], Denials]) -> DenyList:
        """Make the list exactly what `read_denials` returns, as the database has it; return what is now on disk.

        read_denials: called under the lock. Whoever revokes writes to the database first and then adds here: it is
        either in what is read, or it is added to what was written. Never lost in between.

        A file that is missing, damaged or older than the gate's list is replaced too: the new version is above all
        that were ever written, as long as this machine's clock is right. An entry leaves the list only this way: when
        its certificate has expired, or its device was let in again.
        """
        with self._lock():
            try:
                last = self.read().version
            except (OSError, DenyFileMalformed):
                last = 0
            wanted = read_denials()
            version = max(last + 1, int(self._clock() * 1000))
            return self._write(DenyList.of(version, devices=wanted.devices, serials=wanted.serials))

    @property
    def copies(self) -> tuple[Path, ...]:
        """Where each list is put as well."""
        return self._copies

    def keep_copies(self) -> None:
        """Put the list where a copy of it is missing or differs, by its first line."""
        wanted = _first_line(self.path)
        if any(_first_line(copy) != wanted for copy in self._copies):
            with self._lock():
                data = self.path.read_bytes()
                self._copy(data, [copy for copy in self._copies if _first_line(copy) != data.partition(b"\n")[0]])

    def _copy(self, data: bytes, copies: Sequence[Path]) -> None:
        for copy in copies:
            try:
                write_durably(copy, data, mode=_MODE)
            except OSError as error:
                if copy not in self._said:
                    _log.error("deny list not copied", extra={"fields": {"to": str(copy), "reason": error.strerror}})
                self._said.add(copy)
            else:
                self._said.discard(copy)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with self.path.with_name(self.path.name + ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, denied: DenyList) -> DenyList:
        issued_s = int(self._clock())
        leased = replace(denied, lease=Lease(issued_s, issued_s + self._lease_s))
        data = self.signer.sign(encode(leased))
        write_durably(self.path, data, mode=_MODE)
        self._copy(data, self._copies)
        return leased


def _first_line(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.readline(_HEADER_BYTES).rstrip(b"\n")
    except OSError:
        return b""


def write_durably(path: Path, data: bytes, *, mode: int) -> None:
    """Put `data` at `path`, whole or not at all, and on the disk when this returns.

    Two writers of one path must not meet: the temporary file's name is fixed, so that a crash leaves at most one.
    """
    temporary = path.with_name(path.name + ".new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
