"""A work order of a thousand devices, whose station is killed three times midway: are all of them born, once each?"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from benchmark.factory_station import STATION, WORKORDER, Work
from benchmark.fleet import NO_LIMITS, installation
from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.station.known import Known
from birthmark_server.factory.station.record import RECORD_FILE, read_record
from birthmark_server.factory.station.settings import STATION_FILE
from birthmark_server.workorders import WorkOrder
from support.server import MODEL, Installation, now
from support.tpm_vendor import Ca

SLOTS: Final = 4
KILLS: Final = 3
_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class Killed:
    """What it came to. seconds: all of it, the kills included. lost: units that the record has and the server has not,
    or the other way round; twice: device ids or EKs that stand for two units."""

    devices: int
    kills: int
    born: int
    twice: int
    lost: int
    seconds: float

    @property
    def per_minute(self) -> float:
        """Devices made in a minute."""
        return self.born * 60 / self.seconds


def make_killed(devices: int, say: Callable[[str], None]) -> Killed:
    """Make so many devices with TPMs in software on a real server, and kill the station at each quarter."""
    with installation() as site, site.start(extra=NO_LIMITS) as server:
        folder = prepare(site, devices, port=server.port)
        began = time.monotonic()
        for kill in range(1, KILLS + 1):
            _run_until(folder, devices * kill // (KILLS + 1), say)
        say("the last run")
        subprocess.run(_command(folder), check=True, env=_environment())
        seconds = time.monotonic() - began
        return _count(site, folder, devices, seconds)


def prepare(site: Installation, devices: int, *, port: int, model: str = MODEL.name) -> Path:
    """Make a station's folder, its certificate and a work order; return the folder."""
    folder = site.folder / "station"
    vendor = folder / "vendor"
    vendor.mkdir(parents=True)
    site.infra(CertificateProfile.STATION, STATION).write(folder, "station")
    (folder / "image").write_bytes(os.urandom(4096))
    _write_ca(vendor, "root", site.vendor.root)
    _write_ca(vendor, "intermediate", site.vendor.intermediate)
    order = WorkOrder(WORKORDER, model, devices, "SN-{:06}-{c}@1", "alice", now(), now() + timedelta(days=1))
    store = site.store
    store.workorders.create(WORKORDER, lambda _: order)  # type: ignore[attr-defined]  # an SqlStore
    (folder / STATION_FILE).write_text(
        f'server = "https://localhost:{port}"\ncertificate = "station.pem"\nkey = "station.key"\n'
        f'root = "{site.pki.root_pem}"\n'
    )
    Work(port, str(vendor), SLOTS).write(folder)
    return folder


def _write_ca(folder: Path, name: str, ca: Ca) -> None:
    (folder / f"{name}.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
    (folder / f"{name}.key").write_bytes(ca.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmark.factory_station", str(folder)]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}


def _run_until(folder: Path, born: int, say: Callable[[str], None]) -> None:
    """Run the station until its record tells of so many births, and kill it there and then."""
    record = folder / RECORD_FILE
    with subprocess.Popen(_command(folder), env=_environment()) as station:
        try:
            while (seen := _births(record)) < born:
                if station.poll() is not None:
                    raise RuntimeError(f"the station ended with {station.returncode} after {seen} births")
                say(f"{seen} born")
                time.sleep(_LOOK_S)
        finally:
            station.send_signal(signal.SIGKILL)


def _births(record: Path) -> int:
    return record.read_bytes().count(b'"kind":"born"') if record.exists() else 0


def _count(site: Installation, folder: Path, devices: int, seconds: float) -> Killed:
    known = Known.of(read_record(folder / RECORD_FILE))
    made = {serial: unit for serial, unit in known.units.items() if unit.is_made}
    counted = site.store.workorders.count(WORKORDER)  # type: ignore[attr-defined]  # an SqlStore
    ids = {unit.device_id for unit in made.values()}
    keys = {unit.ek_sha256 for unit in made.values()}
    return Killed(
        devices=devices,
        kills=KILLS,
        born=counted.born,
        twice=2 * len(made) - len(ids) - len(keys) + (len(known.units) - len(made)),
        lost=abs(counted.born - len(made)) + abs(counted.entries - len(made)),
        seconds=seconds,
    )
