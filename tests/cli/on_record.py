"""Devices in an installation's database, for the tests of commands that need one."""

from datetime import UTC, datetime
from pathlib import Path

from birthmark_server.domain import Assurance, Device, DeviceState
from birthmark_server.store.open import open_store
from birthmark_server.store.sql.store import SqlStore

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def open_database(installation: Path) -> SqlStore:
    """Open it as the commands do."""
    data = installation / "data"
    return open_store(f"sqlite:///{data}/birthmark.db", journal=data / "journal")


def put_on_record(installation: Path, number: int, *, ek_sha256: str = "") -> str:
    """Put a software device on record and return its id."""
    store = open_database(installation)
    store.add_software_device(
        Device(
            device_id=f"sw-{number}",
            serial=f"SN-{number}",
            model="EDGE-7",
            batch="",
            state=DeviceState.ACTIVE,
            epoch=1,
            assurance=Assurance.NONE,
            ek_sha256=ek_sha256,
            other_ek_sha256=(),
            ak_public=b"",
            birth_spki_sha256="",
            enrolled_at=AT,
        )
    )
    store.close()
    return f"sw-{number}"
