"""`birthmark-smp-tcti ADDRESS`: the TPM of a microcontroller, for every program that speaks to a TPM by tpm2-tss.

    export TPM2TOOLS_TCTI="cmd:birthmark-smp-tcti /dev/ttyACM0"
    tpm2_getrandom 8 --hex

libtss2-tcti-cmd starts this program, writes whole TPM commands to its standard input and reads whole responses from its
standard output; each goes to the board by SMP group 64 (group.py) and comes back. It ends when its input does.

A board that is silent, locked or unplugged gets no response, and whoever asked waits for one: so a TPM's own words for
"failed" are said in its place, TPM_RC_FAILURE (0x101), and why on standard error, once, for the person. A command that
the board does not carry is TPM_RC_COMMAND_CODE (0x143), what a TPM says that has no such command.
"""

import os
import sys
from typing import Final

from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.smp.errors import BoardSilent, CableGone, CommandNotAllowed
from birthmark_server.factory.smp.group import MOST_TPM_BYTES, TPM_HEADER, Enrollment
from birthmark_server.factory.smp.line import Line

EX_USAGE: Final = 2
EX_PROTOCOL: Final = 76

_NO_SESSIONS: Final = 0x8001
_RC_FAILURE: Final = 0x101
_RC_COMMAND_CODE: Final = 0x143
_OPEN_LIMIT_S: Final = 20.0


class Tcti:
    """One board. After it was silent or gone nothing is asked of it again: a caller with many questions would wait the
    same time for each."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._line: Line | None = None
        self._failed = False

    def answer(self, command: bytes) -> bytes:
        """Return the response to one whole command, the TPM's or one that says why there is none."""
        if self._failed:
            return refusal(_RC_FAILURE)
        try:
            self._line = self._line or Line.open(self._address, limit_s=_OPEN_LIMIT_S)
            return Enrollment(self._line).tpm(command)
        except CommandNotAllowed:
            code = TPM_HEADER.unpack_from(command)[2]
            _say(f"TPM command {code:#x}: not on the board's list")
            return refusal(_RC_COMMAND_CODE)
        except FactoryError as error:
            self._failed = isinstance(error, BoardSilent | CableGone)
            _say(f"{error} ({error.code})")
            return refusal(_RC_FAILURE)

    def close(self) -> None:
        """Hang up."""
        if self._line is not None:
            self._line.close()


def refusal(code: int) -> bytes:
    """Return a TPM response that says no: its header is all of it."""
    return TPM_HEADER.pack(_NO_SESSIONS, TPM_HEADER.size, code)


def main() -> None:
    """Carry commands until standard input ends."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: birthmark-smp-tcti ADDRESS   (/dev/NAME, tcp:HOST:PORT or unix:PATH)", file=sys.stderr)
        sys.exit(EX_USAGE)
    tcti = Tcti(sys.argv[1])
    try:
        while (command := _read_command()) is not None:
            _write(tcti.answer(command))
    except ValueError as error:
        _say(str(error))
        sys.exit(EX_PROTOCOL)
    except (KeyboardInterrupt, BrokenPipeError):
        return
    finally:
        tcti.close()


def _read_command() -> bytes | None:
    """Return the next whole command; None at the end of the input. Raise ValueError for what is none."""
    header = _read(TPM_HEADER.size)
    if not header:
        return None
    if len(header) < TPM_HEADER.size:
        raise ValueError(f"the input ends within a command's header, after {header.hex()}")
    size = TPM_HEADER.unpack(header)[1]
    if not TPM_HEADER.size <= size <= MOST_TPM_BYTES:
        raise ValueError(f"want a command of {TPM_HEADER.size} to {MOST_TPM_BYTES} bytes, its header says {size}")
    body = _read(size - TPM_HEADER.size)
    if len(header) + len(body) < size:
        raise ValueError(f"the input ends within a command: {len(header) + len(body)} of {size} bytes")
    return header + body


def _read(count: int) -> bytes:
    """Read that many bytes, fewer only at the end."""
    data = b""
    while len(data) < count and (part := os.read(0, count - len(data))):
        data += part
    return data


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


def _say(text: str) -> None:
    print(f"birthmark-smp-tcti: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
