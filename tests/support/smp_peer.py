"""A board that misbehaves on purpose: an SMP server on a Unix socket whose every answer is the test's.

Real firmware does not answer with garbage, forget to answer, or hang up in the middle; this does, when told to. What a
good board does is shown with a real one (mcu_board.py).
"""

import secrets
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
from smp.packet import CONTINUE_DELIMITER, START_DELIMITER, decode, encode

Answer = Callable[["Question"], Any]
"""Returns the answer's CBOR map; bytes for the wire as they are; None for silence. Raises HangUp."""


class HangUp(Exception):
    """End the connection instead of an answer."""


@dataclass(frozen=True)
class Question:
    """One request."""

    operation: int
    group: int
    command: int
    sequence: int
    members: dict[str, Any]

    def frame(self, answer: Any, *, sequence: int | None = None) -> bytes:
        """An answer to it, as it goes over the wire. sequence: another than its own."""
        body = cbor2.dumps(answer)
        number = self.sequence if sequence is None else sequence
        head = bytes([self.operation | 1 | 8, 0]) + len(body).to_bytes(2, "big") + self.group.to_bytes(2, "big")
        return b"".join(encode(head + bytes([number, self.command]) + body))


@dataclass
class SmpPeer:
    """The server. asked: (group, command) of what it was asked."""

    path: Path
    answer: Answer
    asked: list[tuple[int, int]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What `smp:` takes."""
        return f"unix:{self.path}"

    def serve(self, listener: socket.socket) -> None:
        """Serve one client after the other until the listener is closed."""
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, client.makefile("rb") as lines, suppress(HangUp, OSError):
                    self._serve(client, lines)

    def _serve(self, client: socket.socket, lines: Any) -> None:
        for line in lines:
            if not line.startswith(START_DELIMITER):
                continue
            gathering = decode()
            next(gathering)
            try:
                gathering.send(line)
                while (more := lines.readline()).startswith(CONTINUE_DELIMITER):
                    gathering.send(more)
            except StopIteration as done:
                self._say(client, done.value)

    def _say(self, client: socket.socket, frame: bytes) -> None:
        group = int.from_bytes(frame[4:6], "big")
        question = Question(frame[0] & 7, group, frame[7], frame[6], cbor2.loads(frame[8:]))
        self.asked.append((group, question.command))
        answer = self.answer(question)
        if answer is not None:
            client.sendall(answer if isinstance(answer, bytes) else question.frame(answer))


@contextmanager
def peer(answer: Answer) -> Iterator[SmpPeer]:
    """Serve until the end of the with block."""
    folder = Path(tempfile.gettempdir()) / f"smp-{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    server = SmpPeer(folder / "board", answer)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(server.path))
    listener.listen(4)
    thread = threading.Thread(target=server.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(20)
        shutil.rmtree(folder, ignore_errors=True)
