"""Ports that nobody takes between the moment a test chooses one and the moment its server listens there.

A port that the kernel chooses (bind to 0) is free when asked, but anybody may have it by the time it is used: another
test's server, or the near end of any connection. So these lie below the kernel's own range
(/proc/sys/net/ipv4/ip_local_port_range, 32768 and up), and each process takes them, round and round, from a slice that
is its own: test workers and several checkouts on one machine get along. A slice is held by the name of an abstract
Unix socket (unix(7)), which goes with the process, however that ends.
"""

import os
import socket
from itertools import cycle
from typing import Final

_FIRST: Final = 20_000
_END: Final = 32_000
_SLICE: Final = 200
"""Enough for what one process has open at once; a port comes round again after two hundred others."""


class NoPorts(RuntimeError):
    """Every slice is held, or every port of ours is in use."""


class _Slice:
    """The ports of this process. A child that was forked takes a slice of its own."""

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._ports = cycle(_claim())

    def next(self) -> int:
        """Return the next port that can be bound now."""
        for _ in range(_SLICE):
            port = next(self._ports)
            if _can_be_bound(port):
                return port
        raise NoPorts(f"all {_SLICE} ports of this process's slice are in use")

    @property
    def ours(self) -> bool:
        """Whether this process claimed it."""
        return self._owner == os.getpid()


_slice: _Slice | None = None


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free, and that no other process which asks here gets."""
    global _slice
    if _slice is None or not _slice.ours:
        _slice = _Slice()
    return _slice.next()


def _claim() -> range:
    for first in range(_FIRST, _END, _SLICE):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0birthmark-test-ports-{first}")
        except OSError:
            name.close()
            continue
        name.detach()  # held until the process ends
        return range(first, first + _SLICE)
    raise NoPorts(f"every slice of {_FIRST} to {_END} is held by a process that lives")


def _can_be_bound(port: int) -> bool:
    """As servers bind: SO_REUSEADDR, for what is left of a connection long closed does no harm."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
