"""How many devices a station makes in a minute, by the number of its slots: each device a TPM of its own (swtpm), born
at a real server by the agent's own code."""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmark.factory_killed import prepare
from benchmark.factory_station import open_bench, run_slots
from benchmark.fleet import NO_LIMITS, installation
from birthmark_server.attestation.roots import ROOTS, VENDOR_FILE
from birthmark_server.attestation.vendor import Vendor, write_vendor
from birthmark_server.cli.station_desk import open_desk
from birthmark_server.domain import DeviceModel
from birthmark_server.factory.station.settings import STATION_FILE, load_station
from birthmark_server.factory.target import Target
from support.factory_site import SwtpmTarget
from support.swtpm import Swtpm, VendorCa

_MODEL: Final = DeviceModel(name="emulated", ek_template="rsa2048")
_MANUFACTURER: Final = "id:00001014"
_MAKERS: Final = 4


@dataclass(frozen=True, slots=True)
class Pace:
    """devices: born in `seconds`, with so many slots."""

    slots: int
    devices: int
    seconds: float

    @property
    def per_minute(self) -> float:
        """Devices in a minute."""
        return self.devices * 60 / self.seconds


def measure_pace(slots: int, devices: int, say: Callable[[str], None]) -> Pace:
    """Make so many devices with so many slots. Raise RuntimeError unless all of them are born."""
    with installation() as site:
        tpms = make_tpms(site.folder, devices, say)
        site.store.add_model(_MODEL, by="alice")
        _trust(site.folder / "tpm-roots", site.folder / "swtpm-vendor")
        with site.start(extra=NO_LIMITS) as server:
            folder = prepare(site, devices, port=server.port, model=_MODEL.name)
            desk = open_desk(load_station(folder / STATION_FILE))
            bench = open_bench(folder, desk, slots, image=folder / "image")
            turn = threading.Lock()

            def open_target(_serial: str) -> Target:
                with turn:
                    say(f"{slots} slots: {devices - len(tpms)} of {devices}")
                    return SwtpmTarget(tpms.pop(), server.port, site.pki.root_pem)

            began = time.monotonic()
            try:
                run_slots(bench, slots, open_target)
            finally:
                bench.line.close()
                desk.close()
            seconds = time.monotonic() - began
            view = bench.line.units()
        born = sum(unit.is_made for unit in view)
        if born != devices:
            raise RuntimeError(f"{born} of {devices} were born: {[unit.code for unit in view if not unit.is_made]}")
        return Pace(slots, devices, seconds)


def make_tpms(folder: Path, count: int, say: Callable[[str], None]) -> list[Swtpm]:
    """Make emulated TPMs, as a vendor's line does; they are not part of what is measured."""
    vendor = VendorCa.create(folder / "swtpm-vendor")
    first = vendor.make(folder / "tpms" / "0")
    with ThreadPoolExecutor(_MAKERS) as makers:
        say(f"{count} TPMs are made")
        rest = list(makers.map(lambda number: vendor.make(folder / "tpms" / str(number)), range(1, count)))
    return [first, *rest]


def _trust(roots: Path, vendor: Path) -> None:
    """Have the server trust the emulated TPMs' vendor."""
    folder = roots / "swtpm"
    (folder / ROOTS).mkdir(parents=True)
    (folder / VENDOR_FILE).write_bytes(write_vendor(Vendor(name="swtpm", manufacturers=frozenset((_MANUFACTURER,)))))
    (folder / ROOTS / "root.pem").write_bytes(VendorCa.create(vendor).root_pem.read_bytes())


def measure_paces(plan: Sequence[tuple[int, int]], say: Callable[[str], None]) -> list[Pace]:
    """plan: slots and devices."""
    return [measure_pace(slots, devices, say) for slots, devices in plan]
