"""A whole site for the agent: TPM vendor, enrollment server, Mosquitto with the gate, and devices with swtpm.

    with AgentSite.create(tmp_path) as site:
        device = site.device("SN-1")          # an emulated TPM on the manifest, and settings for its agent
        with site.server(), site.control() as control:
            device.cli("enroll")

Everything is real but the size. Server and broker keep their ports over restarts.
"""

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from birthmark_agent.identity import Identities
from birthmark_agent.settings import load_settings
from birthmark_agent.tpm.device import Tpm
from birthmark_server.attestation.roots import ROOTS, VENDOR_FILE
from birthmark_server.attestation.vendor import Vendor, write_vendor
from birthmark_server.ca.record import to_record
from birthmark_server.ca.requests import LDevIdRequest
from birthmark_server.domain import CertificateProfile, DeviceModel, ManifestEntry
from support.mosquitto import Broker, running_broker
from support.server import SERVE, Installation, Server, now
from support.swtpm import Swtpm, VendorCa
from support.tpm_stock import TpmStock

MODEL = DeviceModel(name="emulated", ek_template="rsa2048")
_SWTPM_MANUFACTURER = "id:00001014"

AGENT = "import sys; from birthmark_agent.cli import main; sys.exit(main())"
"""What `birthmark-agent` does."""


