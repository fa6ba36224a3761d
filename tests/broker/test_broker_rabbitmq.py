"""A RabbitMQ cluster of three nodes passes the contract, by MQTT 3.1.1; and goes on when one of them is killed."""

import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.broker.denyfile import Denials, DenyFile
from birthmark_server.broker.rabbitmq import RabbitControl, RabbitEar
from birthmark_server.broker.rabbitmq_config import MANAGEMENT_USER, name_hash
from broker.contract import BrokerControlContract, Ear, open_client, until
from broker.rabbit_serving import payload_of, serving
from broker.rabbit_site import RabbitSite, rabbit_site, validity
from support.broker_pki import Ca
from support.mqtt_client import Client
from support.server import now

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitSite]:
    """One cluster for all tests of this module: a test that kills a node starts it again."""
    with rabbit_site(tmp_path_factory.mktemp("rabbitmq")) as site:
        yield site


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


def test_a_server_process_answers_hears_and_cuts(site: RabbitSite) -> None:
    """`birthmark serve` with kind = "rabbitmq": everything by its own door, store and CRLs."""
    with serving(site) as served:
        device = served.born("SN-1")
        assert served.cli("broker", "status").returncode == 0
        assert "door answers" in served.cli("doctor").stdout
        job = served.tell_to_rotate(device)
        with device.connected(site.cluster.nodes[0]) as client:
            client.subscribe(f"devices/{device.device_id}/down/cmd")
            before = now()
            client.publish(f"devices/{device.device_id}/up/hello", device.hello())
            assert until(lambda: (served.seen_at(device) or before) > before, timeout_s=10)
            assert client.wait(lambda: any(job.encode() in payload_of(one) for one in client.messages), 10)

            site.cluster.nodes[0].kill()
            try:
                assert client.wait_end()
                with device.connected(site.cluster.nodes[1]) as elsewhere:
                    assert elsewhere.up
                    began = time.monotonic()
                    assert served.cli("device", "revoke", device.device_id).returncode == 0
                    told = time.monotonic()
                    assert elsewhere.wait_end(10)
                    assert time.monotonic() - told < 3, f"{time.monotonic() - began:.1f} s"  # of a busy machine
            finally:
                site.cluster.nodes[0].start()
                site.cluster.nodes[0].wait()
        for node in site.cluster.nodes:
            with device.client(node) as late:
                assert late.refused
        other = served.born("SN-2")
        with other.connected(site.cluster.nodes[2]) as well:
            assert well.up  # the others' CRL is not everybody's


def test_a_crl_is_where_openssl_would_look_for_it(tmp_path: Path) -> None:
    for name in ("Test Fleet CA", "ÄRZTE  und Söhne ", "x" * 64):
        pem = x509.load_der_x509_crl(Ca.make(name).crl()).public_bytes(Encoding.PEM)
        said = subprocess.run(["openssl", "crl", "-noout", "-hash"], input=pem, capture_output=True, check=True).stdout
        assert name_hash(x509.load_pem_x509_crl(pem).issuer) == said.decode().strip(), name
