"""One station of `scripts/bench factory`, as a process of its own: it is there to be killed, and run again.

python -m benchmark.factory_station FOLDER    what it works with stands in FOLDER/bench.json
"""

import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from birthmark_server.cli.station_desk import open_desk
from birthmark_server.factory.desk import Desk
from birthmark_server.factory.serials import SerialPool
from birthmark_server.factory.station.attempt import Bench
from birthmark_server.factory.station.known import Known, KnownUnit
from birthmark_server.factory.station.line import Line, Order
from birthmark_server.factory.station.outbox import Outbox
from birthmark_server.factory.station.record import RECORD_FILE
from birthmark_server.factory.station.runner import OpenTarget, Runner, Slot
from birthmark_server.factory.station.settings import STATION_FILE, LimitSettings, load_station
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.view import Slots
from birthmark_server.factory.target import Target
from support.factory_sim import SimulatedDevice, SimulatedTarget, derived_tpm
from support.factory_site import HttpsProver
from support.tpm_vendor import Ca, PrivateKey, VendorCa

_FILE = "bench.json"
WORKORDER = "W-BENCH"
STATION = "st-1"


@dataclass(frozen=True, slots=True)
class Work:
    """What a station works with beside its settings. port: of the enrollment server; vendor: a folder with the TPM
    vendor's key and certificates."""

    port: int
    vendor: str
    slots: int

    def write(self, folder: Path) -> None:
        """Leave it for the process."""
        (folder / _FILE).write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Take it up."""
        return cls(**json.loads((folder / _FILE).read_text()))


def open_bench(folder: Path, desk: Desk, count: int, *, image: Path) -> Bench:
    """Open the station in `folder` for this work order."""
    settings, known = load_station(folder / STATION_FILE), Known()
    order = desk.workorder(WORKORDER)
    digest = sha256(image.read_bytes()).hexdigest()
    serial_of = SerialPool.parse(order.serials).serial
    wanted = Order(WORKORDER, order.model, order.quantity, serial_of, digest, "bench", addressed=True, block=50)
    line = Line.open(folder / RECORD_FILE, wanted, desk, station=STATION, now=_now, known=known)
    return Bench(
        line=line,
        outbox=Outbox(line),
        key=StationKey.load(settings.certificate, settings.key),
        station=STATION,
        image=image,
        label=_label,
        slots=Slots(count),
        stopping=Stopping(),
        now=_now,
    )


def run_slots(bench: Bench, count: int, open_target: OpenTarget) -> Runner:
    """Work until the work order is made."""
    limits = LimitSettings().by_phase()
    runner = Runner(bench, [Slot(number, open_target, limits, feeds=True) for number in range(1, count + 1)])
    runner.run()
    return runner


def load_vendor(folder: Path) -> VendorCa:
    """Return the TPM vendor whose CAs are in `folder`."""
    made = VendorCa.create()
    cas = []
    for name in ("root", "intermediate"):
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        key = load_pem_private_key((folder / f"{name}.key").read_bytes(), None)
        assert isinstance(key, PrivateKey)
        cas.append(Ca(certificate, key))
    return VendorCa(cas[0], cas[1], made.vendor)


def _label(unit: KnownUnit) -> dict[str, str]:
    return {"text": unit.serial}


def _now() -> datetime:
    return datetime.now(UTC)


def main() -> None:
    """Make the work order with TPMs in software, each of which is found by its serial number."""
    folder = Path(sys.argv[1])
    work = Work.read(folder)
    settings = load_station(folder / STATION_FILE)
    vendor, prover = load_vendor(Path(work.vendor)), HttpsProver(work.port, settings.root)
    desk = open_desk(settings)
    bench = open_bench(folder, desk, work.slots, image=folder / "image")

    def open_target(serial: str) -> Target:
        return SimulatedTarget(SimulatedDevice(derived_tpm(vendor, serial)), prover)

    try:
        run_slots(bench, work.slots, open_target)
    finally:
        bench.line.close()
        desk.close()


if __name__ == "__main__":
    main()