@dataclass
class Device:
    """One device: its TPM (running), its settings file and its state folder."""

    site: "AgentSite"
    serial: str
    tpm: Swtpm
    folder: Path

    @property
    def device_id(self) -> str:
        """As the manifest has it."""
        return f"dev-{self.serial.lower()}"

    @property
    def config(self) -> Path:
        """Its agent.toml."""
        return self.folder / "agent.toml"

    @property
    def state(self) -> Path:
        """Its agent's folder."""
        return self.folder / "state"

    def identities(self) -> Identities:
        """The agent's view, in this process."""
        return Identities(load_settings(self.config))

    def cli(self, *arguments: str, check: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run `birthmark-agent` to its end."""
        done = subprocess.run(
            self.cli_command(*arguments), capture_output=True, text=True, timeout=timeout_s, env=environment()
        )
        assert not check or done.returncode == 0, f"{arguments}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done

    def status(self) -> dict[str, object]:
        """`birthmark-agent status --json`."""
        answer: dict[str, object] = json.loads(self.cli("status", "--json", check=False).stdout)
        return answer

    @contextmanager
    def running(self, *, log_level: str = "debug") -> "Iterator[Running]":
        """Run `birthmark-agent run` until the end of the with block."""
        log = self.folder / f"run-{time.monotonic_ns()}.log"
        with log.open("wb") as stderr:
            process = subprocess.Popen(self.cli_command("run"), stderr=stderr, env=environment())
        running = Running(self, process, log)
        try:
            yield running
        finally:
            running.stop()

    def cli_command(self, *arguments: str) -> list[str]:
        """The words of one command."""
        return [sys.executable, "-c", AGENT, "--config", str(self.config), *arguments]


@dataclass
class Running:
    """An agent that runs as a process."""

    device: Device
    process: "subprocess.Popen[bytes]"
    log_file: Path

    @property
    def log(self) -> str:
        """What it said so far."""
        return self.log_file.read_text(errors="replace")

    def wait_log(self, text: str, *, count: int = 1, timeout_s: float = 60) -> None:
        """Return when `text` stands in its log `count` times."""
        until = time.monotonic() + timeout_s
        while self.log.count(text) < count:
            assert self.process.poll() is None, f"ended with {self.process.returncode}:\n{self.log}"
            assert time.monotonic() < until, f"no {text!r} x {count} in:\n{self.log}"
            time.sleep(0.02)

    def renew(self) -> None:
        """SIGHUP."""
        self.process.send_signal(signal.SIGHUP)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(60)


class Control:
    """The server's side of the broker: hears all devices, streams to one."""

    def __init__(self, site: "AgentSite") -> None:
        leaf = site.installation.pki.infra(CertificateProfile.CONTROL, "srv-control")
        chain, key = leaf.write(site.folder, f"control-{time.monotonic_ns()}")
        self.heard: list[tuple[str, bytes]] = []
        self.sent = 0
        self._ready = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="srv-control", protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.tls_set(str(site.installation.pki.root_pem), str(chain), str(key))
        self.client.on_connect = lambda client, *_: client.subscribe("devices/+/up/#", qos=1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = lambda _c, _d, message: self.heard.append((message.topic, bytes(message.payload)))
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("localhost", site.broker.port)
        self.client.loop_start()
        assert self._ready.wait(30)

    def wait_for(self, topic: str, count: int = 1, *, timeout_s: float = 60) -> list[dict[str, object]]:
        """Return the messages on `topic` once there are `count`."""
        until = time.monotonic() + timeout_s
        while True:
            found = [json.loads(payload) for name, payload in self.heard if name == topic]
            if len(found) >= count:
                return found
            assert time.monotonic() < until, f"{len(found)} of {count} on {topic}: {self.heard}"
            time.sleep(0.01)

    def stream(self, device_id: str, stop: threading.Event, *, every_s: float = 0.005) -> None:
        """Publish numbers to the device's `down/cmd`, QoS 1, until told to stop."""
        while not stop.is_set():
            self.client.publish(f"devices/{device_id}/down/cmd", str(self.sent), qos=1)
            self.sent += 1
            time.sleep(every_s)

    def close(self) -> None:
        """Disconnect."""
        self.client.disconnect()
        self.client.loop_stop()


@dataclass
class AgentSite:
    """Installation, broker and TPM vendor."""

    folder: Path
    installation: Installation
    broker: Broker
    stock: TpmStock
    _stack: ExitStack
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    @contextmanager
    def create(cls, folder: Path, *, stock: TpmStock | None = None) -> "Iterator[AgentSite]":
        """Make a site in `folder` with its broker running; the server runs by server(). stock: of its TPMs."""
        with ExitStack() as stack:
            installation = stack.enter_context(Installation.create(folder))
            installation.store.add_model(MODEL, by="alice")
            authority = installation.pki.authority
            chain, key = installation.pki.broker().write(folder, "broker")
            broker = stack.enter_context(
                running_broker(
                    folder / "broker",
                    certificate=chain,
                    key=key,
                    roots=[authority.root.certificate],
                    fleet=[authority.fleet.certificate],
                    infra=[authority.infra.certificate],
                    trust_domain=authority.namespace.trust_domain,
                    signer=installation.pki.deny_signer(),
                )
            )
            stock = stock or TpmStock(folder / "tpm-stock")
            _trust(folder / "tpm-roots", stock.vendor)
            yield cls(folder, installation, broker, stock, stack)

    @contextmanager
    def server(self, *, extra: str = "", at: str = "") -> Iterator[Server]:
        """Run the enrollment server. extra: more TOML. at: a time that faketime understands, for its clock."""
        settings = self.installation.settings(extra=f"port = {self.broker.port}\n{extra}")
        log = settings.with_suffix(".log")
        with log.open("wb") as stderr:
            process = subprocess.Popen([sys.executable, "-c", SERVE, str(settings)], stderr=stderr, env=environment())
        server = Server(self.installation, process, self.installation.port, log)
        try:
            server.wait_until_ready()
            yield server
        finally:
            process.terminate()
            process.wait(60)

    @contextmanager
    def control(self) -> Iterator[Control]:
        """Connect to the broker as the server does."""
        control = Control(self)
        try:
            yield control
        finally:
            control.close()

    def device(self, serial: str, *, listed: bool = True, extra: str = "") -> Device:
        """Make a device: its TPM runs until the site ends. extra: more TOML for its agent."""
        folder = self.folder / f"device-{serial.lower()}"
        folder.mkdir()
        tpm = self.stock.copy(next(self._numbers), folder / "tpm")
        self._stack.callback(tpm.close)
        tpm.start()
        device = Device(self, serial, tpm, folder)
        write_agent_settings(device, extra=extra)
        if listed:
            entry = ManifestEntry(ek_sha256(tpm), serial, MODEL.name, device.device_id, "test", now())
            self.installation.store.import_manifest([entry])
        return device

    def issue(self, device: Device, spki: bytes, *, at_s: float, lifetime_s: float) -> tuple[bytes, ...]:
        """Issue an operational certificate as the server would have `at_s` seconds from now: the chain, DER."""
        from datetime import timedelta

        from cryptography.hazmat.primitives.serialization import load_der_public_key

        fleet = self.installation.pki.authority.fleet
        request = LDevIdRequest(public_key=load_der_public_key(spki), device_id=device.device_id, tpm_backed=True)
        at = now() + timedelta(seconds=at_s)
        token = fleet.prepare(request, now=at, lifetime=timedelta(seconds=lifetime_s))
        certificate = fleet.issue(token)
        to_record(certificate, issuer=fleet, profile=token.profile, device_id=device.device_id, issued_at=at)
        return tuple(c.public_bytes(Encoding.DER) for c in (certificate, fleet.certificate))


def _trust(roots: Path, vendor: VendorCa) -> None:
    folder = roots / "swtpm"
    (folder / ROOTS).mkdir(parents=True)
    entry = Vendor(name="swtpm", manufacturers=frozenset((_SWTPM_MANUFACTURER,)))
    (folder / VENDOR_FILE).write_bytes(write_vendor(entry))
    (folder / ROOTS / "root.pem").write_bytes(vendor.root_pem.read_bytes())


def write_agent_settings(device: Device, *, extra: str = "") -> None:
    """Write agent.toml: quick to try again, slow to give up."""
    site = device.site
    device.config.write_text(
        f"""
[server]
url = "https://localhost:{site.installation.port}"
anchors = "{site.installation.pki.root_pem}"
timeout_s = 5.0
[tpm]
tcti = "{device.tpm.tcti}"
[state]
folder = "state"
[retry]
first_s = 0.2
most_s = 0.5
floor_s = 0.05
[renewal]
floor_s = 0.2
[log]
level = "debug"
{extra}
"""
    )


class WrongClock:
    """A system clock that nothing disciplines and that is off."""

    def __init__(self, at: datetime) -> None:
        self._off_by = at - datetime.now(UTC)

    def wall(self) -> datetime:
        return datetime.now(UTC) + self._off_by

    def boot_time_s(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def synchronised(self) -> bool:
        return False


def ek_sha256(tpm: Swtpm) -> str:
    """SHA-256 of the RSA EK's SubjectPublicKeyInfo, as the manifest has it."""
    with Tpm.open(tpm.tcti) as opened:
        der = dict(opened.endorsement_certificates())[0x01C00002]
    key = x509.load_der_x509_certificate(der).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def environment() -> dict[str, str]:
    """The environment of a program under test."""
    return os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "TSS2_LOG": "all+NONE"}
