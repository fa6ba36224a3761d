"""What a device leaves behind: bytes in the database, in the journal, in a CRL and in the gate's deny file.

One real device enrolls and fetches its first operational certificate; what is on record of it is then copied, with
keys of its own, for DEVICES more, and so are its renewals and its campaigns' jobs. What an empty database takes is not
counted. SQLite: the file, after a checkpoint. PostgreSQL: pg_database_size, as it grows without VACUUM FULL.

    PYTHONPATH=../tests python -m benchmark.sizes [DEVICES]      from scripts/, with .venv's Python
"""

import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select, text
from sqlalchemy.engine import make_url

from benchmark import fleet
from birthmark_server.broker.denyfile import Denials, DenyFile
from birthmark_server.ca.crl import build_crl
from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_server.jobs import NewJob
from birthmark_server.store.driver import BackEnd
from birthmark_server.store.job_tables import Jobs
from birthmark_server.store.postgresql import PostgresqlBackEnd
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.store.sqlite import SqliteBackEnd
from birthmark_server.store.tables import Certificates, Devices, EndorsementKeys, EvidenceRows, Manifest, Row, table_of
from support.postgres import fresh_database, postgres_server
from support.server import Installation, now

DEVICES: Final = 20_000
_PAGE: Final = 2_000
_OF_A_DEVICE: Final[tuple[type[Row], ...]] = (Manifest, Devices, EndorsementKeys, Certificates, EvidenceRows)
"""What stays on record, parents first. Challenges and stored answers are gone within a day."""
_CRL_ENTRIES: Final = 10_000
DENIED: Final = 500_000


@dataclass(frozen=True, slots=True)
class Bytes:
    """Of each. device: with its birth certificate, its first operational one and the evidence for both. renewal: one
    more certificate, with its evidence. job: that of a campaign, or a single one, which has ended."""

    device: float
    renewal: float
    job: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """journal_device: as Bytes.device. crl_entry: of each certificate that is revoked and has not expired; deny_line:
    of the same one in the gate's deny file. deny_add_cpu_s: what one more costs in a file of DENIED of them."""

    sqlite: Bytes
    postgresql: Bytes
    journal_device: float
    crl_entry: float
    deny_line: float
    deny_add_cpu_s: float


def measure_sizes(devices: int = DEVICES) -> Sizes:
    """Fill both databases with so many devices, one after the other."""
    with _installation("") as site:
        path = Path(site.database_url.removeprefix("sqlite:///"))
        back_end = SqliteBackEnd(path)

        def file_bytes() -> int:
            connection = back_end.connect()
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            return path.stat().st_size

        sqlite = _grow(site, back_end, devices, file_bytes)
        journal, entry, denied = _journal_bytes(site), _crl_bytes(site), _denied(site)
    with postgres_server() as cluster, fresh_database(cluster) as url, _installation(url) as site:
        server = PostgresqlBackEnd(make_url(url))

        def database_bytes() -> int:
            with server.schema_connection() as connection:
                return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

        postgresql = _grow(site, server, devices, database_bytes)
    return Sizes(sqlite, postgresql, journal, entry, *denied)


@contextmanager
def _installation(url: str) -> Iterator[Installation]:
    with (
        tempfile.TemporaryDirectory(prefix="birthmark-bench-") as folder,
        Installation.create(Path(folder), database_url=url) as site,
    ):
        yield site


