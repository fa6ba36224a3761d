"""`birthmark serve` beside a RabbitMQ cluster, the command line on its machine, and devices that it enrolled."""

import base64
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from paho.mqtt.enums import MQTTProtocolVersion

from birthmark_server.jobs import NewJob
from birthmark_server.store.sql.store import SqlStore
from birthmark_wire.rotation import Hello
from broker.rabbit_site import RabbitSite
from support.mqtt_client import Client
from support.rabbitmq import Node
from support.server import Identity, Installation, Server, now


@dataclass(frozen=True)
class Device:
    """One that the server enrolled. context: of its connections, with its operational certificate."""

    device_id: str
    ldevid: Identity
    context: ssl.SSLContext

    @contextmanager
    def client(self, node: Node) -> Iterator[Client]:
        """Connect to a node; perhaps in vain."""
        client = Client(node.mqtt_port, self.context, self.device_id, protocol=MQTTProtocolVersion.MQTTv311).connect()
        try:
            yield client
        finally:
            client.close()

    @contextmanager
    def connected(self, node: Node) -> Iterator[Client]:
        """Connect to a node, which must let it in."""
        with self.client(node) as client:
            assert client.up, f"not let in: {client.connack} {client.ended}\n{node.log[-3000:]}"
            yield client

    def hello(self) -> bytes:
        """What it says when it comes."""
        certificate = self.ldevid.certificate
        return Hello("test", f"{certificate.serial_number:x}", certificate.not_valid_after_utc).encode()


@dataclass(frozen=True)
class Serving:
    """A server that runs, and the machine that it runs on."""

    installation: Installation
    server: Server
    site: RabbitSite
    config: Path

    def cli(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run `birthmark WORDS` with the server's settings."""
        return cli(self.config, *words)

    def born(self, serial: str) -> Device:
        """Enroll a device and give it its first operational certificate."""
        tpm, device_id = self.installation.listed_device(serial), f"dev-{serial.lower()}"
        ldevid = self.server.first_ldevid(tpm, self.server.enroll(tpm), device_id)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        root = self.site.pki.root.certificate.public_bytes(Encoding.PEM)
        context.load_verify_locations(cadata=root.decode())  # of the nodes' own certificates
        context.load_cert_chain(*ldevid.write(self.installation.folder, device_id))
        return Device(device_id, ldevid, context)

    def tell_to_rotate(self, device: Device) -> str:
        """Begin a job that waits for the device; return its id."""
        assert isinstance(self.installation.store, SqlStore)
        job_id = f"job-{device.device_id}"
        new = NewJob(job_id, device.device_id, "alice", now(), now() + timedelta(hours=1))
        self.installation.store.jobs.open_jobs([new])
        return job_id

    def seen_at(self, device: Device) -> datetime | None:
        """When the database says that the device was last seen."""
        return self.installation.store.get_device(device.device_id).last_seen_at


def cli(config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run `birthmark --config FILE WORDS`."""
    program = [sys.executable, "-c", "from birthmark_server.cli import main; main()", "--config", str(config)]
    environment = os.environ | {"COLUMNS": "200"}
    return subprocess.run([*program, *words], capture_output=True, text=True, check=False, env=environment, timeout=60)


def payload_of(message: tuple[str, bytes]) -> bytes:
    """Return what a signed command says."""
    signed = json.loads(message[1])["payload"] if message[1].startswith(b"{") else message[1].split(b".")[1].decode()
    return base64.urlsafe_b64decode(signed + "=" * (-len(signed) % 4))


@contextmanager
def serving(site: RabbitSite) -> Iterator[Serving]:
    """Write the node's files by the command line, and run a server that answers the cluster's nodes."""
    installation, folder = site.installation, site.cluster.trust_folder
    secret = folder / "management-password"
    secret.write_text(site.cluster.password)
    secret.chmod(0o600)
    ports = [node.settings.management_port for node in site.cluster.nodes]
    with site.door_closed() as port:
        lines = installation.broker_lines(site.cluster.nodes[0].mqtt_port) + installation.deny_lines(folder / "deny")
        broker = f"""kind = "rabbitmq"
{lines}
[broker.rabbitmq]
door = "127.0.0.1:{port}"
management = {json.dumps([f"http://127.0.0.1:{number}" for number in ports])}
management_password = "file:{secret}"
nodes = {json.dumps([node.name for node in site.cluster.nodes])}
"""
        config = installation.settings(broker=broker)
        chain, key = installation.pki.broker().write(installation.folder, "broker")
        files = "--certificate", str(chain), "--key", str(key)
        wrote = cli(config, "broker", "config-rabbitmq", str(folder), *files)
        assert wrote.returncode == 0, wrote.stderr
        with installation.start(broker=broker) as server:
            yield Serving(installation, server, site, config)
