"""A TPM behind a microcontroller's UART: whole commands one way, whole responses the other.

    QEMU's UART2 -> Unix socket -> Bridge -> swtpm

A UART delivers bytes as they come, while swtpm takes whatever one read() gives it for a whole command. So the bridge
gathers a command by the size in its header (TPM 2.0 Library Part 1, "Command/Response Structure": tag, size, code), and
only then says it to the TPM. Each command has a connection of its own: swtpm serves one client at a time, and a test
has something to say to it too.

`answer` is what a test sets to have a TPM that is not itself: it gets the command and returns the response's bytes.
"""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

HEADER: Final = struct.Struct(">HII")
MOST: Final = 4096
"""The largest command and response of a TPM (TPM2_MAX_COMMAND_SIZE)."""

Answer = Callable[[bytes], bytes]


class Bridge:
    """Serves one board. path: of the Unix socket that QEMU's chardev connects to; tpm: swtpm's."""

    def __init__(self, path: Path, tpm: Path) -> None:
        self._tpm = tpm
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._board: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="tpm-uart", daemon=True)
        self.answer: Answer = self.ask_tpm
        self.commands: list[int] = []
        """The command codes that came by."""

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """End, whatever is going on."""
        for end in (self._listener, self._board):
            if end is not None:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self._thread.join(20)

    def ask_tpm(self, command: bytes) -> bytes:
        """Return the TPM's own response."""
        return ask_tpm(self._tpm, command)

    def _serve(self) -> None:
        with suppress(OSError, EOFError, ValueError):  # the board is switched off, or says what no TPM would take
            self._board, _ = self._listener.accept()
            while True:
                command = receive(self._board)
                self.commands.append(HEADER.unpack(command[: HEADER.size])[2])
                self._board.sendall(self.answer(command))


def ask_tpm(path: Path, command: bytes) -> bytes:
    """Say one whole command to the swtpm at `path` and return its whole response."""
    with socket.socket(socket.AF_UNIX) as tpm:
        tpm.connect(str(path))
        tpm.sendall(command)
        return receive(tpm)


def receive(connection: socket.socket) -> bytes:
    """Return one whole command or response. Raise EOFError at the stream's end, ValueError for an impossible size."""
    header = _exactly(connection, HEADER.size)
    _tag, size, _code = HEADER.unpack(header)
    if not HEADER.size <= size <= MOST:
        raise ValueError(f"want {HEADER.size} to {MOST} bytes, the header says {size}")
    return header + _exactly(connection, size - HEADER.size)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            raise EOFError(f"{len(data)} of {count} bytes, then the end")
        data += part
    return bytes(data)
