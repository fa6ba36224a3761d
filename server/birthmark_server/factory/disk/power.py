"""A slot's power: the commands that switch it on and off.

power_on may end at once (a relay, a hub's port) or run for as long as the device does (an emulator): whatever of it
still runs is ended when the power goes off, with all that it started.
"""

import os
import shlex
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from birthmark_server.factory.disk.errors import PowerFailed

_AT_ONCE_S: Final = 0.3
_END_S: Final = 10.0
_COMMAND_S: Final = 60.0
_LOOK_S: Final = 0.05


class Power:
    """on, off: commands; empty where a person does it. log: where they write to. environment: added to ours."""

    def __init__(self, on: str, off: str, *, log: Path, environment: dict[str, str]) -> None:
        self._on, self._off = shlex.split(on), shlex.split(off)
        self._log = log
        self._environment = {**os.environ, **environment}
        self._running: subprocess.Popen[bytes] | None = None

    def on(self) -> None:
        """Switch on. Raise PowerFailed where the command says no at once."""
        if not self._on:
            return
        process = self._start(self._on)
        try:
            status = process.wait(_AT_ONCE_S)
        except subprocess.TimeoutExpired:
            self._running = process
            return
        if status != 0:
            raise PowerFailed(f"power_on ended with {status}: {self._tail()}")

    def off(self) -> None:
        """Switch off; never raises: the device may be off by itself."""
        if self._off:
            with suppress(PowerFailed):
                command = self._start(self._off)
                if not _ended(command, _COMMAND_S):
                    _end(command)
                command.wait()
        if self._running is not None:
            _end(self._running)
            self._running = None

    def wait_off(self, limit_s: float) -> bool:
        """Wait until what power_on started has ended by itself; True at once where that can't be seen."""
        if self._running is None:
            return True
        return _ended(self._running, limit_s)

    def _start(self, command: list[str]) -> "subprocess.Popen[bytes]":
        try:
            with self._log.open("ab") as log:
                return subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,
                    env=self._environment,
                )
        except OSError as error:
            raise PowerFailed(f"{command[0]}: {error.strerror}") from error

    def _tail(self) -> str:
        return self._log.read_text(errors="replace").strip()[-300:]


def _ended(process: "subprocess.Popen[bytes]", limit_s: float) -> bool:
    """Wait until it has ended; False after the limit. It stays a zombie: its number is nobody else's meanwhile."""
    until = time.monotonic() + limit_s
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > until:
            return False
        time.sleep(_LOOK_S)
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End it and what it started: politely, then those of its group that are left."""
    os.killpg(process.pid, signal.SIGTERM)
    _ended(process, _END_S)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
