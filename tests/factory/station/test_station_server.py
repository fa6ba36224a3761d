"""A line at a real server that goes away and comes back: nothing is lost, and nothing is there twice."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.cli.factory_station import open_station
from birthmark_server.cli.station_desk import open_desk
from birthmark_server.domain import CertificateProfile, RevocationReason
from birthmark_server.factory.station.attempt import Bench
from birthmark_server.factory.station.errors import ClockWrong, NotAtThisStation
from birthmark_server.factory.station.events import Event, UnitBorn
from birthmark_server.factory.station.known import EntryStanding, Known
from birthmark_server.factory.station.line import Line, Order
from birthmark_server.factory.station.outbox import Outbox
from birthmark_server.factory.station.record import RECORD_FILE, read_record
from birthmark_server.factory.station.runner import Runner, Slot
from birthmark_server.factory.station.settings import STATION_FILE, LimitSettings, StationSettings
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.factory.station.stopping import Stopping
from birthmark_server.factory.station.view import Slots
from birthmark_server.factory.target import Target
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.workorders import WorkOrder
from support.factory_sim import SimulatedDevice, SimulatedTarget, derived_tpm
from support.factory_site import HttpsProver
from support.server import MODEL, Installation, now
from support.tpm_vendor import VendorCa

pytestmark = pytest.mark.parts
_REASON = RevocationReason.KEY_COMPROMISE

DEVICES = 8
IMAGE = b"an image"
IMAGE_SHA256 = sha256(IMAGE).hexdigest()


@dataclass
class Line2:
    """A station at an installation's server."""

    site: Installation
    folder: Path
    devices: dict[str, SimulatedDevice] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def store(self) -> SqlStore:
        assert isinstance(self.site.store, SqlStore)
        return self.site.store

    def open(self, serial: str) -> Target:
        with self.turn:
            device = self.devices.setdefault(serial, SimulatedDevice(derived_tpm(self.site.vendor, serial)))
        return SimulatedTarget(device, HttpsProver(self.site.port, self.site.pki.root_pem))

    def run(self, *, again: tuple[str, ...] = (), watch: object = None) -> None:
        """One run with two slots."""
        certificate, key = self.folder / "station.pem", self.folder / "station.key"
        settings = StationSettings(
            server=f"https://localhost:{self.site.port}", certificate=certificate, key=key, root=self.site.pki.root_pem
        )
        desk = open_desk(settings)
        order = Order("W1", MODEL.name, DEVICES, "SN-{:04}".format, IMAGE_SHA256, "alice", again=again, addressed=True)
        line = Line.open(self.folder / RECORD_FILE, order, desk, station="st-1", now=now, known=Known())
        if callable(watch):
            line.watchers.append(lambda written: watch(written.event))
        bench = Bench(
            line=line,
            outbox=Outbox(line),
            key=StationKey.load(certificate, key),
            station="st-1",
            image=self.folder / "image",
            label=lambda unit: {"text": unit.serial},
            slots=Slots(2),
            stopping=Stopping(),
            now=now,
        )
        limits = LimitSettings().by_phase()
        try:
            Runner(bench, [Slot(number, self.open, limits, feeds=True) for number in (1, 2)], courier_s=0.2).run()
        finally:
            line.close()
            desk.close()

    def known(self) -> Known:
        return Known.of(read_record(self.folder / RECORD_FILE))


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line2]:
    folder = tmp_path / "line"
    folder.mkdir()
    (folder / "image").write_bytes(IMAGE)
    with Installation.create(tmp_path / "site") as site:
        made = Line2(site, folder)
        site.infra(CertificateProfile.STATION, "st-1").write(folder, "station")
        order = WorkOrder("W1", MODEL.name, DEVICES, "SN-{:04}@0", "alice", now(), now() + timedelta(days=1))
        made.store.workorders.create("W1", lambda _: order)
        yield made


def test_a_server_that_goes_and_comes_back_has_each_device_once(line: Line2) -> None:
    births: list[str] = []
    gone = threading.Event()
    with ExitStack() as running:
        running.enter_context(line.site.start())

        def watch(event: Event) -> None:
            if isinstance(event, UnitBorn):
                births.append(event.serial)
            if len(births) == 3 and not gone.is_set():
                gone.set()
                running.close()  # in the slot's thread, between two lines of the record

        line.run(watch=watch)
    known = line.known()
    waiting = [unit.serial for unit in known.units.values() if unit.awaits_birth]
    assert len(waiting) == DEVICES - len(births)
    assert {known.units[serial].entry for serial in waiting} <= {EntryStanding.WAITING, EntryStanding.BROUGHT}
    assert line.store.workorders.count("W1").born == len(births)
    with line.site.start():
        line.run(again=tuple(waiting))
    known = line.known()
    assert all(unit.is_made for unit in known.units.values())
    assert len(known.units) == DEVICES
    counted = line.store.workorders.count("W1")
    assert (counted.given, counted.entries, counted.born) == (DEVICES, DEVICES, DEVICES)
    assert {device.flashes for device in line.devices.values()} == {1}


def test_a_foreign_vendors_device_is_refused_with_the_servers_reason(line: Line2) -> None:
    foreign = derived_tpm(VendorCa.create("Nobody"), "foreign")
    line.devices["SN-0000"] = SimulatedDevice(foreign)
    with line.site.start():
        line.run()
    known = line.known()
    assert "ek-untrusted" in known.units["SN-0000"].quarantine
    assert sum(unit.is_made for unit in known.units.values()) == DEVICES - 1
    assert line.store.workorders.count("W1").born == DEVICES - 1


# -- who badges in, as the server sees it


def badge(line: Line2, name: str = "alice") -> Path:
    leaf = line.site.infra(CertificateProfile.FACTORY, name)
    path = line.folder / f"{name}.pem"
    path.write_bytes(leaf.chain_pem + leaf.key_pem)
    path.chmod(0o600)
    (line.folder / STATION_FILE).write_text(
        f'server = "https://localhost:{line.site.port}"\ncertificate = "station.pem"\nkey = "station.key"\n'
        f'root = "{line.site.pki.root_pem}"\n'
    )
    return path


def test_the_server_judges_who_badges_in_and_the_clock(line: Line2) -> None:
    alice = badge(line)
    assert not open_station(line.folder, alice, "W1", now=now()).online
    with line.site.start():
        here = open_station(line.folder, alice, "W1", now=now())
        assert (here.online, here.operator.name, here.badge.name) == (True, "alice", "st-1")
        with pytest.raises(ClockWrong, match=r"the server's .*: want them within 5 minutes"):
            open_station(line.folder, alice, "W1", now=now() + timedelta(hours=2))
        bob = badge(line, "bob")
        shown = x509.load_pem_x509_certificate(bob.read_bytes()).public_bytes(Encoding.DER)
        line.store.revoke_certificate(sha256(shown).hexdigest(), reason=_REASON, at=now(), by="carol")
        with pytest.raises(NotAtThisStation, match="the server will not have bob"):
            open_station(line.folder, bob, "W1", now=now())
