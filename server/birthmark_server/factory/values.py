"""The values of a factory line. Frozen, without behaviour, without I/O. Times are timezone-aware UTC `datetime`s.

    WorkOrder -> a serial number -> one unit -> its attempts, each phase by phase -> born, labelled, on the manifest

A unit is what a serial number stands for on this work order; an attempt is one try to make it, in one slot; the
outcomes are OpenHTF's. Work orders and blocks of serial numbers are the server's words too: they stand in
birthmark_server/workorders.py.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from birthmark_server.workorders import SerialBlock as SerialBlock
from birthmark_server.workorders import WorkOrder as WorkOrder


class Phase(StrEnum):
    """What is done to each device, in this order."""

    FLASH = "flash"
    IDENTIFY = "identify"
    ATTEST = "attest"
    SELF_TEST = "self-test"
    LOCK = "lock"
    LABEL = "label"


PHASES: Final = tuple(Phase)


class Outcome(StrEnum):
    """How a phase, and so an attempt, ended."""

    PASS = "PASS"  # noqa: S105 - no password
    FAIL = "FAIL"
    """The device is not as it must be: refused, tampered with, broken."""
    ERROR = "ERROR"
    """It could not be found out: station, server or cable. Trying again may help."""
    ABORTED = "ABORTED"
    """Somebody or a power cut ended it midway."""


@dataclass(frozen=True, slots=True)
class PhaseResult:
    """One phase of one attempt. code: stable, empty where it passed; detail: what was seen and wanted; next_step: what
    to do about it. facts: what was found out, as pairs, such as the hash that was read back."""

    phase: Phase
    outcome: Outcome
    began_at: datetime
    took: timedelta
    code: str = ""
    detail: str = ""
    next_step: str = ""
    facts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """What is known of a device on this line before it is anybody. awaiting_birth: its entry is signed, and the server
    has not heard of it, or it has not proven itself yet."""

    serial: str
    model: str
    workorder: str
    ek_sha256: str = ""
    mac: str = ""
    device_id: str = ""
    awaiting_birth: bool = False
