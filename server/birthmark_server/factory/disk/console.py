"""A device's console: lines in, a few words out; all of it kept in a file.

An address is `unix:PATH` or `tcp:HOST:PORT`, a socket (a console server, an emulator), or a serial device, at 115200
baud. What comes is somebody's words: only lines with our marks are read as anything, and none is longer than a line.
"""

import os
import select
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from birthmark_server.factory.disk.errors import ConsoleGarbled, ConsoleGone, ConsoleSilent
from birthmark_wire.encoding import printable

BAUD: Final = 115_200
LONGEST_LINE: Final = 65_536
_MOST_BYTES: Final = 16 << 20
_TAIL: Final = 3
_RETRY_S: Final = 0.2


class Wire(Protocol):
    """A console's two directions. Non-blocking."""

    def fileno(self) -> int: ...

    def receive(self) -> bytes:
        """What came; empty at the end. Raise OSError."""

    def send(self, data: bytes) -> None: ...

    def close(self) -> None: ...


class Console:
    """An open console. Not thread-safe but for close(), which ends a wait."""

    def __init__(self, wire: Wire, log: Path, address: str) -> None:
        self._wire = wire
        self._address = address
        self._log = log.open("ab")
        self._waiting = b""
        self._bytes = 0
        self._last: list[str] = []
        self._wake, self._waker = socket.socketpair()

    @classmethod
    def open(cls, address: str, log: Path, *, patience: timedelta) -> Self:
        """Open it; try again for a while where it is not there yet. Raise ConsoleGone."""
        until = time.monotonic() + patience.total_seconds()
        while True:
            try:
                return cls(_wire(address), log, address)
            except (OSError, ValueError) as error:
                if time.monotonic() >= until:
                    raise ConsoleGone(f"console {address}: {error}") from error
            time.sleep(_RETRY_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def say(self, word: str) -> None:
        """Send one line."""
        try:
            self._wire.send(f"{word}\n".encode())
        except OSError as error:
            raise ConsoleGone(f"console {self._address}: {error.strerror}") from error

    def lines(self, limit: timedelta, wanted: str) -> Iterator[str]:
        """Yield line after line until the limit; then raise ConsoleSilent, saying what was wanted."""
        until = time.monotonic() + limit.total_seconds()
        while True:
            line, ended, self._waiting = self._waiting.partition(b"\n")
            if ended:
                yield self._noted(line)
                continue
            self._waiting = line
            left_s = until - time.monotonic()
            wake = self._wake.fileno()
            try:
                ready, _, _ = select.select([self._wire.fileno(), wake], [], [], max(left_s, 0))
            except (OSError, ValueError):  # closed a moment ago
                ready = [wake]
            if wake in ready:
                raise ConsoleGone(f"console {self._address}: let go of")
            if not ready:
                raise ConsoleSilent(
                    f"no {wanted} on {self._address} within {limit.total_seconds():g} s; {self._tail()}"
                )
            self._read()

    def _read(self) -> None:
        try:
            data = self._wire.receive()
        except OSError as error:
            raise ConsoleGone(f"console {self._address}: {error.strerror}") from error
        if not data:
            raise ConsoleGone(f"console {self._address} was closed; {self._tail()}")
        self._log.write(data)
        self._log.flush()
        self._bytes += len(data)
        self._waiting += data
        if self._bytes > _MOST_BYTES or len(self._waiting) > LONGEST_LINE:
            raise ConsoleGarbled(
                f"console {self._address}: {self._bytes:,} bytes, the last line {len(self._waiting):,}"
            )

    def _noted(self, line: bytes) -> str:
        text = line.decode("utf-8", "replace").rstrip("\r")
        if text.strip():
            self._last = [*self._last, printable(text.strip())[:160]][-_TAIL:]
        return text

    def _tail(self) -> str:
        return "it last said: " + " / ".join(self._last) if self._last else "it said nothing"

    def close(self) -> None:
        """Let go of it. May be called twice, and from another thread."""
        try:
            self._waker.send(b"\0")
        except OSError:
            return
        for end in (self._wire, self._log, self._waker, self._wake):
            end.close()


def _wire(address: str) -> Wire:
    kind, _, rest = address.partition(":")
    if kind == "unix":
        return _Socket(socket.AF_UNIX, rest)
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        return _Socket(socket.AF_INET6 if ":" in host else socket.AF_INET, (host.strip("[]"), int(port)))
    return _Serial(address)


class _Socket:
    def __init__(self, family: socket.AddressFamily, address: str | tuple[str, int]) -> None:
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.settimeout(5)
            self._socket.connect(address)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def receive(self) -> bytes:
        return self._socket.recv(65_536)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def close(self) -> None:
        self._socket.close()


class _Serial:
    def __init__(self, path: str) -> None:
        import serial  # pyserial comes with the extra `factory`

        self._port = serial.Serial(path, BAUD, timeout=0, write_timeout=5)

    def fileno(self) -> int:
        return int(self._port.fileno())

    def receive(self) -> bytes:
        return os.read(self.fileno(), 65_536)

    def send(self, data: bytes) -> None:
        self._port.write(data)

    def close(self) -> None:
        self._port.close()