def _grow(site: Installation, back_end: BackEnd, devices: int, size: Callable[[], int]) -> Bytes:
    original = fleet.renewing(site, 1)[0].device.device_id
    sizes = [size()]
    with back_end.schema_connection() as connection:
        rows = {table: _rows_of(connection, table, original) for table in map(table_of, _OF_A_DEVICE)}
        _copy_all(connection, rows, devices, "birth")
    sizes.append(size())
    with back_end.schema_connection() as connection:
        (leaf,) = [one for one in rows[table_of(Certificates)] if one["profile"] == CertificateProfile.LDEVID.value]
        (proof,) = [one for one in rows[table_of(EvidenceRows)] if one["certificate_sha256"] == leaf["sha256"]]
        _copy_all(connection, {table_of(Certificates): [leaf], table_of(EvidenceRows): [proof]}, devices, "renewal")
    sizes.append(size())
    _open_jobs(site, devices)
    with back_end.schema_connection() as connection:
        ended = table_of(Jobs).update().values(state="done", send_at_us=None, ended_at_us=1, request_sha256=_digest(""))
        connection.execute(ended)
    sizes.append(size())
    device, renewal, job = ((after - before) / devices for before, after in pairwise(sizes))
    return Bytes(device, renewal, job)


def _rows_of(connection: Connection, table: Table, device_id: str) -> list[dict[str, Any]]:
    rows = connection.execute(select(table).where(table.c.device_id == device_id)).mappings()
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def _copy_all(connection: Connection, rows: dict[Table, list[dict[str, Any]]], devices: int, what: str) -> None:
    for start in range(0, devices, _PAGE):
        numbers = range(start, min(start + _PAGE, devices))
        for table, originals in rows.items():
            copies = [_copy(row, n, f"{what} {place}") for n in numbers for place, row in enumerate(originals)]
            connection.execute(insert(table), copies)


def _copy(row: dict[str, Any], number: int, what: str) -> dict[str, Any]:
    """The same row of another device, with keys as random as real ones."""
    keys = {
        "device_id": f"copy-{number}",
        "serial": f"COPY-{number}",
        "ek_sha256": _digest(f"ek {number} {what}"),
        "sha256": _digest(f"certificate {number} {what}"),
        "certificate_sha256": _digest(f"certificate {number} {what}"),
        "serial_number": _digest(f"serial {number} {what}")[:32],
        "spki_sha256": _digest(f"spki {number} {what}"),
    }
    return row | {name: key for name, key in keys.items() if name in row}


def _digest(said: str) -> str:
    return hashlib.sha256(said.encode()).hexdigest()


def _open_jobs(site: Installation, devices: int) -> None:
    if not isinstance(site.store, SqlStore):
        raise TypeError("want a store in SQL")
    at = now()
    for start in range(0, devices, _PAGE):
        numbers = range(start, min(start + _PAGE, devices))
        new = [NewJob(f"spring-{n}-0", f"copy-{n}", "alice", at, at + timedelta(days=1), "spring") for n in numbers]
        site.store.jobs.open_jobs(new)


def _journal_bytes(site: Installation) -> float:
    """Of the services' own journal, which has the one real device alone."""
    (path,) = [each for each in site.folder.glob("journal.[0-9]*") if each.stat().st_size]
    return float(path.stat().st_size)


def _crl_bytes(site: Installation) -> float:
    issuer, at = site.pki.authority.fleet, now()

    def length(entries: int) -> int:
        at_us, reason = int(at.timestamp() * 1e6), RevocationReason.SUPERSEDED.value
        revoked = ((f"5{_digest(f'{n}')[:31]}", at_us, reason) for n in range(entries))
        return len(build_crl(issuer, revoked, number=1, now=at, next_update=at + timedelta(days=7)))

    return (length(2 * _CRL_ENTRIES) - length(_CRL_ENTRIES)) / _CRL_ENTRIES


def _denied(site: Installation) -> tuple[float, float]:
    """Return the bytes of a line, and the CPU seconds that one more takes."""
    deny = DenyFile(site.folder / "deny", signer=site.pki.deny_signer())
    serials = {f"5{_digest(f'{number}')[:31]}" for number in range(DENIED)}
    deny.replace(lambda: Denials(devices=set(), serials=serials))
    size, began = deny.path.stat().st_size, time.process_time()
    deny.add(serials={"7" * 32})
    return size / DENIED, time.process_time() - began


if __name__ == "__main__":
    print(json.dumps(asdict(measure_sizes(*map(int, sys.argv[1:]))), indent=2))
