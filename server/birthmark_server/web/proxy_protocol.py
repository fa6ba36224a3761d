"""The PROXY protocol, version 2: what a TCP load balancer says of a connection before the client's first byte.

A load balancer that passes TLS through is, for TCP, the peer of every connection; the client's address, by which limits
go, is only in this header. It is read from configured peers and from nobody else, and of those it is wanted: a
connection of theirs without one is closed, or all strangers would be one source. What a client sends in its own name
reaches the TLS layer as it is, and fails there.

Source: HAProxy, "The PROXY protocol, versions 1 & 2", section 2.2.
"""

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from birthmark_server.errors import Malformed

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
FIXED_BYTES: Final = 16
MOST_BYTES: Final = 2048
"""Of addresses and TLVs together: HAProxy sends a few dozen; 65,535 would be permitted."""

_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21
_LAYOUT: Final = {_TCP4: (socket.AF_INET, 4), _TCP6: (socket.AF_INET6, 16)}

Peer = tuple[Any, ...]
"""Address and port, as socket.getpeername() gives them."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """The header's first 16 bytes. length: of what follows them, in bytes."""

    command: int
    family: int
    length: int


def parse_fixed(data: bytes) -> Fixed:
    """Read 16 bytes. Raise Malformed."""
    if len(data) != FIXED_BYTES or not data.startswith(SIGNATURE):
        raise Malformed("want the signature of the PROXY protocol's version 2")
    command, family, length = struct.unpack("!BBH", data[len(SIGNATURE) :])
    if command not in (_LOCAL, _PROXY):
        raise Malformed(f"PROXY: want version 2 and LOCAL or PROXY, got {command:#04x}")
    if length > MOST_BYTES:
        raise Malformed(f"PROXY: want at most {MOST_BYTES} bytes, got {length}")
    return Fixed(command, family, length)


def parse_rest(fixed: Fixed, data: bytes) -> tuple[str, int] | None:
    """Read what follows; return the client's address and port, None for the front itself (a health check of its own).

    TLVs are not looked at. Raise Malformed, for a client that did not come by TCP too.
    """
    if len(data) != fixed.length:
        raise Malformed(f"PROXY: want {fixed.length} bytes, got {len(data)}")
    if fixed.command == _LOCAL:
        return None
    if fixed.family not in _LAYOUT:
        raise Malformed(f"PROXY: want TCP over IPv4 or IPv6, got {fixed.family:#04x}")
    family, size = _LAYOUT[fixed.family]
    if len(data) < 2 * size + 4:
        raise Malformed(f"PROXY: want {2 * size + 4} bytes of addresses, got {len(data)}")
    (port,) = struct.unpack_from("!H", data, 2 * size)
    return socket.inet_ntop(family, data[:size]), int(port)


class Fronts:
    """The load balancers that are believed. networks: addresses, or networks as 10.0.0.0/24; none: nobody is."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ipaddress.ip_network(each) for each in networks]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def believe(self, address: str) -> bool:
        """Return whether connections from this address begin with a header."""
        if not self._networks:
            return False
        parsed = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped  # a socket for both families shows IPv4 so
        return any(parsed in network for network in self._networks)


class HeaderReader:
    """Reads the header of one connection, and not one byte more. `then` is told of the client, or `failed` why not:
    exactly one of them, once; neither after `cancel`, which leaves the socket alone."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        loop: asyncio.AbstractEventLoop,
        timeout_s: float,
        then: Callable[["HeaderReader", socket.socket, Peer], None],
        failed: Callable[["HeaderReader", socket.socket, str], None],
    ) -> None:
        """sock: connected and non-blocking."""
        self.sock = sock
        self._loop = loop
        self._then = then
        self._failed = failed
        self._fixed: Fixed | None = None
        self._got = b""
        self._timer = loop.call_later(timeout_s, self._fail, "no PROXY header in time")
        loop.add_reader(sock.fileno(), self._read)

    def cancel(self) -> None:
        """Read no more."""
        self._timer.cancel()
        self._loop.remove_reader(self.sock.fileno())

    def _read(self) -> None:
        wanted = FIXED_BYTES if self._fixed is None else self._fixed.length
        try:
            data = self.sock.recv(wanted - len(self._got))
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._fail(error.strerror or str(error))
            return
        if not data:
            self._fail("")
            return
        self._got += data
        if len(self._got) == wanted:
            self._parse()

    def _parse(self) -> None:
        got, self._got = self._got, b""
        try:
            if self._fixed is None:
                self._fixed = parse_fixed(got)
                if self._fixed.length:
                    return
                got = b""
            client = parse_rest(self._fixed, got)
            peer = self.sock.getpeername() if client is None else client
        except Malformed as error:
            self._fail(str(error))
            return
        except OSError:  # a health check that has left already
            self._fail("")
            return
        self.cancel()
        self._then(self, self.sock, peer)

    def _fail(self, reason: str) -> None:
        self.cancel()
        self._failed(self, self.sock, reason)
