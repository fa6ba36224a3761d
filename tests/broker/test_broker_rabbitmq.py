"""A RabbitMQ cluster of three nodes passes the contract, by MQTT 3.1.1; and goes on when one of them is killed."""

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from paho.mqtt.enums import MQTTProtocolVersion

from birthmark_server.broker.denyfile import Denials, DenyFile
from birthmark_server.broker.rabbitmq import ManagementApi, RabbitControl, RabbitEar
from birthmark_server.broker.rabbitmq_config import MANAGEMENT_USER, STATISTICS_MS, name_hash, write_crls
from birthmark_server.broker.rabbitmq_door import RabbitDoor
from birthmark_server.broker.rabbitmq_http import RabbitDoorServer
from broker.contract import BrokerControlContract, Ear, open_client, until
from support.broker_pki import DAY, BrokerPki, Ca, Leaf
from support.mqtt_client import Client
from support.rabbitmq import Cluster, Node, running_cluster

pytestmark = pytest.mark.parts


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


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitSite]:
    """One cluster for all tests of this module: a test that kills a node starts it again."""
    folder = tmp_path_factory.mktemp("rabbitmq")
    (folder / "pki").mkdir()
    pki = RecordedPki(folder / "pki")
    deny = DenyFile(folder / "deny", signer=pki.deny_signer, lease_s=3600)
    deny.create()
    write_crls(folder / "crl", [pki.fleet.crl()])
    door = RabbitDoor(trust_domain=pki.trust_domain, deny_file=deny)
    answers = RabbitDoorServer(door)
    answers.start()
    try:
        with running_cluster(folder, pki, auth_port=answers.port) as cluster:
            yield RabbitSite(pki, cluster, door, deny, folder / "crl")
    finally:
        answers.stop()


@pytest.fixture
def control(site: RabbitSite, ear: Ear) -> Iterator[RabbitControl]:
    hearing = RabbitEar(api=site.api, on_message=ear.hear)
    hearing.start()
    try:
        assert hearing.wait_live(10)
        control, pki = site.control(), site.pki
        control.update_trust(
            roots=[pki.root.certificate], fleet=[pki.fleet.certificate], infra=[pki.infra.certificate]
        )  # a test before may have left another one
        yield control
    finally:
        hearing.stop()


class TestRabbitControl(BrokerControlContract):
    """The same as of Mosquitto."""

    many = 30  # it does not answer in pages


def test_a_name_that_somebody_claims_is_not_believed(site: RabbitSite) -> None:
    """With a certificate of one's own, and another's name in CONNECT."""
    leaf, other = site.pki.device("liar"), site.pki.uri("victim")
    for claim in ({"username": other}, {"username": other, "password": ""}, {"username": other, "password": None}):
        client = site.client(leaf, "victim", **claim).connect()
        assert client.refused, claim
        client.close()
    client = site.client(leaf, "victim", username=MANAGEMENT_USER).connect()
    assert client.refused
    client.close()


def test_no_wildcard_of_amqp_reaches_beyond_ones_own_branch(site: RabbitSite, control: RabbitControl) -> None:
    for topic in ("devices/*/down/#", "devices.*.down.cmd", "*/*/down/#", "#", "devices/+/down/cmd", "$SYS/#"):
        with open_client(site, site.pki.device("nosy"), "nosy") as client:
            client.subscribe(topic)
            control.publish("devices/somebody/down/cmd", b"secret")
            control.publish("devices/nosy/down/cmd", b"own")
            time.sleep(0.3)
            assert client.messages == [], topic


def test_nobody_is_let_in_once_the_lease_of_the_list_is_over(site: RabbitSite) -> None:
    minutes_ago = DenyFile(site.deny.path, signer=site.pki.deny_signer, lease_s=60, clock=lambda: time.time() - 200)
    minutes_ago.renew()
    with open_client(site, site.pki.device("late"), "late") as client:
        assert client.refused
    site.deny.renew()
    with site.connected(site.pki.device("late"), "late") as client:
        assert client.up


def test_who_is_connected_with_what_is_over_or_denied_is_swept_out(site: RabbitSite, control: RabbitControl) -> None:
    with (
        site.connected(site.pki.device("over"), "over") as over,
        site.connected(site.pki.device("denied"), "denied") as denied,
        site.connected(site.pki.device("well"), "well") as well,
    ):
        site.deny.add(devices=["denied"])  # by another server, which was killed before it could cut
        assert until(lambda: control.sweep(at=datetime.now(UTC)) > 0 or bool(denied.ended), timeout_s=30)
        assert denied.wait_end()
        assert well.up
        assert over.up
        soon = min(validity(leaf)[1] for name, leaf in site.pki.issued if name == "over")
        assert until(lambda: control.sweep(at=soon) > 0, timeout_s=30)
        assert over.wait_end()
        assert well.up  # its certificate is some seconds younger
    site.deny.replace(Denials)


def test_3_10_speaks_no_mqtt_5(site: RabbitSite) -> None:
    """So our agents can't connect to it."""
    leaf = site.pki.device("agent")
    port = site.node_of("agent").mqtt_port
    client = Client(port, site.pki.client_context(leaf), "agent").connect()
    assert client.refused
    client.close()


def test_a_node_that_is_killed_takes_its_connections_and_nothing_else(
    site: RabbitSite, control: RabbitControl, ear: Ear
) -> None:
    *staying, killed = site.cluster.nodes
    leaf, revoked = site.pki.device("stays"), site.pki.device("moves")
    with site.connected(leaf, "stays", node=staying[0]) as stays:
        moves = site.client(site.pki.device("moves"), "moves", node=killed).connect()
        assert moves.up
        stays.subscribe("devices/stays/down/#")
        killed.kill()
        try:
            assert moves.wait_end()
            assert until(lambda: control.health().unreachable == (killed.name,))
            control.publish("devices/stays/down/cmd", b"goes on")
            assert stays.wait_message("devices/stays/down/cmd", b"goes on")

            def heard_again() -> bool:
                with open_client(site, site.pki.device("speaks"), "speaks", node=staying[1]) as speaks:
                    speaks.publish("devices/speaks/up/hello", b"heard")
                return ("speaks", "hello", b"heard") in ear.heard

            # That node may have led the shared queue: for some seconds, until the others have chosen another leader,
            # what a device says is rejected, and its connection ended.
            assert until(heard_again, timeout_s=60)
            with site.connected(site.pki.device("moves"), "moves", node=staying[1]) as again:
                control.deny(serials=[revoked.serial])
                assert again.wait_end()  # one of its certificates is denied: it is cut, and may come back with another
            assert [one.identity for one in control.connections()] == ["stays"]
        finally:
            moves.close()
            killed.start()
            killed.wait()
    with open_client(site, revoked, "moves", node=killed) as client:
        assert client.refused
    with site.connected(site.pki.device("moves"), "moves", node=killed) as client:
        assert client.up


def test_a_crl_is_where_openssl_would_look_for_it(tmp_path: Path) -> None:
    for name in ("Test Fleet CA", "ÄRZTE  und Söhne ", "x" * 64):
        pem = x509.load_der_x509_crl(Ca.make(name).crl()).public_bytes(Encoding.PEM)
        said = subprocess.run(["openssl", "crl", "-noout", "-hash"], input=pem, capture_output=True, check=True).stdout
        assert name_hash(x509.load_pem_x509_crl(pem).issuer) == said.decode().strip(), name
