"""A RabbitMQ cluster, with what a server has beside it: the door that it asks, a deny list, CRLs, records."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from paho.mqtt.enums import MQTTProtocolVersion

from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.broker.rabbitmq import ManagementApi, RabbitControl
from birthmark_server.broker.rabbitmq_config import MANAGEMENT_USER, STATISTICS_MS, write_crls
from birthmark_server.broker.rabbitmq_door import RabbitDoor
from birthmark_server.broker.rabbitmq_http import RabbitDoorServer
from support.broker_pki import DAY, BrokerPki, Ca, Leaf
from support.mqtt_client import Client
from support.rabbitmq import Cluster, Node, running_cluster
from support.server import Installation


@dataclass
class RecordedPki(BrokerPki):
    """A PKI that keeps what it issued, no two of a device with the same validity: in life they are seconds apart."""

    issued: list[tuple[str, Leaf]] = field(default_factory=list)
    fleets: list[Ca] = field(default_factory=list)

    def device(self, device_id: str, *, lifetime: timedelta = DAY, ca: Ca | None = None) -> Leaf:
        leaf = super().device(device_id, lifetime=lifetime + timedelta(seconds=len(self.issued)), ca=ca)
        self.issued.append((device_id, leaf))
        self.fleets.append(ca or self.fleet)
        return leaf


@dataclass
class RabbitSite:
    """A cluster, the door that it asks, and clients that come to one of its nodes: rabbitmq.Records as well."""

    pki: RecordedPki
    cluster: Cluster
    door: RabbitDoor
    deny: DenyFile
    crls: Path
    installation: Installation
    answers: RabbitDoorServer

    @contextmanager
    def door_closed(self) -> Iterator[int]:
        """For another who answers the nodes, at this port; afterwards they ask us again."""
        port = self.answers.port
        self.answers.stop()
        try:
            yield port
        finally:
            self.answers = RabbitDoorServer(self.door, port=port)
            self.answers.start()

    def node_of(self, client_id: str) -> Node:
        """Where this client goes: anywhere, but always to the same one."""
        return self.cluster.nodes[sum(client_id.encode()) % len(self.cluster.nodes)]

    def client(self, leaf: Leaf | None, client_id: str, *, node: Node | None = None, **more: Any) -> Client:
        port = (node or self.node_of(client_id)).mqtt_port
        return Client(port, self.pki.client_context(leaf), client_id, protocol=MQTTProtocolVersion.MQTTv311, **more)

    def connected(self, leaf: Leaf, client_id: str, **more: Any) -> AbstractContextManager[Client]:
        return self._connected(leaf, client_id, **more)

    @contextmanager
    def _connected(self, leaf: Leaf, client_id: str, **more: Any) -> Iterator[Client]:
        client = self.client(leaf, client_id, **more).connect()
        try:
            assert client.up, f"{client_id} was not let in: {client.connack} {client.ended}"
            yield client
        finally:
            client.close()

    @property
    def api(self) -> ManagementApi:
        """The last node first."""
        ports = [node.settings.management_port for node in reversed(self.cluster.nodes)]
        return ManagementApi(tuple(("127.0.0.1", port) for port in ports), MANAGEMENT_USER, self.cluster.password)

    def control(self) -> RabbitControl:
        return RabbitControl(
            api=self.api,
            door=self.door,
            deny_file=self.deny,
            records=self,
            trust_domain=self.pki.trust_domain,
            trust_folder=self.cluster.trust_folder,
            statistics_s=STATISTICS_MS / 1000,
        )

    # -- Records

    def serial_of(self, device_id: str, not_before: datetime, not_after: datetime) -> str:
        wanted = (device_id, not_before, not_after)
        found = [leaf.serial for one, leaf in self.pki.issued if (one, *validity(leaf)) == wanted]
        return found[0] if len(found) == 1 else ""

    def device_of(self, serial: str) -> str:
        return next((device_id for device_id, leaf in self.pki.issued if leaf.serial == serial), "")

    def write_crls(self, fleet: Sequence[x509.Certificate]) -> None:
        denied = self.deny.read().serials
        revoked = [leaf.certificate for _, leaf in self.pki.issued if leaf.serial in denied]
        wanted = {ca.certificate: ca for ca in [self.pki.fleet, *self.pki.fleets] if ca.certificate in fleet}
        write_crls(
            self.crls,
            [ca.crl([one for one in revoked if one.issuer == ca.certificate.subject]) for ca in wanted.values()],
        )


def validity(leaf: Leaf) -> tuple[datetime, datetime]:
    return leaf.certificate.not_valid_before_utc, leaf.certificate.not_valid_after_utc


@contextmanager
def rabbit_site(folder: Path) -> Iterator[RabbitSite]:
    """Run a cluster in `folder`, whose nodes trust a PKI for tests and an installation as well."""
    (folder / "pki").mkdir()
    (folder / "installation").mkdir()
    pki = RecordedPki(folder / "pki")
    deny = DenyFile(folder / "deny-of-tests", signer=pki.deny_signer, lease_s=3600)
    deny.create()
    write_crls(folder / "crl", [pki.fleet.crl()])
    door = RabbitDoor(trust_domain=pki.trust_domain, deny_file=deny)
    answers = RabbitDoorServer(door)
    answers.start()
    with Installation.create(folder / "installation") as installation:
        root = installation.pki.authority.root.certificate
        try:
            with running_cluster(folder, pki, auth_port=answers.port, roots=[root]) as cluster:
                site = RabbitSite(pki, cluster, door, deny, folder / "crl", installation, answers)
                try:
                    yield site
                finally:
                    answers = site.answers
        finally:
            answers.stop()
