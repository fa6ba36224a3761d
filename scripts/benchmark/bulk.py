"""Devices by the thousand, put on record without enrolling each: the rows of one that did, copied.

`fill` copies rows and no more: devices that are there to be many. `provision` makes devices that can do all that a
device does: each has an AK, a key and an operational certificate of its own, issued by the installation's Fleet CA.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, insert, select

from benchmark import fleet
from birthmark_server.domain import CertificateProfile
from birthmark_server.store.rows import certificate_values
from birthmark_server.store.sqlite import SqliteBackEnd
from birthmark_server.store.tables import Certificates, Devices, EndorsementKeys, EvidenceRows, Manifest, Row, table_of
from birthmark_wire.tpm_templates import AK
from support.rotating import RotatingDevice
from support.server import Identity, Installation
from support.software_tpm import SoftwareKey

_PAGE: Final = 2_000
_KEPT: Final[tuple[type[Row], ...]] = (Manifest, Devices, EndorsementKeys, Certificates, EvidenceRows)
"""What stays on record of a device, parents first. Challenges and stored answers are gone within a day."""

_Values = dict[str, Any]
_Template = dict[str, list[_Values]]
"""The rows of the original, by the name of their table."""


def database(site: Installation) -> AbstractContextManager[Connection]:
    """Return a transaction on the SQLite database of `site`, past the store."""
    return SqliteBackEnd(Path(site.database_url.removeprefix("sqlite:///"))).schema_connection()


def fill(site: Installation, devices: int) -> None:
    """Put so many devices on record: one that enrolled, and copies of it, `copy-1` and so on."""
    (original,) = fleet.renewing(site, 1)

    def copy(template: _Template, number: int) -> _Template:
        return _copied(template, f"copy-{number}")

    _write(site, original.device.device_id, devices - 1, copy)


def provision(site: Installation, count: int, *, name: str = "dev") -> list[RotatingDevice]:
    """Put so many devices on record, `NAME-0` and so on, and return them as they hold their keys and certificates."""
    (original,) = fleet.renewing(site, 1, name=name)
    authority = site.pki.authority
    infra = authority.infra.certificate
    devices = [RotatingDevice(original.device.device_id, original.device.tpm, original.ldevid, infra)]

    def make(template: _Template, number: int) -> _Template:
        device_id, ak = f"{name}-{number}", SoftwareKey.create(AK)
        leaf = site.pki.device(device_id)
        chain = (leaf.der, *authority.chain_for(authority.fleet))
        tpm = replace(original.device.tpm, ak=ak)
        devices.append(RotatingDevice(device_id, tpm, Identity(chain, leaf.key), infra))
        rows = _copied(template, device_id)
        rows["devices"] = [row | {"ak_public": ak.public.encode()} for row in rows["devices"]]
        rows["certificates"] = [
            certificate_values(leaf.record) if row["profile"] == CertificateProfile.LDEVID.value else row
            for row in rows["certificates"]
        ]
        return rows

    _write(site, original.device.device_id, count - 1, make)
    return devices


def _write(site: Installation, original: str, count: int, make: Callable[[_Template, int], _Template]) -> None:
    with database(site) as connection:
        template = {table.name: _rows_of(connection, table.name, original) for table in map(table_of, _KEPT)}
        for numbers in _pages(count):
            made = [make(template, number) for number in numbers]
            for table in map(table_of, _KEPT):
                connection.execute(insert(table), [row for rows in made for row in rows[table.name]])


def _pages(count: int) -> Iterator[range]:
    return (range(start, min(start + _PAGE, count + 1)) for start in range(1, count + 1, _PAGE))


def _rows_of(connection: Connection, table_name: str, device_id: str) -> list[_Values]:
    (table,) = (table for table in map(table_of, _KEPT) if table.name == table_name)
    rows = connection.execute(select(table).where(table.c.device_id == device_id)).mappings()
    return [{name: value for name, value in row.items() if name != "id"} for row in rows]


def _copied(template: _Template, device_id: str) -> _Template:
    """Return the same rows, of another device."""
    return {name: [_copy(row, device_id, place) for place, row in enumerate(rows)] for name, rows in template.items()}


def _copy(row: _Values, device_id: str, place: int) -> _Values:
    """place: which of the device's rows in its table it is."""
    keys = {
        "device_id": device_id,
        "serial": device_id.upper(),
        "ek_sha256": _digest(f"ek {device_id} {place}"),
        "sha256": _digest(f"certificate {device_id} {place}"),
        "certificate_sha256": _digest(f"certificate {device_id} {place}"),
        "serial_number": "1" + _digest(f"serial {device_id} {place}")[:31],
    }
    return row | {name: key for name, key in keys.items() if name in row}


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
