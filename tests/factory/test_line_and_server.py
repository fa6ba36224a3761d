"""A line at a real server: station and work order by the command line, devices in software that prove themselves."""

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography import x509

from birthmark_server.factory.serials import SerialPool
from birthmark_server.factory.station import targets
from birthmark_server.factory.station.targets import Place, TargetKind
from birthmark_server.factory.target import Born, Target
from birthmark_server.roles import PROFILE_OF, Role
from birthmark_wire.factory import ProvisionRecord
from integration.afar import Run, person, told
from support.factory_sim import SimulatedDevice, SimulatedTarget, derived_tpm
from support.server import MODEL, Installation, Server
from support.software_tpm import SoftwareTpm

pytest_plugins = ("integration.conftest",)


@dataclass
class Bay:
    """The devices of a line: by serial number, each with a TPM of its own that the server's vendor made."""

    site: Installation
    server: Server
    devices: dict[str, SimulatedDevice] = field(default_factory=dict)
    twins: dict[str, str] = field(default_factory=dict)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def open(self, place: Place) -> Target:
        with self.turn:
            name = self.twins.get(place.serial, place.serial)
            device = self.devices.setdefault(
                name,
                SimulatedDevice(
                    derived_tpm(self.site.vendor, f"line {name}"), f"02:00:00:00:00:{len(self.devices):02x}"
                ),
            )
        return SimulatedTarget(device, self)

    def prove(self, tpm: SoftwareTpm, record: ProvisionRecord) -> Born:
        idevid = self.server.enroll(tpm)
        return Born(f"{record.serial.lower()}", idevid.der)


@pytest.fixture
def bay(site: Installation, server: Server, monkeypatch: pytest.MonkeyPatch) -> Bay:
    bay = Bay(site, server)
    monkeypatch.setitem(targets._KINDS, "sim", TargetKind(bay.open, proves_itself_later=False))
    return bay


@pytest.fixture
def station(run: Run, server: Server, tmp_path: Path) -> Path:
    """The folder of a station with two slots."""
    folder = tmp_path / "line-2"
    words = ("--server", f"https://localhost:{server.port}", "--folder", str(folder))
    done = run("--context", "security-officer", "station", "init", "line-2", *words)
    assert done.status == 0, done.err
    (folder / "image").write_bytes(b"an image" * 100)
    with (folder / "station.toml").open("a") as file:
        file.write('image = "image"\n\n' + '[[slot]]\ntarget = "sim:{serial}"\n\n' * 2)
    return folder


def badge(tmp_path: Path, site: Installation, role: Role = Role.FACTORY) -> str:
    return str(person(site.infra(PROFILE_OF[role], f"at-the-line-{role}"), tmp_path))


def order(run: Run, name: str, quantity: int) -> None:
    words = ("--model", MODEL.name, "--quantity", str(quantity), "--serials", f"{name}-{{:04}}-{{c}}", "--for", "1h")
    done = run("--context", "factory", "workorder", "create", name, *words)
    assert done.status == 0, done.err


def test_a_station_makes_a_work_order_and_every_device_is_born_of_it(
    run: Run, site: Installation, bay: Bay, station: Path, tmp_path: Path
) -> None:
    order(run, "WA", 5)
    made = run("factory", "run", "--workorder", "WA", "--operator", badge(tmp_path, site), "--station", str(station))
    assert made.status == 0, made.err
    seen = told(run, "--context", "viewer", "workorder", "show", "WA")
    assert (seen["born"], seen["entries"], seen["quantity"]) == (5, 5, 5)
    devices = told(run, "--context", "viewer", "device", "list", "--batch", "WA")
    assert sorted(device["serial"] for device in devices) == sorted(bay.devices)
    for device in devices:
        assert device["batch"] == "WA"
    status = json.loads(run("factory", "status", "--station", str(station), "--json").out)
    assert status


def test_the_same_tpm_under_two_serial_numbers_is_made_once(
    run: Run, site: Installation, bay: Bay, station: Path, tmp_path: Path
) -> None:
    order(run, "WB", 3)
    first = run("--context", "factory", "workorder", "show", "WB", "--json")
    assert first.status == 0
    pool = SerialPool.parse(json.loads(first.out)["serials"])
    bay.twins[pool.serial(1)] = pool.serial(0)
    run(
        "factory",
        "run",
        "--workorder",
        "WB",
        "--operator",
        badge(tmp_path, site),
        "--station",
        str(station),
        "--slots",
        "1",
    )
    seen = told(run, "--context", "viewer", "workorder", "show", "WB")
    assert seen["born"] <= 2
    eks = {device["device_id"] for device in told(run, "--context", "viewer", "device", "list", "--batch", "WB")}
    assert len(eks) == seen["born"]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.OPERATOR])
def test_who_is_not_of_the_factory_starts_nothing(
    run: Run, site: Installation, bay: Bay, station: Path, tmp_path: Path, role: Role
) -> None:
    order(run, f"W{role.name[0]}", 1)
    words = ("--workorder", f"W{role.name[0]}", "--operator", badge(tmp_path, site, role), "--station", str(station))
    done = run("factory", "run", *words)
    assert done.status == 77
    assert "want one for factory or security-officer" in done.err
    assert not bay.devices


def test_a_station_is_made_once_and_its_key_is_its_own(run: Run, station: Path) -> None:
    assert (station / "station.key").stat().st_mode & 0o777 == 0o600
    certificate = x509.load_pem_x509_certificate((station / "station.pem").read_bytes())
    assert certificate.subject.rfc4514_string().startswith("CN=line-2")
    again = run(
        "--context", "security-officer", "station", "init", "line-2", "--server", "https://x", "--folder", str(station)
    )
    assert again.status == 73
    assert "nothing was overwritten" in again.err
    (listed, *_) = told(run, "--context", "viewer", "station", "list")
    assert listed["name"] == "line-2"


def test_a_revoked_station_takes_no_serial_numbers(
    run: Run, site: Installation, bay: Bay, station: Path, tmp_path: Path
) -> None:
    order(run, "WR", 1)
    assert run("--context", "security-officer", "station", "revoke", "line-2", "--reason", "keyCompromise").status == 0
    done = run("factory", "run", "--workorder", "WR", "--operator", badge(tmp_path, site), "--station", str(station))
    assert done.status != 0
    assert "revoked" in done.err + done.out
    seen = told(run, "--context", "viewer", "workorder", "show", "WR")
    assert seen["born"] == 0


def test_a_closed_work_order_is_made_no_further(
    run: Run, site: Installation, bay: Bay, station: Path, tmp_path: Path
) -> None:
    order(run, "WC", 1)
    closed = run("--context", "factory", "workorder", "close", "WC")
    assert "0 of 1 devices were born" in closed.err + closed.out
    done = run("factory", "run", "--workorder", "WC", "--operator", badge(tmp_path, site), "--station", str(station))
    assert done.status != 0
    assert "closed" in done.err + done.out
