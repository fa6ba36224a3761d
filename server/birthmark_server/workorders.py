"""Work orders, as the server keeps them. Frozen, without behaviour, without I/O; times are timezone-aware UTC.

    WorkOrder -> SerialBlock: places of its serial numbers, each one station's -> StationEntry: this TPM has that number

Stations have them too (factory/values.py): the line's side of the same words.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from birthmark_server.domain import Device

CLOCK_SKEW: Final = timedelta(minutes=5)
"""How far a station's clock may be from ours."""


@dataclass(frozen=True, slots=True)
class WorkOrder:
    """So many devices of one model. name: printable, at most 64. serials: see factory/serials.py.
    ek_template: which of a TPM's EKs identifies a device of the model; empty where nobody looked."""

    name: str
    model: str
    quantity: int
    serials: str
    created_by: str
    created_at: datetime
    closes_at: datetime
    closed_at: datetime | None = None
    closed_by: str = ""
    ek_template: str = ""


@dataclass(frozen=True, slots=True)
class SerialBlock:
    """Places of a work order's serial numbers that one station was given and nobody else ever is: from `first` on,
    `count` of them. Places begin with 0."""

    workorder: str
    station: str
    first: int
    count: int
    at: datetime


@dataclass(frozen=True, slots=True)
class StationEntry:
    """A manifest entry that a station signed, verified: the JWS is the evidence (factory/entry.py).

    sha256: of the JWS. place: of the serial number in its work order. mac: empty where the device has none.
    station_sha256: of the station's certificate. operator: who was at the station, in its words. made_at: by the
    station's clock. brought_by: a station, as `station:NAME`, or the operator who brought it by hand. withdrawn_at,
    withdrawn_by: when the manifest's line was removed; the serial number, the EK and the MAC are free from then on.
    """

    sha256: str
    workorder: str
    place: int
    serial: str
    model: str
    ek_sha256: str
    mac: str
    device_id: str
    station: str
    station_sha256: str
    operator: str
    made_at: datetime
    brought_by: str
    brought_at: datetime
    jws: bytes
    withdrawn_at: datetime | None = None
    withdrawn_by: str = ""


@dataclass(frozen=True, slots=True)
class WorkOrderCount:
    """How far a work order is. given: serial numbers that stations have; entries: devices that are expected by name;
    born: those that have proven themselves."""

    given: int
    entries: int
    born: int


@dataclass(frozen=True, slots=True)
class UnitOnRecord:
    """What the server knows of a serial number of a work order. device: None while it was not born."""

    entry: StationEntry
    device: Device | None
