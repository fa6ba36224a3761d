"""What a station asks of the server, by its own certificate (docs/api.md). cli/station_desk.py is it over mutual TLS.

Every method raises ServerUnreachable where no answer came (the station then goes on alone), and what the server refuses
as FactoryRefused, with the server's own code and words.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Protocol

from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.values import SerialBlock, WorkOrder


class ServerUnreachable(FactoryError):
    """No answer came from the server."""

    code = "server-silent"
    next_step: ClassVar[str] = "Go on: the station records devices as awaiting birth, and brings them when it answers."


class FactoryRefused(FactoryError):
    """The server said no. server_code: its stable code."""

    code = "server-refused"
    fails = True
    next_step: ClassVar[str] = "Put the device aside: it is quarantined with the reason that the server gave."

    def __init__(self, message: str, *, server_code: str) -> None:
        super().__init__(message)
        self.server_code = server_code


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a device is, by the server's record. last_seen_at: its last word over the broker; None before the first."""

    device_id: str
    serial: str
    state: str
    last_seen_at: datetime | None
    idevid: bytes


class Desk(Protocol):
    """One station's server."""

    def workorder(self, name: str) -> WorkOrder: ...

    def take_serials(self, workorder: str, count: int, *, request: str) -> SerialBlock:
        """Take the next places of the work order for this station, fewer where fewer are left; at least one. request:
        a name of its own for each request (1 to 128 printable characters); the same one again, within a day, is given
        the same block: so none is lost with an answer that did not arrive."""

    def bring_entry(self, jws: bytes) -> str:
        """Bring a signed entry (entry.py): from now on the server expects that device. Return its device id. The same
        entry again changes nothing."""

    def device(self, serial: str) -> Standing | None:
        """Where the device of that serial number is; None while it was not born."""

    def close(self) -> None:
        """Hang up; nobody asks any more."""
