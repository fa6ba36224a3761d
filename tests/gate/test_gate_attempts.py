"""What a fleet's broker must refuse, tried by real clients on a real Mosquitto; each beside what must go on working."""

import socket
import subprocess
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca import oids
from support.broker_pki import BrokerPki, Ca, Leaf
from support.gate_site import Site, open_site
from support.mqtt_client import Client, settle

pytestmark = pytest.mark.parts

NOT_AUTHORIZED = 135


class TestTopics:
    """Another device's topics, and everybody's."""

    def test_a_device_uses_its_own_branch(self, site: Site) -> None:
        with (
            site.connected(site.pki.control(), "srv-control") as server,
            site.connected(site.pki.device("own-1"), "own-1") as device,
        ):
            assert server.subscribe("devices/+/up/#") == 1
            assert device.subscribe("devices/own-1/down/#") == 1
            assert device.publish("devices/own-1/up/hello", b"from own-1") == 0
            assert server.wait_message("devices/own-1/up/hello", b"from own-1")
            assert server.publish("devices/own-1/down/cmd", b"to own-1") == 0
            assert device.wait_message("devices/own-1/down/cmd", b"to own-1")

    @pytest.mark.parametrize(
        "topic",
        [
            "devices/victim-1/down/#",
            "devices/+/down/#",
            "devices/+/up/#",
            "devices/#",
            "#",
            "+/victim-1/down/cmd",
            "$SYS/#",
            "$CONTROL/#",
            "$CONTROL/birthmark/v1/response",
            "$share/birthmark/devices/+/up/#",
            "$share/thief/devices/+/up/#",
            "$share/thief/devices/victim-1/down/#",
        ],
    )
    def test_a_device_cannot_subscribe_beyond_its_branch(self, site: Site, topic: str) -> None:
        with (
            site.connected(site.pki.control(), "srv-control") as server,
            site.connected(site.pki.device("victim-1"), "victim-1") as victim,
            site.connected(site.pki.device("thief-1"), "thief-1") as thief,
        ):
            victim.subscribe("devices/victim-1/down/#")
            before = len(site.broker.log())
            assert thief.subscribe(topic) == NOT_AUTHORIZED
            assert "id=thief-1" in site.broker.wait_log("refused subscribe: ", after=before)
            server.publish("devices/victim-1/down/cmd", b"secret")
            assert victim.wait_message("devices/victim-1/down/cmd", b"secret")
            settle()
            assert thief.messages == []

    @pytest.mark.parametrize(
        "topic", ["devices/victim-2/up/hello", "devices/victim-2/down/cmd", "devices/thief-2/down/cmd", "x"]
    )
    def test_a_device_cannot_publish_beyond_its_branch(self, site: Site, topic: str) -> None:
        with (
            site.connected(site.pki.control(), "srv-control") as server,
            site.connected(site.pki.device("victim-2"), "victim-2") as victim,
            site.connected(site.pki.device("thief-2"), "thief-2") as thief,
        ):
            server.subscribe("devices/+/up/#")
            victim.subscribe("devices/victim-2/down/#")
            before = len(site.broker.log())
            assert thief.publish(topic, b"forged") in (NOT_AUTHORIZED, -1)
            assert "id=thief-2" in site.broker.wait_log("refused write: ", after=before)
            victim.publish("devices/victim-2/up/hello", b"honest")
            assert server.wait_message("devices/victim-2/up/hello", b"honest")
            settle()
            assert b"forged" not in [payload for _, payload in server.messages + victim.messages]

    def test_a_share_over_everybodys_topics_steals_nothing(self, site: Site) -> None:
        with (
            site.connected(site.pki.control(), "srv-control") as server,
            site.connected(site.pki.device("thief-3"), "thief-3") as thief,
            site.connected(site.pki.device("own-3"), "own-3") as device,
        ):
            assert server.subscribe("$share/birthmark/devices/+/up/#") == 1
            thief.subscribe("$share/birthmark/devices/+/up/#")
            thief.subscribe("$share/birthmark/devices/own-3/up/#")
            for number in range(50):
                device.publish("devices/own-3/up/status", b"%d" % number)
            assert server.wait(lambda: len([t for t, _ in server.messages if t.startswith("devices/own-3/")]) == 50)
            assert thief.messages == []

    def test_two_replicas_share_the_messages_between_them(self, site: Site) -> None:
        leaf = site.pki.control()
        with (
            site.connected(leaf, "srv-control.a") as first,
            site.connected(leaf, "srv-control.b") as second,
            site.connected(site.pki.device("own-4"), "own-4") as device,
        ):
            for replica in (first, second):
                assert replica.subscribe("$share/birthmark/devices/+/up/#") == 1
            for number in range(20):
                device.publish("devices/own-4/up/status", b"%d" % number)
            settle()
            assert len(first.messages) + len(second.messages) == 20
            assert first.messages
            assert second.messages

    def test_a_device_commands_nothing(self, site: Site) -> None:
        with site.connected(site.pki.device("thief-5"), "thief-5") as thief:
            assert thief.publish("$CONTROL/birthmark/v1", b"1 kick victim-1") in (NOT_AUTHORIZED, -1)
            settle()
            assert thief.messages == []

    def test_a_user_name_that_a_client_sends_is_worth_nothing(self, site: Site) -> None:
        thief = site.client(site.pki.device("thief-6"), "thief-6", username="control:srv-control").connect()
        try:
            assert thief.up
            assert thief.subscribe("devices/+/up/#") == NOT_AUTHORIZED
        finally:
            thief.close()


