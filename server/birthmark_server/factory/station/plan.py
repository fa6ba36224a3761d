"""What is next for a unit, and which unit a device is. Pure: the record's knowledge in, a decision out.

An interrupted attempt goes on where it stood, but through IDENTIFY: the device says again who it is, so that
nothing goes on with another one. What failed begins anew; what was locked is never flashed.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from birthmark_server.factory.desk import ServerUnreachable
from birthmark_server.factory.station.errors import DuplicateDevice, InQuarantine, MadeAlready, WrongDevice
from birthmark_server.factory.station.known import Known, KnownUnit
from birthmark_server.factory.values import Outcome, Phase


class Last(StrEnum):
    """How the last attempt left a unit."""

    CUT = "cut"
    """A power cut or a person ended it."""
    WAITS = "waits"
    """All was well, and the server was out of reach."""
    BROKE = "broke"
    """It failed or erred."""
    PASSED = "passed"


_BEGIN: Final[Mapping[tuple[Phase | None, Last], Phase]] = MappingProxyType(
    {
        (None, Last.CUT): Phase.FLASH,
        (None, Last.WAITS): Phase.FLASH,
        (None, Last.BROKE): Phase.FLASH,
        (Phase.FLASH, Last.CUT): Phase.IDENTIFY,
        (Phase.FLASH, Last.WAITS): Phase.IDENTIFY,
        (Phase.FLASH, Last.BROKE): Phase.FLASH,
        (Phase.IDENTIFY, Last.CUT): Phase.IDENTIFY,
        (Phase.IDENTIFY, Last.WAITS): Phase.IDENTIFY,
        (Phase.IDENTIFY, Last.BROKE): Phase.FLASH,
        (Phase.ATTEST, Last.CUT): Phase.IDENTIFY,
        (Phase.ATTEST, Last.WAITS): Phase.IDENTIFY,
        (Phase.ATTEST, Last.BROKE): Phase.FLASH,
        (Phase.SELF_TEST, Last.CUT): Phase.LOCK,
        (Phase.SELF_TEST, Last.WAITS): Phase.LOCK,
        (Phase.SELF_TEST, Last.BROKE): Phase.FLASH,
        (Phase.LOCK, Last.CUT): Phase.LABEL,
        (Phase.LOCK, Last.WAITS): Phase.LABEL,
        (Phase.LOCK, Last.BROKE): Phase.LABEL,
        (Phase.LABEL, Last.CUT): Phase.LABEL,
        (Phase.LABEL, Last.WAITS): Phase.ATTEST,
        (Phase.LABEL, Last.BROKE): Phase.LABEL,
    }
)
"""By the last phase that passed and by how the attempt ended, the phase to begin with; what passed is not done again.

