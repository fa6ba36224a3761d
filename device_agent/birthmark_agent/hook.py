"""A person's own program at each rotation: run beside the agent, with a time limit, and without any say.

It gets a clean environment (below), no standard input, and the agent's user, folder and sandbox; what it prints goes to
the agent's log stream. How it ends is logged and shown by `status`, and changes nothing.
"""

import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from birthmark_agent import log
from birthmark_agent.errors import AgentError
from birthmark_agent.settings import HookSettings

_LOOK_EVERY_S: Final = 0.2
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class HookFailed(AgentError):
    """The program could not be started, ended with an error, or took too long."""

    code = "hook-failed"
    advice = "run it by hand as the agent's user, with the environment that docs/agent.md names"


class Hook:
    """One program, at most one at a time: a waitable.Waitable without files."""

    def __init__(self, settings: HookSettings) -> None:
        self._settings = settings
        self._process = 0
        self._end_s = 0.0
        self._next: dict[str, str] | None = None
        self.result = ""

    def rotated(self, *, device_id: str, old_serial: str, new_serial: str, identity: Path, state: Path) -> None:
        """Run it for a rotation. identity: the slot's file, key and chain in PEM.

        While one runs, the last one that was asked for waits.
        """
        if self._settings.command is None:
            return
        self._next = {
            "BIRTHMARK_EVENT": "rotated",
            "BIRTHMARK_DEVICE_ID": device_id,
            "BIRTHMARK_OLD_SERIAL": old_serial,
            "BIRTHMARK_NEW_SERIAL": new_serial,
            "BIRTHMARK_IDENTITY": str(identity),
            "BIRTHMARK_STATE": str(state),
            "PATH": _PATH,
            "LANG": "C.UTF-8",
        }
        self.step({})

    def interests(self) -> list[tuple[int, int]]:
        """See waitable.Waitable."""
        return []

    def wait_s(self) -> float:
        """See waitable.Waitable."""
        return _LOOK_EVERY_S if self._process or self._next else float("inf")

    def step(self, ready: Mapping[int, int]) -> None:
        """Look whether it has ended, end it when its time is over, start the one that waits."""
        del ready
        if self._process:
            self._look()
        if not self._process and self._next is not None:
            environment, self._next = self._next, None
            self._start(environment)

    def finish(self) -> None:
        """Wait for it, up to its time limit."""
        while self._process or self._next is not None:
            self.step({})
            time.sleep(0.02)

    def _start(self, environment: dict[str, str]) -> None:
        command = str(self._settings.command)
        no_input = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
        default = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE]
        try:
            self._process = os.posix_spawn(
                command, [command], environment, file_actions=no_input, setpgroup=0, setsigdef=default
            )
        except OSError as error:
            self._ended(HookFailed(f"{command}: {error.strerror}"))
            return
        self._end_s = time.monotonic() + self._settings.timeout_s
        log.info("hook-started", process=self._process, serial=environment["BIRTHMARK_NEW_SERIAL"])

    def _look(self) -> None:
        ended, status = os.waitpid(self._process, os.WNOHANG)
        if not ended and time.monotonic() >= self._end_s:
            with suppress(ProcessLookupError):
                os.killpg(self._process, signal.SIGKILL)  # all that it started, too
            os.waitpid(self._process, 0)
            self._ended(HookFailed(f"it did not end within {self._settings.timeout_s:g} s, and was killed"))
        elif ended:
            code = os.waitstatus_to_exitcode(status)
            self._ended(HookFailed(f"it ended with {code}") if code else None)

    def _ended(self, error: HookFailed | None) -> None:
        self._process = 0
        self.result = "" if error is None else str(error)
        if error is None:
            log.info("hook-ended")
        else:
            log.failed("hook-failed", error)