class TestWills:
    """A will is judged like any other message."""

    @pytest.mark.parametrize("delay_s", [0, 1])
    def test_a_will_goes_to_its_owners_branch_only(self, site: Site, delay_s: int) -> None:
        with site.connected(site.pki.control(), "srv-control") as server:
            server.subscribe("devices/+/up/#")
            honest = site.client(site.pki.device("own-7"), "own-7")
            honest.will("devices/own-7/up/status", b"my will", delay_s=delay_s)
            thief = site.client(site.pki.device("thief-7"), "thief-7")
            thief.will("devices/own-7/up/status", b"forged will", delay_s=delay_s)
            for client in (thief, honest):
                assert client.connect().up
            for client in (thief, honest):
                client.drop()
            assert server.wait_message("devices/own-7/up/status", b"my will")
            site.broker.wait_log("refused write: reason=another-device .*client_id=thief-7")
            settle()
            assert ("devices/own-7/up/status", b"forged will") not in server.messages


class TestClientIds:
    """The client id is the certificate's."""

    def test_anothers_client_id_is_refused_and_its_owner_stays(self, site: Site) -> None:
        with site.connected(site.pki.device("victim-8"), "victim-8") as victim:
            line = site.refusal(site.pki.device("thief-8"), "victim-8", "client-id-mismatch")
            assert "id=thief-8" in line
            assert "client_id=victim-8" in line
            assert victim.publish("devices/victim-8/up/hello", b"still here") in (0, 16)

    @pytest.mark.parametrize("client_id", ["", "thief-9x", "thief-", "thief-9.app", "THIEF-9", "srv-control", "a b"])
    def test_no_other_client_id_will_do(self, site: Site, client_id: str) -> None:
        client = site.client(site.pki.device("thief-9"), client_id).connect()
        try:
            assert client.refused
        finally:
            client.close()

    def test_a_clients_own_client_id_is_taken(self, site: Site) -> None:
        with site.connected(site.pki.device("own-9"), "own-9") as client:
            assert client.up

    def test_a_device_cannot_take_a_control_session_over(self, site: Site) -> None:
        with site.connected(site.pki.control(), "srv-control") as server:
            site.refusal(site.pki.device("thief-10"), "srv-control", "client-id-mismatch")
            assert server.up

    def test_app_clients_are_let_in_where_allowed_with_the_rights_of_their_device(
        self, pki: BrokerPki, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        with open_site(pki, tmp_path_factory.mktemp("apps"), app_clients=True) as broker:
            site = Site(pki, broker)
            leaf = pki.device("own-11")
            with site.connected(leaf, "own-11") as device, site.connected(leaf, "own-11.meter") as app:
                assert device.up
                assert app.subscribe("devices/own-11/down/#") == 1
                assert app.subscribe("devices/own-12/down/#") == NOT_AUTHORIZED
            for client_id in ("own-11.", "own-11.A", "own-11.a.b", "own-11-meter", "own-11." + "x" * 33):
                site.refusal(leaf, client_id, "client-id-mismatch")


class TestCertificates:
    """Everything below the root passes TLS; the issuer decides what it is here."""

    def test_a_birth_certificate_is_refused(self, site: Site) -> None:
        leaf = site.pki.device("dev-20", ca=site.pki.birth)
        site.refusal(leaf, "dev-20", "unknown-issuer")

    @pytest.mark.parametrize(
        ("name", "purpose"),
        [("line-1", oids.KP_STATION), ("alice", oids.KP_OPERATOR), ("srv-broker", oids.KP_BROKER), ("srv-x", None)],
        ids=["station", "operator", "broker", "no role at all"],
    )
    def test_another_infrastructure_role_is_refused(
        self, site: Site, name: str, purpose: x509.ObjectIdentifier | None
    ) -> None:
        purposes = [oids.CLIENT_AUTH] + ([purpose] if purpose is not None else [])
        leaf = site.pki.leaf(site.pki.infra, [name], purposes=purposes)
        site.refusal(leaf, name, "not-control")

    def test_an_infrastructure_certificate_named_like_a_device_is_no_device(self, site: Site) -> None:
        leaf = site.pki.leaf(
            site.pki.infra, ["dev-21"], uris=[site.pki.uri("dev-21")], purposes=[oids.CLIENT_AUTH, oids.KP_CONTROL]
        )
        site.refusal(leaf, "dev-21", "bad-name")

    def test_a_device_named_like_a_control_identity_is_refused(self, site: Site) -> None:
        site.refusal(site.pki.device("srv-control"), "srv-control", "reserved-name")

    def test_a_device_certificate_with_the_control_role_stays_a_device(self, site: Site) -> None:
        leaf = site.pki.leaf(
            site.pki.fleet, ["dev-22"], uris=[site.pki.uri("dev-22")], purposes=[oids.CLIENT_AUTH, oids.KP_CONTROL]
        )
        with site.connected(leaf, "dev-22") as client:
            assert client.subscribe("devices/+/up/#") == NOT_AUTHORIZED
            assert client.subscribe("devices/dev-22/down/#") == 1

    def test_a_foreign_cas_certificate_is_refused_by_tls(self, site: Site) -> None:
        client = site.client(site.pki.device("dev-23", ca=site.pki.foreign), "dev-23").connect()
        assert client.refused
        client.close()

    def test_no_certificate_is_refused_by_tls(self, site: Site) -> None:
        client = site.client(None, "dev-24").connect()
        assert client.refused
        client.close()

    def test_a_self_made_ca_below_a_device_certificate_is_refused_by_tls(self, site: Site) -> None:
        device = site.pki.device("dev-25")
        key = Ca.make("Test Fleet CA").key
        client = site.client(site.pki.device("dev-26", ca=Ca(device.certificate, key)), "dev-26").connect()
        assert client.refused
        client.close()

    def test_another_trust_domain_is_refused(self, site: Site) -> None:
        leaf = site.pki.leaf(site.pki.fleet, ["dev-27"], uris=["spiffe://other.test/device/dev-27"])
        site.refusal(leaf, "dev-27", "bad-uri")

    def test_a_certificate_that_begins_tomorrow_is_refused(self, site: Site) -> None:
        leaf = site.pki.leaf(
            site.pki.fleet, ["dev-28"], uris=[site.pki.uri("dev-28")], begins=timedelta(hours=1), lifetime=timedelta(2)
        )
        client = site.client(leaf, "dev-28").connect()
        assert client.refused
        client.close()

    def test_a_proper_device_and_a_proper_control_identity_are_let_in(self, site: Site) -> None:
        with (
            site.connected(site.pki.device("dev-29"), "dev-29") as device,
            site.connected(site.pki.control("srv-other"), "srv-other") as control,
        ):
            assert device.up
            assert control.up


class TestTakeOver:
    """A rotation: the new certificate takes the session over."""

    def test_a_new_certificate_takes_the_session_over_and_nothing_is_lost(self, site: Site) -> None:
        with site.connected(site.pki.control(), "srv-control") as server:
            old = site.client(site.pki.device("dev-40"), "dev-40").connect(session_expiry_s=3600)
            assert old.subscribe("devices/dev-40/down/#") == 1
            new = site.client(site.pki.device("dev-40"), "dev-40")
            for number in range(200):
                server.paho.publish("devices/dev-40/down/cmd", b"%d" % number, qos=1)
                if number == 100:
                    new.connect(clean_start=False, session_expiry_s=3600)
            assert new.up
            assert new.session_present
            assert old.wait_end()
            assert new.wait(lambda: ("devices/dev-40/down/cmd", b"199") in new.messages)
            got = {payload for _, payload in old.messages + new.messages}
            assert got == {b"%d" % number for number in range(200)}
            self._is_listed_with(server, "dev-40")
            new.close()

    def test_a_bad_new_certificate_leaves_the_old_connection_up(self, site: Site) -> None:
        with site.connected(site.pki.device("dev-41"), "dev-41") as old:
            site.refusal(site.pki.device("dev-41", ca=site.pki.birth), "dev-41", "unknown-issuer")
            assert old.publish("devices/dev-41/up/hello", b"still here") in (0, 16)

    @staticmethod
    def _is_listed_with(server: Client, client_id: str) -> None:
        server.publish("$CONTROL/birthmark/v1", b"1 list")
        assert server.wait(lambda: any(b'"client":"%s"' % client_id.encode() in p for _, p in server.messages))


class TestOtherProtocols:
    """What else Mosquitto speaks leads to the same gate."""

    @pytest.mark.parametrize("version", ["mqttv31", "mqttv311", "mqttv5"])
    def test_mosquittos_own_clients_of_every_version_are_judged_alike(self, site: Site, version: str) -> None:
        device_id = f"dev-{version}"
        leaf = site.pki.device(device_id)
        with site.connected(site.pki.control(), "srv-control") as server:
            server.subscribe("devices/+/up/#")
            assert self._publish(site, leaf, version, device_id, f"devices/{device_id}/up/hello", "mine") == 0
            assert server.wait_message(f"devices/{device_id}/up/hello", b"mine")
            before = len(site.broker.log())
            self._publish(site, leaf, version, device_id, "devices/dev-60/up/hello", "forged")
            site.broker.wait_log(f"refused write: reason=another-device id={device_id}", after=before)
            assert self._publish(site, leaf, version, "dev-60", "devices/dev-60/up/hello", "forged") != 0
            site.broker.wait_log(f"refused connect: reason=client-id-mismatch id={device_id}", after=before)
            settle()
            assert b"forged" not in [payload for _, payload in server.messages]

    @staticmethod
    def _publish(site: Site, leaf: Leaf, version: str, client_id: str, topic: str, payload: str) -> int:
        root = site.pki.folder / "root.pem"
        root.write_bytes(site.pki.root.certificate.public_bytes(Encoding.PEM))
        command = ["mosquitto_pub", "-h", "localhost", "-p", str(site.broker.port), "-V", version, "-q", "1"]
        command += ["--cafile", str(root), "--cert", str(leaf.chain), "--key", str(leaf.key)]
        command += ["-i", client_id, "-t", topic, "-m", payload]
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode

    def test_enhanced_authentication_is_no_way_around_the_gate(self, site: Site) -> None:
        context = site.pki.client_context(site.pki.device("thief-61"))
        method = b"\x15\x00\x01x"  # property 21, Authentication Method, "x"
        name = b"\x00\x06dev-61"
        body = b"\x00\x04MQTT\x05\x02\x00\x3c" + bytes([len(method)]) + method + name
        with (
            socket.create_connection(("localhost", site.broker.port), timeout=10) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            tls.sendall(bytes([0x10, len(body)]) + body)
            answer = tls.recv(1024)
        assert answer[0] == 0x20
        assert answer[3] == 0x8C  # bad authentication method


class TestLog:
    """One line for each refusal, and no more than a disk can take."""

    def test_a_line_names_the_reason_the_id_and_the_serial(self, site: Site) -> None:
        leaf: Leaf = site.pki.device("dev-50")
        line = site.refusal(leaf, "dev-51", "client-id-mismatch")
        assert f"id=dev-50 serial={leaf.serial} client_id=dev-51" in line
        assert "address=127.0.0.1" in line

    def test_a_client_that_tries_without_pause_is_counted_and_not_written_down_each_time(self, site: Site) -> None:
        with site.connected(site.pki.device("dev-52"), "dev-52") as client:
            before = len(site.broker.log())
            for _ in range(2000):
                client.paho.subscribe("devices/dev-53/down/#", qos=0)
            assert client.wait(lambda: len(client.subacks) == 2000)
            site.broker.wait_log("more refusals in the last second", after=before)
            assert site.broker.log()[before:].count("id=dev-52") < 2000