(LABEL, WAITS) is a device that left the station locked and labelled, to prove itself at its first boot: what is left
is to hear of it.
"""


def last_of(unit: KnownUnit) -> Last:
    """Return how its last attempt ended."""
    match unit.outcome:
        case Outcome.PASS:
            return Last.PASSED
        case None | Outcome.ABORTED:
            return Last.CUT
        case Outcome.ERROR if unit.code == ServerUnreachable.code:
            return Last.WAITS
        case _:
            return Last.BROKE


def begin_with(unit: KnownUnit | None, *, image_sha256: str, again: bool = False, must_start: bool = False) -> Phase:
    """Return the phase that the next attempt begins with. unit: None for a new one.

    again: where it passed, somebody wants it done again; raise MadeAlready otherwise. Another image than the one on it
    means flashing, unless it is locked. must_start: such a device is off, and is locked only after it was identified.
    """
    if unit is None:
        return Phase.FLASH
    last = last_of(unit)
    if last is Last.PASSED and again:
        return Phase.FLASH
    if last is Last.PASSED:
        raise MadeAlready(f"{unit.serial} passed; want --again {unit.serial} to do it again")
    phase = _BEGIN[unit.passed, last]
    if phase is Phase.LOCK and must_start:
        phase = Phase.IDENTIFY
    is_other = unit.image_sha256 != image_sha256 and not unit.locked
    return Phase.FLASH if is_other else phase


def waits_for_its_slot(unit: KnownUnit, *, tries: int, tried: int) -> bool:
    """Tell whether the slot goes on with the device that it has: it was cut off, or erred and has been tried fewer than
    `tries` times in this run. What failed, and what waits for the server, makes way."""
    match last_of(unit):
        case Last.CUT:
            return True
        case Last.BROKE:
            return unit.outcome is Outcome.ERROR and tried < tries
        case _:
            return False


@dataclass(frozen=True, slots=True)
class Stays:
    """The device is the unit that it was begun as."""


@dataclass(frozen=True, slots=True)
class IsOf:
    """The device is this unit of ours, begun before: go on with that one. It has the wrong record on it: flash it."""

    serial: str


@dataclass(frozen=True, slots=True)
class TakesNew:
    """The unit was begun with another device, which the server knows: this one needs a serial number of its own."""


@dataclass(frozen=True, slots=True)
class IsRefused:
    """It may not go on. ek_sha256, mac: what goes into quarantine; both empty where nothing does."""

    why: DuplicateDevice | InQuarantine | MadeAlready | WrongDevice
    ek_sha256: str = ""
    mac: str = ""


Whose = Stays | IsOf | TakesNew | IsRefused


def whose(
    known: Known, serial: str, *, ek_sha256: str, mac: str, again: bool = False, busy: Collection[str] = ()
) -> Whose:
    """Say which unit a device is that was begun as `serial`, by what it says of itself.

    again: `serial` is done again. busy: serial numbers in other slots at this moment. mac: empty where it has none.
    """
    if reason := known.bad_ek.get(ek_sha256) or (known.bad_mac.get(mac) if mac else None):
        return IsRefused(InQuarantine(f"the device with EK {ek_sha256} is in quarantine: {reason}"))
    twin = known.by_ek.get(ek_sha256)
    if twin == serial:
        return _same_mac(known.units[serial], ek_sha256, mac)
    if twin is not None:
        return _another(known.units[twin], ek_sha256, mac, busy)
    neighbour = known.by_mac.get(mac) if mac else None
    if neighbour is not None and neighbour != serial:
        message = f"its MAC {mac} is that of {neighbour}, its EK {ek_sha256} is not: want a MAC of its own"
        return IsRefused(DuplicateDevice(message), ek_sha256=ek_sha256)
    bound = known.units[serial].ek_sha256
    if not bound:
        return Stays()
    if again:
        message = f"want {serial}, whose EK is {bound}, got a device with EK {ek_sha256}"
        return IsRefused(WrongDevice(message))
    return TakesNew()


def _same_mac(unit: KnownUnit, ek_sha256: str, mac: str) -> Whose:
    if mac and unit.mac and mac != unit.mac:
        message = f"EK {ek_sha256} is that of {unit.serial}, whose MAC is {unit.mac}; this device's is {mac}"
        return IsRefused(DuplicateDevice(message), mac=mac)
    return Stays()


def _another(twin: KnownUnit, ek_sha256: str, mac: str, busy: Collection[str]) -> Whose:
    """A device whose EK is known as another unit's."""
    differs = bool(mac and twin.mac and mac != twin.mac)
    if differs or twin.serial in busy:
        where = "is in another slot" if twin.serial in busy else f"has MAC {twin.mac}; this device's is {mac}"
        message = f"EK {ek_sha256} is that of {twin.serial}, which {where}"
        return IsRefused(DuplicateDevice(message), mac=mac if differs else "")
    if last_of(twin) is Last.PASSED:
        return IsRefused(MadeAlready(f"this device is {twin.serial}, which passed"))
    if twin.locked:
        return IsRefused(MadeAlready(f"this device is {twin.serial}, which is locked and {_left(twin)}"))
    return IsOf(twin.serial)


def _left(unit: KnownUnit) -> str:
    return "awaits its birth" if unit.awaits_birth else "not labelled"
