"""The few words that systemd wants to hear (sd_notify(3)), without libsystemd.

NOTIFY_SOCKET names a Unix datagram socket, `@` in front standing for the abstract name space. Without it all of this
does nothing, so the agent runs anywhere.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Says READY=1 once, and WATCHDOG=1 at half the period that WATCHDOG_USEC asks for."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        watched = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        period_us = int(environment.get("WATCHDOG_USEC") or 0) if watched else 0
        self._watchdog_s = period_us / 2_000_000
        self._next_ping = 0.0
        self._ready = False

    def ready(self) -> None:
        """Say READY=1, the first time only."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""
        self._send(f"STATUS={text}".replace("\n", " "))

    def stopping(self) -> None:
        """Say that an orderly stop has begun."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Say WATCHDOG=1 if it is time to. Call it from the loop that would hang."""
        if self._watchdog_s and time.monotonic() >= self._next_ping:
            self._next_ping = time.monotonic() + self._watchdog_s
            self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # A service manager that went away is no reason to stop.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock, suppress(OSError):
            sock.sendto(text.encode(), address)
