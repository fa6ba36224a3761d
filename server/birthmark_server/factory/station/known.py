"""What the line knows: derived from the record's lines, one after another, and from nothing else.

So a restart knows what the last line knew, and a report made from the record agrees with the station.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import StrEnum

from birthmark_server.factory.desk import ServerUnreachable
from birthmark_server.factory.station.events import (
    AttemptBegun,
    AttemptEnded,
    BlockTaken,
    EntryBrought,
    EntryRefused,
    EntrySigned,
    EntryVoid,
    Moved,
    OrderLearned,
    PhaseEnded,
    Quarantined,
    UnitBorn,
)
from birthmark_server.factory.station.record import Line
from birthmark_server.factory.values import Outcome, Phase


class EntryStanding(StrEnum):
    """Where a unit's signed entry is."""

    NONE = "none"
    WAITING = "waiting"
    """Signed; the server has not heard of it."""
    BROUGHT = "brought"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class KnownUnit:
    """What the record says of one serial number.

    attempts: how many have begun. stumbles: those that failed or erred; a server out of reach is no stumble. slot,
    outcome, code: of the last; outcome None while it runs, or was cut off. passed: the last phase that passed without a
    break, across interruptions; None where it is to begin anew. image_sha256: what is on the device. quarantine: the
    reason; empty where it is not in quarantine. is_free: the serial number may be given to another device.
    """

    serial: str
    workorder: str
    model: str
    attempts: int = 0
    stumbles: int = 0
    slot: int = 0
    outcome: Outcome | None = None
    code: str = ""
    passed: Phase | None = None
    image_sha256: str = ""
    ek_sha256: str = ""
    mac: str = ""
    entry: EntryStanding = EntryStanding.NONE
    jws: str = ""
    device_id: str = ""
    certificate: bytes = b""
    locked: bool = False
    labelled: bool = False
    quarantine: str = ""
    is_free: bool = False

    @property
    def is_made(self) -> bool:
        """Whether it passed all of it."""
        return self.outcome is Outcome.PASS and not self.quarantine

    @property
    def awaits_birth(self) -> bool:
        """Whether its entry is signed and it has not proven itself yet."""
        return self.entry in (EntryStanding.WAITING, EntryStanding.BROUGHT) and not self.certificate


