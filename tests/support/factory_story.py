"""A station's record as a busy day leaves it: many units, with failures of several kinds, from a seed."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from birthmark_server.factory.station.events import (
    AttemptBegun,
    AttemptEnded,
    EntryBrought,
    EntrySigned,
    Event,
    OrderLearned,
    PhaseEnded,
    RunBegun,
    UnitBorn,
)
from birthmark_server.factory.station.record import RECORD_FILE, Record
from birthmark_server.factory.values import PHASES, Outcome, Phase, PhaseResult

TYPICAL_S: Final = {
    Phase.FLASH: 48.0,
    Phase.IDENTIFY: 9.0,
    Phase.ATTEST: 1.9,
    Phase.SELF_TEST: 3.2,
    Phase.LOCK: 0.6,
    Phase.LABEL: 0.05,
}
FAULTS: Final[Sequence[tuple[float, Phase, Outcome, str, str, str]]] = (
    (0.045, Phase.FLASH, Outcome.ERROR, "cable-out", "no answer after 41,943,040 bytes", "Look at the cable."),
    (0.02, Phase.SELF_TEST, Outcome.FAIL, "broker-refused", "the broker closed the connection", "Put it aside."),
    (0.012, Phase.IDENTIFY, Outcome.ERROR, "phase-too-long", "identify took longer than 180 s", "Look at the cable."),
    (0.012, Phase.ATTEST, Outcome.ERROR, "server-silent", "connection refused", "Go on."),
    (0.006, Phase.IDENTIFY, Outcome.FAIL, "identity-garbled", "TPM2_CreatePrimary: 0x9a2", "Put it aside."),
)


class _Clock:
    def __init__(self, at: datetime) -> None:
        self.at = at

    def __call__(self) -> datetime:
        return self.at


def write_story(
    folder: Path,
    *,
    station: str,
    orders: Sequence[tuple[str, int]],
    seed: int,
    begins: datetime = datetime(2026, 11, 27, 6, 0, tzinfo=UTC),
    slots: int = 4,
    wanted: int = 0,
) -> None:
    """Write the record of a station that made these work orders (name, units), one after another. wanted: the quantity
    of each, where other stations make the rest."""
    folder.mkdir(parents=True, exist_ok=True)
    chance, clock = random.Random(seed), _Clock(begins)
    record = Record.open(folder / RECORD_FILE, station=station, now=clock)
    for order, quantity in orders:
        record.append(OrderLearned(order, "EDGE-7", wanted or quantity, "SN-{:06}", "p256"))
        record.append(RunBegun(order, "alice", slots))
        free = [clock.at] * slots
        lines: list[tuple[datetime, Event]] = []
        for place in range(quantity):
            slot = min(range(slots), key=free.__getitem__)
            serial = f"{station.upper()}-{order}-{place + 1:04}"
            free[slot] = _unit(lines, chance, free[slot], serial, order, slot + 1)
        for at, event in sorted(lines, key=lambda each: each[0]):
            clock.at = max(clock.at, at)
            record.append(event)
        clock.at += timedelta(minutes=25)
    record.close()


def _unit(
    lines: list[tuple[datetime, Event]], chance: random.Random, at: datetime, serial: str, order: str, slot: int
) -> datetime:
    """One unit, until it passed or failed; at most three attempts."""
    for number in range(1, 4):
        lines.append((at, AttemptBegun(order, serial, "EDGE-7", number, slot, "alice", Phase.FLASH)))
        fault = next((each for each in FAULTS if chance.random() < each[0]), None)
        for phase in PHASES:
            took = timedelta(seconds=TYPICAL_S[phase] * chance.lognormvariate(0, 0.16))
            wrong = fault if fault and fault[1] is phase else None
            outcome, code, detail, step = wrong[2:] if wrong else (Outcome.PASS, "", "", "")
            result = PhaseResult(phase, outcome, at, took, code, detail, step)
            at += took + timedelta(milliseconds=1)
            if phase is Phase.ATTEST and not wrong:
                jws = EntrySigned(serial, f"{serial}-ek", "", "agent/1.0", "0" * 64, "none")
                lines.append((at, jws))
                lines.append((at, EntryBrought(serial, serial.lower())))
                lines.append((at, UnitBorn(serial, serial.lower(), b"none")))
            lines.append((at, PhaseEnded(serial, number, result)))
            if wrong:
                break
        lines.append((at, AttemptEnded(serial, number, outcome, code)))
        if outcome in (Outcome.PASS, Outcome.FAIL):
            break
        at += timedelta(seconds=20)
    return at + timedelta(seconds=chance.uniform(6, 14))
