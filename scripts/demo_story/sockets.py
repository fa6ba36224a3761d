"""When a device's connection to the broker was closed, by the kernel's word: its table of TCP sockets (proc(5)).

Asking is quick enough to do it every two milliseconds. What the agent or the broker make of it is not asked here.
"""

import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from demo_story.parts import PartFailed

_EVERY_S: Final = 0.002
_TABLE: Final = Path("/proc/net/tcp")
_ESTABLISHED: Final = "01"


class WatchedSocket:
    """The established connection of a process to a port of this machine. Raises PartFailed if it has not just one."""

    def __init__(self, pid: int, *, port: int) -> None:
        inodes = _inodes(pid)
        mine = [local for local, remote, inode in _established() if inode in inodes and remote == port]
        if len(mine) != 1:
            raise PartFailed(f"process {pid} has {len(mine)} connections to port {port}, want 1")
        self._pair = (mine[0], port)
        self.closed_at_s: float | None = None
        """By time.monotonic(); None while it is open."""
        self._closed = threading.Event()
        threading.Thread(target=self._watch, name="watched_socket", daemon=True).start()

    def wait_closed(self, timeout_s: float) -> float:
        """Return when it was closed, by time.monotonic(); raise PartFailed if it is still open."""
        self._closed.wait(timeout_s)
        if self.closed_at_s is None:
            raise PartFailed(f"the connection is still open after {timeout_s:g} s")
        return self.closed_at_s

    def _watch(self) -> None:
        while self._pair in {(local, remote) for local, remote, _ in _established()}:
            time.sleep(_EVERY_S)
        self.closed_at_s = time.monotonic()
        self._closed.set()


def _inodes(pid: int) -> set[str]:
    """Return the inode numbers of a process's sockets."""
    found = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed since then
            target = os.readlink(path)  # noqa: PTH115 - Path.readlink would make a path of `socket:[1234]`
            if target.startswith("socket:["):
                found.add(target[8:-1])
    return found


def _established() -> list[tuple[int, int, str]]:
    """Return local port, remote port and inode of each connection that is open at both ends."""
    rows = [line.split() for line in _TABLE.read_text().splitlines()[1:]]
    return [(_port(row[1]), _port(row[2]), row[9]) for row in rows if row[3] == _ESTABLISHED]


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)
