"""The processes of the story, started and stopped by their ids, and the ports that they listen on."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

_STOP_TIMEOUT_S: Final = 5.0
_LOG_TAIL_BYTES: Final = 3000
_DIES_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL", "--")


class PartFailed(RuntimeError):
    """A process did not come up, or ended by itself. The message ends with its log."""


class Part:
    """One running process, its log in a file.

    In a session of its own, so that Ctrl-C reaches the story first; killed by the kernel when the story is (prctl(2),
    PR_SET_PDEATHSIG, which means the *thread* that started it: start it in the main one).
    """

    def __init__(
        self, name: str, argv: Sequence[str | Path], *, log: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log_path = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*_DIES_WITH_US, *(str(word) for word in argv)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float) -> None:
        """Return once `ready()`; raise PartFailed if the process ends first, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.running:
                raise PartFailed(self.obituary())
            if time.monotonic() > deadline:
                raise PartFailed(f"{self.name} is not ready after {timeout_s:g} s:\n{self.tail()}")
            time.sleep(0.02)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this very process."""
        self._process.send_signal(number)

    def stop(self) -> None:
        """Ask it to end, insist if it does not."""
        if self.running:
            self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def obituary(self) -> str:
        """Say how it ended, with the end of its log."""
        code = self._process.returncode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
        return f"{self.name} ended {how}:\n{self.tail()}"

    def tail(self) -> str:
        """Return the end of its log."""
        return self.log_path.read_text(errors="replace")[-_LOG_TAIL_BYTES:]


def stop_all(parts: Sequence[Part]) -> None:
    """Stop all of them together: ask each, then wait for each."""
    for part in parts:
        if part.running:
            part.signal(signal.SIGTERM)
    for part in parts:
        part.stop()


def listens(port: int) -> bool:
    """Return whether somebody listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
