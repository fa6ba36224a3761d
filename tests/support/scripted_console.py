"""A device's console on a real Unix socket, whose device says what a test has it say.

    with ScriptedConsole(path, [kernel_words, Hears(GO), state("operational")]) as device:

Steps are done in order: bytes are sent, Hears waits for a line. Behind the last one the line stays open until the
station hangs up, unless the script ends with HANGS_UP.
"""

import json
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final

from birthmark_wire.factory import STATE_MARK


@dataclass(frozen=True)
class Hears:
    """Wait for this line."""

    line: str


HANGS_UP: Final = Hears("")
"""The end of a script: the device lets the line go."""

Step = bytes | Hears


def state(name: str, **members: str) -> bytes:
    """What a device says of itself."""
    return f"{STATE_MARK}{json.dumps({'state': name, **members})}\r\n".encode()


class ScriptedConsole:
    """heard: all lines that came from the station."""

    def __init__(self, path: Path, script: Sequence[Step]) -> None:
        self.address = f"unix:{path}"
        self.heard: list[str] = []
        self._script = script
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._listener.settimeout(60)
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "ScriptedConsole":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._thread.join()

    def _run(self) -> None:
        with self._listener, suppress(OSError):
            connection, _ = self._listener.accept()
            connection.settimeout(60)
            with connection, connection.makefile("rb") as lines:
                for step in self._script:
                    if isinstance(step, bytes):
                        connection.sendall(step)
                    elif step is HANGS_UP or not self._waits(lines, step.line):
                        return
                while self._waits(lines, None):
                    pass

    def _waits(self, lines: BinaryIO, wanted: str | None) -> bool:
        """Read until that line, or to the end."""
        while data := lines.readline():
            self.heard.append(data.decode().strip())
            if self.heard[-1] == wanted:
                return True
        return False
