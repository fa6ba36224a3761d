"""`birthmark-agent` at the station, with a board's TPM for its own: the device's very code, in a process of its own.

Its settings, state and log lie in a folder for the unit. Its TPM is `cmd:` and birthmark-smp-tcti (tcti.py), so a board
must have no other connection while it works. What it had from the server stays in that folder, and is of no use without
the TPM; the birth certificate is in the TPM's NV too, with which the device gets its own at its first need.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from birthmark_server.factory.desk import ServerUnreachable
from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.smp import errors

_EX_UNAVAILABLE: Final = 69
_EX_TEMPFAIL: Final = 75
_EX_NOPERM: Final = 77
_STOP_S: Final = 20.0
_TAIL_CHARS: Final = 600
_TAIL_BYTES: Final = 65_536
_TCTI_SAID: Final = re.compile(r"^birthmark-smp-tcti: (.*) \(([a-z-]+)\)$", re.MULTILINE)
_BY_CODE: Final[dict[str, type[FactoryError]]] = {
    kind.code: kind
    for kind in (
        errors.CableGone,
        errors.BoardSilent,
        errors.BoardGarbled,
        errors.BoardLocked,
        errors.TpmFailed,
        errors.WrongFirmware,
        errors.DeviceRefused,
    )
}


@dataclass(frozen=True, slots=True)
class AgentServer:
    """The enrollment server as agents reach it. anchors: PEM of the root that devices trust. ek_template: of the model,
    for TPMs without EK certificates; empty otherwise."""

    url: str
    anchors: Path
    ek_template: str = ""


class BoardAgent:
    """The agent for one unit. Not thread-safe, but for stop(), after which nothing runs and nothing starts."""

    def __init__(self, folder: Path, *, address: str, server: AgentServer) -> None:
        self._folder = folder
        self._config = folder / "agent.toml"
        self.log: Final = folder / "agent.log"
        self._turn = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._settings = _settings(address, server)

    def ask(self, *arguments: str, limit: timedelta) -> str:
        """Run it to its end; return what it printed. Raise what went wrong, by its exit code and its own words."""
        self._set_up()
        began_at = self.log.stat().st_size if self.log.exists() else 0
        process = self._start(arguments, stdout=subprocess.PIPE)
        try:
            printed, _ = process.communicate(timeout=limit.total_seconds())
        except subprocess.TimeoutExpired:
            self._end(process)
            raise errors.AgentFailed(
                f"birthmark-agent {arguments[0]} did not end within {limit.total_seconds():g} s\n{self._tail(began_at)}"
            ) from None
        if process.returncode != 0:
            raise self._error(arguments[0], process.returncode, self._tail(began_at))
        return printed

    def begin(self, *arguments: str) -> None:
        """Start it, to run until end()."""
        self._set_up()
        self._start(arguments, stdout=subprocess.DEVNULL)

    def check_running(self) -> None:
        """Raise AgentFailed if what begin() started has ended."""
        assert self._process is not None
        if (code := self._process.poll()) is not None:
            raise self._error("run", code, self._tail(0))

    def end(self) -> None:
        """Stop in order what begin() started."""
        if self._process is not None:
            self._end(self._process)

    def stop(self) -> None:
        """Stop whatever runs, for good. Any thread may."""
        with self._turn:
            self._stopped = True
            process = self._process
        if process is not None:
            self._end(process)

    def status(self) -> dict[str, object]:
        """What it says of itself (`birthmark-agent status --json`): asks neither the TPM nor the network."""
        command = [*_command(self._config), "status", "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=_environment())
        answer: object = json.loads(done.stdout or "{}")
        return answer if isinstance(answer, dict) else {}

    def _set_up(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._config.write_text(self._settings)

    def _start(self, arguments: tuple[str, ...], *, stdout: int) -> "subprocess.Popen[str]":
        with self._turn, self.log.open("ab") as log:
            if self._stopped:
                raise errors.AgentFailed("the slot was let go of")
            self._process = subprocess.Popen(
                [*_command(self._config), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=log,
                text=True,
                env=_environment(),
            )
            return self._process

    def _end(self, process: "subprocess.Popen[str]") -> None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _error(self, verb: str, code: int, said: str) -> FactoryError:
        """Return what an exit code means here."""
        if found := _TCTI_SAID.findall(said):
            words, name = found[-1]
            return _BY_CODE.get(name, errors.TpmFailed)(words)
        words = f"birthmark-agent {verb} ended with {code}: {said}"
        if code == _EX_UNAVAILABLE:
            return errors.TpmFailed(words)
        if code == _EX_TEMPFAIL:
            return ServerUnreachable(words)
        if code == _EX_NOPERM:
            return errors.AttestationRefused(words)
        return errors.AgentFailed(words)

    def _tail(self, began_at: int) -> str:
        with self.log.open("rb") as log:
            log.seek(max(began_at, self.log.stat().st_size - _TAIL_BYTES))
            return log.read(_TAIL_BYTES).decode(errors="replace").strip()[-_TAIL_CHARS:]


def _command(config: Path) -> list[str]:
    return [sys.executable, "-m", "birthmark_agent", "--config", str(config)]


def _environment() -> dict[str, str]:
    return os.environ | {"TSS2_LOG": "all+NONE"}


def _settings(address: str, server: AgentServer) -> str:
    """Write agent.toml: quick to try again, for somebody stands beside it."""
    tcti = f"cmd:{shlex.quote(sys.executable)} -m birthmark_server.factory.smp.tcti {shlex.quote(address)}"
    return f"""\
[server]
url = {json.dumps(server.url)}
anchors = {json.dumps(str(server.anchors.resolve()))}
timeout_s = 30.0
[tpm]
tcti = {json.dumps(tcti)}
ek_template = {json.dumps(server.ek_template)}
[state]
folder = "state"
[retry]
first_s = 0.5
most_s = 5.0
floor_s = 0.1
"""
