"""Does an enrollment cost more when many devices are on record?

Two servers, one with 1,000 devices in its database and one with 100,000, take turns: whatever else the machine does
meets both. The rows are those of a real device, copied in bulk with keys of their own; evidence and all.
"""

import hashlib
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select

from benchmark import fleet
from benchmark.server_cost import WARM_UP, cpu_per_enrollment_ms
from birthmark_server.store.sqlite import SqliteBackEnd
from birthmark_server.store.tables import Certificates, Devices, EndorsementKeys, EvidenceRows, Manifest, Row, table_of
from support.server import Installation, Server

FEW: Final = 1_000
MANY: Final = 100_000
_ROUNDS: Final = 5
_PAGE: Final = 2_000
_KEPT: Final[tuple[type[Row], ...]] = (Manifest, Devices, EndorsementKeys, Certificates, EvidenceRows)
"""What stays on record of a device, parents first. Challenges and stored answers are gone within a day."""


def enroll_growth(per_round: int, say: Callable[[str], None]) -> float:
    """Return the server's CPU per enrollment with MANY devices over that with FEW."""
    with ExitStack() as stack:
        pairs = []
        for devices in (FEW, MANY):
            site = stack.enter_context(fleet.installation())
            say(f"a database with {devices:,} devices")
            fill(site, devices)
            mine = iter(fleet.listed(site, WARM_UP + per_round * _ROUNDS))
            server = stack.enter_context(site.start(extra=fleet.NO_LIMITS))
            cpu_per_enrollment_ms(server, site, _take(mine, WARM_UP))
            pairs.append((site, server, mine))
        ratios = []
        for turn in range(_ROUNDS):
            say(f"round {turn + 1} of {_ROUNDS}: {per_round} enrollments at each")
            few, many = (_cpu(server, site, _take(mine, per_round)) for site, server, mine in pairs)
            ratios.append(many / few)
    return statistics.median(ratios)


_cpu: Final[Callable[[Server, Installation, list[fleet.BenchDevice]], float]] = cpu_per_enrollment_ms


def _take(devices: Iterator[fleet.BenchDevice], count: int) -> list[fleet.BenchDevice]:
    return [next(devices) for _ in range(count)]


def fill(site: Installation, devices: int) -> None:
    """Put `devices` copies of one real device, with all that is kept of it, into the SQLite database of `site`."""
    (original,) = fleet.renewing(site, 1)
    back_end = SqliteBackEnd(Path(site.database_url.removeprefix("sqlite:///")))
    with back_end.schema_connection() as connection:
        templates = [(table, _rows_of(connection, table, original.device.device_id)) for table in map(table_of, _KEPT)]
        for start in range(0, devices - 1, _PAGE):
            numbers = range(start, min(start + _PAGE, devices - 1))
            for table, rows in templates:
                copies = [_copy(row, number, place) for number in numbers for place, row in enumerate(rows)]
                connection.execute(insert(table), copies)


def _rows_of(connection: Connection, table: Table, device_id: str) -> list[dict[str, Any]]:
    rows = connection.execute(select(table).where(table.c.device_id == device_id)).mappings()
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def _copy(row: dict[str, Any], number: int, place: int) -> dict[str, Any]:
    """The same row of another device. place: which of the device's rows in this table it is."""
    keys = {
        "device_id": f"copy-{number}",
        "serial": f"COPY-{number}",
        "ek_sha256": _digest(f"ek {number} {place}"),
        "sha256": _digest(f"certificate {number} {place}"),
        "certificate_sha256": _digest(f"certificate {number} {place}"),
        "serial_number": _digest(f"serial {number} {place}")[:32],
    }
    return row | {name: key for name, key in keys.items() if name in row}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
