"""Entries that wait for the server: signed, in the record, brought in order, each until the server has said yes or no.

An entry is in the record before it is brought, and what the server said is in the record after. A cut between the two
brings the same bytes again, and the same entry again changes nothing at the server: so nothing is lost, and nothing is
there twice.
"""

import threading
import time
from collections.abc import Callable
from typing import Final

from birthmark_server.factory.desk import FactoryRefused, ServerUnreachable
from birthmark_server.factory.station.errors import LineStopped
from birthmark_server.factory.station.events import EntryBrought, EntryRefused, EntryVoid
from birthmark_server.factory.station.known import EntryStanding, KnownUnit
from birthmark_server.factory.station.line import Line
from birthmark_server.factory.station.words import words

SHORTEST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0

STATION_CODES: Final = frozenset(
    {"not-your-door", "role-not-allowed", "unknown-station", "not-a-station"}
    | {"certificate-revoked", "certificate-unknown", "certificate-out-of-date", "certificate-misused"}
)
"""The server's codes for what is wrong with the station as it is now: every entry waits on, and the line stops."""
ENTRY_CODES: Final = frozenset(
    {"station-revoked", "untrusted-certificate", "certificate-expired", "certificate-not-yet-valid"}
    | {"entry-of-another", "entry-forged", "entry-out-of-time", "serial-not-given", "foreign-model"}
    | {"unknown-workorder", "workorder-closed"}
)
"""Its codes for what is wrong with one entry: by whom, when or for which work order it was signed. It is void, and
stops no other; the work order that is being made is stopped by one of its own."""


class Outbox:
    """Brings the entries of a line. Safe to use from all slots; one entry is under way at a time."""

    def __init__(self, line: Line, *, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._line = line
        self._clock_s = clock_s
        self._turn = threading.Lock()
        self._silent_until_s = float("-inf")
        self._wait_s = SHORTEST_WAIT_S

    @property
    def is_online(self) -> bool:
        """Whether the server answered when it was last asked."""
        return self._wait_s == SHORTEST_WAIT_S

    def bring(self, serial: str) -> str:
        """Bring the unit's entry, and before it all that are older; return its device id.

        Raise ServerUnreachable, at once while the server was found silent a moment ago; FactoryRefused where the server
        will not have it: the unit is in quarantine then; LineStopped where the server will not have the station, or
        this entry: none of this work order, then.
        """
        with self._turn:
            for unit in self._line.waiting():
                if unit.serial == serial:
                    break
                self._bring_older(unit)
            unit = self._line.unit(serial)
            if unit.entry is EntryStanding.BROUGHT:
                return unit.device_id
            try:
                return self._bring(unit)
            except FactoryRefused as refused:
                if refused.server_code in ENTRY_CODES:
                    raise LineStopped(f"{refused.server_code}: {refused}") from None
                raise

    def bring_all(self) -> int:
        """Bring whatever waits; return how many were brought. Raise ServerUnreachable, LineStopped."""
        brought = 0
        with self._turn:
            for unit in self._line.waiting():
                brought += self._bring_older(unit)
        return brought

    def _bring_older(self, unit: KnownUnit) -> bool:
        try:
            self._bring(unit)
        except FactoryRefused:
            return False  # it is on record, and stops no other
        return True

    def _bring(self, unit: KnownUnit) -> str:
        if self._clock_s() < self._silent_until_s:
            raise ServerUnreachable("the server did not answer a moment ago")
        try:
            device_id = self._line.desk.bring_entry(unit.jws.encode("ascii"))
        except ServerUnreachable:
            self._silent_until_s = self._clock_s() + self._wait_s
            self._wait_s = min(2 * self._wait_s, LONGEST_WAIT_S)
            raise
        except FactoryRefused as refused:
            if refused.server_code in STATION_CODES:
                raise LineStopped(f"{refused.server_code}: {refused}") from None
            event = EntryVoid if refused.server_code in ENTRY_CODES else EntryRefused
            self._line.append(event(unit.serial, refused.server_code, words(refused)))
            raise
        self._wait_s = SHORTEST_WAIT_S
        self._line.append(EntryBrought(unit.serial, device_id))
        return device_id