@dataclass(slots=True)
class Known:
    """All of it. Give each line to `take`, in order. Not safe to use from several threads: its owner sees to that.

    freed: serial numbers that wait for another device. by_ek, by_mac: the serial number of the unit whose EK or MAC it
    is. bad_ek, bad_mac: in quarantine, with the reason. waiting: serial numbers whose entries wait to be brought,
    oldest first. unfinished: those that were begun and neither passed nor failed nor are free again. rejected:
    by work order, devices that failed while nobody knew them: their serial numbers are free.
    """

    units: dict[str, KnownUnit] = field(default_factory=dict)
    orders: dict[str, OrderLearned] = field(default_factory=dict)
    blocks: list[BlockTaken] = field(default_factory=list)
    freed: dict[str, None] = field(default_factory=dict)
    by_ek: dict[str, str] = field(default_factory=dict)
    by_mac: dict[str, str] = field(default_factory=dict)
    bad_ek: dict[str, str] = field(default_factory=dict)
    bad_mac: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, None] = field(default_factory=dict)
    unfinished: dict[str, None] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, lines: Iterable[Line]) -> "Known":
        """Return what these lines come to."""
        known = cls()
        for line in lines:
            known.take(line)
        return known

    def take(self, line: Line) -> None:
        """Learn one more line."""
        match line.event:
            case OrderLearned() as order:
                self.orders[order.workorder] = order
            case BlockTaken() as block:
                self.blocks.append(block)
            case AttemptBegun() as begun:
                self._begin(begun)
            case PhaseEnded(serial, _, result) if result.outcome is Outcome.PASS:
                self._change(serial, lambda unit: _passed(unit, result.phase, dict(result.facts)))
            case Moved(serial, _):
                self._free(self.units[serial])
            case EntrySigned() as entry:
                self._signed(entry)
            case EntryBrought(serial, device_id):
                self.waiting.pop(serial, None)
                self._change(serial, lambda unit: replace(unit, entry=EntryStanding.BROUGHT, device_id=device_id))
            case EntryRefused(serial, code, detail):
                self._refused(serial, f"{code}: {detail}")
            case EntryVoid(serial, code, _):
                self._void(serial, code)
            case UnitBorn(serial, device_id, certificate):
                self._change(serial, lambda unit: replace(unit, device_id=device_id, certificate=certificate))
            case Quarantined() as bad:
                self._quarantine(bad.serial, bad.ek_sha256, bad.mac, f"{bad.code}: {bad.reason}")
            case AttemptEnded(serial, _, outcome, code):
                self._end(serial, outcome, code)

    def _begin(self, begun: AttemptBegun) -> None:
        unit = self.units.get(begun.serial) or KnownUnit(begun.serial, begun.workorder, begun.model)
        passed = unit.passed if begun.start is not Phase.FLASH else None
        self.freed.pop(begun.serial, None)
        self.unfinished[begun.serial] = None
        self.units[begun.serial] = replace(
            unit, attempts=begun.number, slot=begun.slot, outcome=None, code="", passed=passed, is_free=False
        )

    def _signed(self, entry: EntrySigned) -> None:
        unit = self.units[entry.serial]
        self._forget_identity(unit)
        self.by_ek[entry.ek_sha256] = entry.serial
        if entry.mac:
            self.by_mac[entry.mac] = entry.serial
        self.waiting[entry.serial] = None
        self.units[entry.serial] = replace(
            unit, ek_sha256=entry.ek_sha256, mac=entry.mac, entry=EntryStanding.WAITING, jws=entry.jws
        )

    def _refused(self, serial: str, reason: str) -> None:
        unit = self.units[serial]
        self.waiting.pop(serial, None)
        self.units[serial] = replace(unit, entry=EntryStanding.REFUSED)
        self._quarantine(serial, unit.ek_sha256, unit.mac, reason)

    def _void(self, serial: str, code: str) -> None:
        """Nothing that was signed for it counts: whatever it passed, it was not made."""
        unit = self.units[serial]
        self.waiting.pop(serial, None)
        self.unfinished[serial] = None
        outcome = Outcome.ERROR if unit.outcome is Outcome.PASS else unit.outcome
        self.units[serial] = replace(
            unit, entry=EntryStanding.NONE, jws="", device_id="", passed=None, outcome=outcome, code=code
        )

    def _quarantine(self, serial: str, ek_sha256: str, mac: str, reason: str) -> None:
        """The device is bad. Its serial number is free for another one, where nothing and nobody knows it yet."""
        if ek_sha256:
            self.bad_ek[ek_sha256] = reason
        elif mac:
            self.bad_mac[mac] = reason
        unit = self.units[serial]
        if _is_nobodys(unit):
            self._free(unit)
        else:
            self.units[serial] = replace(unit, quarantine=reason)

    def _free(self, unit: KnownUnit) -> None:
        """Its serial number may be given to another device; how many attempts there were is kept, for their numbers."""
        self._forget_identity(unit)
        self.units[unit.serial] = KnownUnit(
            unit.serial, unit.workorder, unit.model, attempts=unit.attempts, is_free=True
        )
        self.freed[unit.serial] = None
        self.unfinished.pop(unit.serial, None)

    def _forget_identity(self, unit: KnownUnit) -> None:
        for index, key in ((self.by_ek, unit.ek_sha256), (self.by_mac, unit.mac)):
            if index.get(key) == unit.serial:
                del index[key]

    def _end(self, serial: str, outcome: Outcome, code: str) -> None:
        unit = self.units[serial]
        stumbled = outcome in (Outcome.FAIL, Outcome.ERROR) and code != ServerUnreachable.code
        if outcome in (Outcome.PASS, Outcome.FAIL):
            self.unfinished.pop(serial, None)
        if outcome is Outcome.FAIL and (unit.is_free or _is_nobodys(unit)):
            self.rejected[unit.workorder] = self.rejected.get(unit.workorder, 0) + 1
            self._free(unit)
        elif not unit.is_free:
            self.units[serial] = replace(unit, outcome=outcome, code=code, stumbles=unit.stumbles + stumbled)

    def _change(self, serial: str, change: Callable[[KnownUnit], KnownUnit]) -> None:
        self.units[serial] = change(self.units[serial])


def _is_nobodys(unit: KnownUnit) -> bool:
    """Tell whether nobody knows a device under its serial number, so that another one may have it."""
    return unit.entry in (EntryStanding.NONE, EntryStanding.REFUSED) and not unit.labelled and not unit.certificate


def _passed(unit: KnownUnit, phase: Phase, facts: dict[str, str]) -> KnownUnit:
    image = facts.get("image_sha256", unit.image_sha256) if phase is Phase.FLASH else unit.image_sha256
    return replace(
        unit,
        passed=phase,
        image_sha256=image,
        locked=unit.locked or phase is Phase.LOCK,
        labelled=unit.labelled or phase is Phase.LABEL,
    )
