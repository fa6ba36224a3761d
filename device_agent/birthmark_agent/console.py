"""What becomes of a device, on its console, for the station that reads it (birthmark_wire.factory.STATE_MARK).

    BIRTHMARK-STATE {"state": "operational", "device_id": ..., "serial_number": ...}    born, with a certificate to use
    BIRTHMARK-STATE {"state": "connected", "device_id": ..., "serial_number": ..., "broker": ...}
    BIRTHMARK-STATE {"state": "failed", "code": ..., "reason": ...}                      and it tries again

Each is one line, and none is said twice in a row.
"""

from collections.abc import Callable
from typing import Final

from birthmark_wire.encoding import printable, write_json
from birthmark_wire.factory import STATE_MARK


class Console:
    """write: is given each line, without its end."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._last = ""

    def say(self, state: str, **members: str) -> None:
        """Say one state. members: what there is to know about it; made printable."""
        told = {"state": state} | {name: printable(text) for name, text in members.items()}
        line = STATE_MARK + write_json(told).decode()
        if line != self._last:
            self._write(line)
            self._last = line


SILENT: Final = Console(lambda _line: None)
"""Where nobody reads."""
