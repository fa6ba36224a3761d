"""Whole SMP messages over a socket or a serial port, with a limit of time for each; blocking.

An SMP message goes as lines of base64 with length and CRC-16 (Zephyr's "SMP over console"; the `smp` package has the
framing). A board may say other things in between, such as its boot log: whatever is no line of a message is passed
over. So is a message that answers an earlier request, which came too late: each is known by its sequence number.

    tcp:HOST:PORT    a terminal server, or an emulator's port
    unix:PATH        the same on this machine
    /dev/NAME        a serial port, taken for this process alone
"""

import os
import select
import socket
import struct
import termios
import time
from binascii import Error as BadBase64
from contextlib import suppress
from typing import Final

from smp.exceptions import SMPDecodeError
from smp.packet import CONTINUE_DELIMITER, START_DELIMITER, decode, encode

from birthmark_server.factory.serial_port import open_serial
from birthmark_server.factory.smp.errors import BadAddress, BoardSilent, CableGone

HEADER_BYTES: Final = 8
_SEQUENCE_AT: Final = 6
_AGAIN_S: Final = 0.05
_MOST_LINE_BYTES: Final = 4096


class Line:
    """One connection. Not thread-safe, but for interrupt()."""

    def __init__(self, descriptor: int, address: str) -> None:
        self._descriptor = descriptor
        self._interrupted = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._address = address
        self._unread = bytearray()

    @classmethod
    def open(cls, address: str, *, limit_s: float) -> "Line":
        """Connect, trying again for `limit_s` seconds: a board that was just plugged in takes a moment to appear, and
        a port that another process leaves, too. Raise BadAddress or CableGone."""
        until = time.monotonic() + limit_s
        while True:
            try:
                return cls(_open(address), address)
            except (OSError, termios.error) as error:
                if time.monotonic() > until:
                    raise CableGone(f"{address}: can't be opened: {error}") from None
                time.sleep(_AGAIN_S)

    def close(self) -> None:
        """Hang up. Fine to repeat."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            os.close(self._interrupted)
        self._descriptor = -1

    def interrupt(self) -> None:
        """Have whatever is waited for raise CableGone, at once and from now on. Any thread may; before close()."""
        os.eventfd_write(self._interrupted, 1)

    def ask(self, message: bytes, *, limit_s: float) -> bytes:
        """Send an SMP message, header and CBOR; return the answer to it. Raise CableGone, BoardSilent."""
        until = time.monotonic() + limit_s
        self._write(b"".join(encode(message)), until)
        while True:
            answer = self._read_message(until)
            if len(answer) >= HEADER_BYTES and answer[_SEQUENCE_AT] == message[_SEQUENCE_AT]:
                return answer

    def _read_message(self, until: float) -> bytes:
        """Return the next whole message with the right checksum."""
        line = self._read_line(until)
        while True:
            if (start := line.find(START_DELIMITER)) < 0:
                line = self._read_line(until)
                continue
            gathering = decode()
            next(gathering)
            try:
                gathering.send(line[start:])
                while (line := self._read_line(until)).startswith(CONTINUE_DELIMITER):
                    gathering.send(line)
            except StopIteration as done:
                return bytes(done.value)
            except (SMPDecodeError, BadBase64, struct.error):
                line = self._read_line(until)

    def _read_line(self, until: float) -> bytes:
        while (end := self._unread.find(b"\n")) < 0:
            if len(self._unread) > _MOST_LINE_BYTES:
                self._unread.clear()  # a board that shouts without end is silent as far as SMP goes
            self._wait(select.POLLIN, until)
            with suppress(BlockingIOError):
                data = self._read()
                if not data:
                    raise CableGone(f"{self._address}: the connection ended")
                self._unread += data
        line = bytes(self._unread[: end + 1])
        del self._unread[: end + 1]
        return line

    def _read(self) -> bytes:
        try:
            return os.read(self._descriptor, 65536)
        except BlockingIOError:
            raise
        except OSError as error:
            raise CableGone(f"{self._address}: {error.strerror}") from None

    def _write(self, data: bytes, until: float) -> None:
        left = memoryview(data)
        while left:
            self._wait(select.POLLOUT, until)
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise CableGone(f"{self._address}: {error.strerror}") from None

    def _wait(self, event: int, until: float) -> None:
        if self._descriptor < 0:
            raise CableGone(f"{self._address}: the connection is closed")
        poll = select.poll()
        poll.register(self._descriptor, event)
        poll.register(self._interrupted, select.POLLIN)
        left_s = until - time.monotonic()
        ready = poll.poll(left_s * 1000) if left_s > 0 else []
        if any(descriptor == self._interrupted for descriptor, _ in ready):
            raise CableGone(f"{self._address}: let go of")
        if not ready:
            raise BoardSilent(f"{self._address}: no answer in the time that it may take")


def _open(address: str) -> int:
    """Return a descriptor that does not block, or raise OSError or BadAddress."""
    kind, _, rest = address.partition(":")
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < 65536:
            raise BadAddress(f"want tcp:HOST:PORT, got {address!r}")
        connection = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    elif kind == "unix" and rest:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(rest)
        except OSError:
            connection.close()
            raise
    elif address.startswith("/"):
        return open_serial(address)
    else:
        raise BadAddress(f"want /dev/NAME, tcp:HOST:PORT or unix:PATH, got {address!r}")
    connection.setblocking(False)
    return connection.detach()
