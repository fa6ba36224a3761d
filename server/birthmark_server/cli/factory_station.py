"""A station as the command line opens it: its folder, who it is, who badged in, what it is to make.

All that can be wrong is found here, before anything is begun: settings, certificates, role, clock, room on the disk.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import quote

from cryptography import x509

from birthmark_server.cli.contexts import Context, read_root
from birthmark_server.cli.https import OperatorConnection, ServerFailed
from birthmark_server.cli.https import ServerUnreachable as NoAnswer
from birthmark_server.cli.operator_proof import read_operator
from birthmark_server.errors import BirthmarkError, Malformed
from birthmark_server.factory.desk import Desk, ServerUnreachable
from birthmark_server.factory.station.badge import IS_STATION, WORKS_HERE, Badge, check_clock, verify_badge
from birthmark_server.factory.station.errors import NotAtThisStation, StationSettingsBroken
from birthmark_server.factory.station.events import OrderLearned
from birthmark_server.factory.station.known import Known
from birthmark_server.factory.station.line import learned
from birthmark_server.factory.station.record import RECORD_FILE, Line, read_record
from birthmark_server.factory.station.settings import STATION_FILE, SlotSettings, StationSettings, load_station
from birthmark_server.factory.station.signer import StationKey

ROOM_BYTES: Final = 64 << 20
"""What must be free on the station's disk before a run: the record of some thousand devices."""
_BADGE_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Station:
    """A station that may work: everything was looked at. online: whether the server answered."""

    folder: Path
    settings: StationSettings
    key: StationKey
    badge: Badge
    operator: Badge
    online: bool


def open_station(folder: Path, operator: Path, workorder: str, *, now: datetime) -> Station:
    """Look at everything; raise what is wrong first, in one sentence."""
    settings = load_station(folder / STATION_FILE)
    check_room(folder)
    key = StationKey.load(settings.certificate, settings.key)
    root_pem, root_sha256 = read_root(settings.root)
    if settings.root_sha256 and settings.root_sha256 != root_sha256:
        raise StationSettingsBroken(
            f"{settings.root}: want the root with SHA-256 {settings.root_sha256}, got {root_sha256}"
        )
    root = x509.load_pem_x509_certificate(root_pem.encode())
    chain = [x509.load_der_x509_certificate(der) for der in key.chain]
    own = verify_badge(chain, root=root, allowed=IS_STATION, now=now, whose=str(settings.certificate))
    _, certificate, above = read_operator(operator)
    badge = verify_badge([certificate, *above, *chain[1:]], root=root, allowed=WORKS_HERE, now=now, whose=str(operator))
    context = Context(settings.server, str(operator), str(operator), str(settings.root), root_sha256)
    server_date = _ask_server(context, workorder, badge)
    last_line = max((line.at for line in _lines(folder)), default=None)
    check_clock(now, server_date=server_date, last_line=last_line)
    return Station(folder, settings, key, own, badge, server_date is not None)


def _lines(folder: Path) -> Iterator[Line]:
    path = folder / RECORD_FILE
    return read_record(path) if path.exists() else iter(())


def _ask_server(context: Context, workorder: str, badge: Badge) -> datetime | None:
    """Have the server judge who badged in; return its time, or None where it does not answer. Raise NotAtThisStation
    for who was revoked."""
    connection = OperatorConnection(context, timeout_s=_BADGE_TIMEOUT_S)
    try:
        connection.ask("GET", f"/v1/workorders/{quote(workorder, safe='')}")
    except NoAnswer as error:
        if "your certificate" in str(error):
            raise NotAtThisStation(f"the server will not have {badge.name}: {error}") from None
        return None
    except ServerFailed:
        return connection.answered_at
    except BirthmarkError as error:
        if error.code.startswith("unknown-"):
            raise
        raise NotAtThisStation(f"the server will not have {badge.name}: {error.code}: {error}") from None
    finally:
        connection.close()
    return connection.answered_at


def check_room(folder: Path) -> None:
    """Raise OSError (ENOSPC) unless there is room for the record of this run."""
    free = shutil.disk_usage(folder).free
    if free < ROOM_BYTES:
        raise OSError(
            errno.ENOSPC, f"{os.strerror(errno.ENOSPC)}: {free >> 20} MiB free, want {ROOM_BYTES >> 20}", str(folder)
        )


def order_of(desk: Desk, known: Known, name: str) -> tuple[OrderLearned, bool]:
    """Return what is to be made, and whether that is news to the record: by the server, or else as it was learned."""
    try:
        order = learned(desk.workorder(name))
    except ServerUnreachable as error:
        if name in known.orders:
            return known.orders[name], False
        raise ServerUnreachable(f"{error}; work order {name} is not known here yet: its first run needs it") from None
    return order, known.orders.get(name) != order


def slots_of(settings: StationSettings, wanted: int) -> list[SlotSettings]:
    """Return the slots of a run. wanted: how many; 0 for all. One [[slot]] whose target has {slot} or {serial} in it
    stands for as many as are wanted."""
    if not settings.slot:
        raise StationSettingsBroken(f"{STATION_FILE} has no [[slot]]; want one for each place for a device")
    if len(settings.slot) == 1 and wanted > 1 and _stands_for_many(settings.slot[0]):
        return [settings.slot[0]] * wanted
    if wanted > len(settings.slot):
        raise StationSettingsBroken(f"--slots {wanted}: {STATION_FILE} has {len(settings.slot)}")
    return list(settings.slot[: wanted or None])


def _stands_for_many(slot: SlotSettings) -> bool:
    return "{slot}" in slot.target or slot.finds_devices


def image_of(settings: StationSettings, given: Path | None) -> tuple[Path, str]:
    """Return what is flashed, and its SHA-256. Raise StationSettingsBroken, or OSError."""
    image = given or settings.image
    if image is None:
        raise StationSettingsBroken(f"{STATION_FILE} names no image; want one there, or --image FILE")
    digest = sha256()
    with image.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    if image.stat().st_size == 0:
        raise Malformed(f"{image} is empty; want an image")
    return image, digest.hexdigest()
