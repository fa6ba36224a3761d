"""What changes while the broker runs: time, the deny file, the CA certificates, the broker itself."""

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from birthmark_server.broker.denyfile import Denials, DenyFile
from birthmark_server.broker.mosquitto import write_config
from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca import oids
from support.broker_pki import BrokerPki, Ca, Leaf
from support.gate_site import Site, open_site
from support.mosquitto import Broker
from support.mqtt_client import settle

pytestmark = pytest.mark.parts

CONNACK, NOT_AUTHORIZED, SUCCESS = 0x20, 135, 0


@pytest.fixture
def own(pki: BrokerPki, tmp_path: Path) -> Iterator[Site]:
    """A broker for one test."""
    with open_site(pki, tmp_path / "broker") as broker:
        yield Site(pki, broker)


def mqtt_connect(tls: ssl.SSLSocket, client_id: str) -> int:
    """Send CONNECT (MQTT 5) by hand and return the CONNACK's reason code, -1 where there is none."""
    name = client_id.encode()
    body = b"\x00\x04MQTT\x05\x02\x00\x3c\x00" + len(name).to_bytes(2, "big") + name
    tls.sendall(bytes([0x10, len(body)]) + body)
    answer = tls.recv(1024)
    return answer[3] if answer[:1] == bytes([CONNACK]) else -1


def dial(broker: Broker, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    """Open a TLS connection, resuming `session` where there is one."""
    plain = socket.create_connection(("localhost", broker.port), timeout=10)
    return context.wrap_socket(plain, server_hostname="localhost", session=session)


class TestExpiry:
    """A certificate opens nothing after its end, whatever the TLS layer remembers."""

    def test_a_resumed_tls_session_does_not_outlive_the_certificate(self, pki: BrokerPki, tmp_path: Path) -> None:
        with open_site(pki, tmp_path / "broker", session_tickets=True) as broker:
            leaf = pki.device("dev-1", lifetime=timedelta(seconds=5))
            context = pki.client_context(leaf)
            with dial(broker, context) as first:
                assert mqtt_connect(first, "dev-1") == SUCCESS  # reading the CONNACK brings the tickets along
                session = first.session
            with dial(broker, context, session) as second:
                assert second.session_reused
                assert mqtt_connect(second, "dev-1") == SUCCESS
                # A ticket is good for one connection (RFC 8446 appendix C.4); this one brought new ones.
                session = second.session
            time.sleep(max(0.0, leaf.certificate.not_valid_after_utc.timestamp() + 1.1 - time.time()))
            with dial(broker, context, session) as third:
                assert third.session_reused
                assert mqtt_connect(third, "dev-1") == NOT_AUTHORIZED
            assert leaf.serial in broker.wait_log("refused connect: reason=expired id=dev-1")
            # By a full handshake the same certificate does not even get so far.
            by_handshake = Site(pki, broker).client(leaf, "dev-1").connect()
            assert by_handshake.connack is None
            by_handshake.close()

    def test_our_configuration_gives_out_no_tickets(self, own: Site) -> None:
        context = own.pki.client_context(own.pki.device("dev-2"))
        with dial(own.broker, context) as first:
            assert mqtt_connect(first, "dev-2") == SUCCESS
            session = first.session
        assert session is None or not session.has_ticket

    def test_a_connected_client_is_cut_when_its_certificate_ends(self, own: Site) -> None:
        leaf = own.pki.device("dev-3", lifetime=timedelta(seconds=4))
        with own.connected(leaf, "dev-3") as ending, own.connected(own.pki.device("dev-4"), "dev-4") as other:
            assert "action" in ending.wait_end().lower()
            assert time.time() - leaf.certificate.not_valid_after_utc.timestamp() < 15
            own.broker.wait_log("cut: reason=expired id=dev-3")
            assert other.publish("devices/dev-4/up/hello", b"still here") in (0, 16)

    def test_whoever_is_cut_leaves_no_will(self, own: Site) -> None:
        with own.connected(own.pki.control(), "srv-control") as server:
            server.subscribe("devices/+/up/#")
            ending = own.client(own.pki.device("dev-5", lifetime=timedelta(seconds=3)), "dev-5")
            ending.will("devices/dev-5/up/status", b"offline")
            assert ending.connect().up
            assert ending.wait_end()
            settle()
            assert server.messages == []

    def test_a_renewed_connection_outlives_the_old_certificate(self, own: Site) -> None:
        old = own.client(own.pki.device("dev-6", lifetime=timedelta(seconds=3)), "dev-6").connect()
        assert old.up
        with own.connected(own.pki.device("dev-6"), "dev-6") as new:
            assert old.wait_end()
            time.sleep(4)
            assert new.publish("devices/dev-6/up/hello", b"still here") in (0, 16)


class TestDenyFile:
    """Revoked certificates and blocked devices."""

    def test_a_denied_serial_is_refused_and_the_devices_next_certificate_is_not(self, own: Site) -> None:
        leaf = own.pki.device("dev-10")
        with own.connected(leaf, "dev-10"):
            pass
        before = len(own.broker.log())
        own.broker.deny.add(serials=[leaf.serial])
        own.broker.wait_log("deny list version 2 in force, 1 entries", after=before)
        assert leaf.serial in own.refusal(leaf, "dev-10", "serial-denied")
        with own.connected(own.pki.device("dev-10"), "dev-10") as renewed:
            assert renewed.up

    def test_a_denied_device_is_refused_with_every_certificate(self, own: Site) -> None:
        own.broker.deny.add(devices=["dev-11"])
        own.broker.wait_log("deny list version 2 in force")
        own.refusal(own.pki.device("dev-11"), "dev-11", "device-denied")
        with own.connected(own.pki.device("dev-1"), "dev-1") as other:
            assert other.up

    def test_a_denied_device_that_is_connected_is_cut(self, own: Site) -> None:
        leaf = own.pki.device("dev-12")
        with (
            own.connected(leaf, "dev-12") as by_serial,
            own.connected(own.pki.device("dev-13"), "dev-13") as by_id,
            own.connected(own.pki.device("dev-14"), "dev-14") as other,
        ):
            own.broker.deny.add(serials=[leaf.serial], devices=["dev-13"])
            assert by_serial.wait_end()
            assert by_id.wait_end()
            own.broker.wait_log("cut: reason=serial-denied id=dev-12")
            own.broker.wait_log("cut: reason=device-denied id=dev-13")
            assert other.publish("devices/dev-14/up/hello", b"still here") in (0, 16)

    def test_sighup_reads_it_at_once(self, own: Site) -> None:
        before = len(own.broker.log())
        own.broker.reload()
        own.broker.wait_log("deny list version 1 in force", after=before)

    @pytest.mark.parametrize("content", [b"", b"garbage", b"birthmark-deny 2 9 100 200\nend 0\n", None], ids=repr)
    def test_the_list_in_force_stays_while_the_file_is_unreadable(self, own: Site, content: bytes | None) -> None:
        denied = own.pki.device("dev-15")
        own.broker.deny.add(serials=[denied.serial])
        own.broker.wait_log("version 2 in force")
        if content is None:
            own.broker.deny.path.unlink()
        else:
            own.broker.deny.path.write_bytes(content)
        own.broker.wait_log("the list in force stays: version 2, 1 entries")
        own.broker.reload()
        settle(1.2)
        own.refusal(denied, "dev-15", "serial-denied")
        before = len(own.broker.log())
        own.broker.deny.replace(Denials)
        own.broker.wait_log("in force, 0 entries", after=before)
        with own.connected(denied, "dev-15") as again:
            assert again.up

    def test_an_older_file_is_refused_and_one_written_anew_is_taken(self, own: Site) -> None:
        denied = own.pki.device("dev-17")
        older = own.broker.deny.path.read_bytes()
        own.broker.deny.add(serials=[denied.serial])
        own.broker.wait_log("version 2 in force")
        own.broker.deny.path.write_bytes(older)
        own.broker.wait_log("is older than the list in force")
        own.refusal(denied, "dev-17", "serial-denied")
        before = len(own.broker.log())
        own.broker.deny.replace(lambda: Denials(devices=["dev-18"]))
        own.broker.wait_log("in force, 1 entries", after=before)
        own.refusal(own.pki.device("dev-18"), "dev-18", "device-denied")

    def test_a_client_that_left_before_is_not_cut(self, own: Site) -> None:
        with own.connected(own.pki.device("dev-16"), "dev-16"):
            pass
        own.broker.deny.add(devices=["dev-16"])
        own.broker.wait_log("version 2 in force")
        assert "cut:" not in own.broker.log()


class TestTrust:
    """CA certificates come and go; the root stays."""

    @pytest.mark.parametrize("with_crls", [True, False])
    def test_a_new_fleet_ca_is_taken_up_by_sighup(self, pki: BrokerPki, tmp_path: Path, with_crls: bool) -> None:
        younger = Ca.make("Test Fleet CA 2", parent=pki.root)
        crls = (pki.fleet.crl(), pki.infra.crl()) if with_crls else ()
        more_crls = (*crls, younger.crl()) if with_crls else ()
        with open_site(pki, tmp_path / "broker", crls=crls) as broker:
            site = Site(pki, broker)
            leaf = pki.device("dev-20", ca=younger)
            refused = site.client(leaf, "dev-20").connect()
            assert refused.refused
            refused.close()
            with site.connected(pki.device("dev-21"), "dev-21") as old:
                both = (pki.fleet.certificate, younger.certificate)
                write_config(replace(broker.settings, fleet=both, crls=more_crls))
                before = len(broker.log())
                broker.reload()
                broker.wait_log("deny list version 1 in force", after=before)
                with site.connected(leaf, "dev-20") as new:
                    assert new.up
                assert old.publish("devices/dev-21/up/hello", b"still here") in (0, 16)

    def test_a_changed_ca_file_is_taken_up_without_a_signal(self, own: Site) -> None:
        younger = Ca.make("Test Fleet CA 2", parent=own.pki.root)
        both = (own.pki.fleet.certificate, younger.certificate)
        with own.connected(own.pki.control(), "srv-control") as server:
            server.subscribe("$CONTROL/birthmark/v1/response")
            before = len(own.broker.log())
            write_config(replace(own.broker.settings, fleet=both))
            own.broker.wait_log("2 Fleet CAs and 1 Infra CAs in force", after=before)
            server.publish("$CONTROL/birthmark/v1", b"1 issuers")
            named = b",".join(b'"%s"' % one.fingerprint(SHA256()).hex().encode() for one in both)
            infra = own.pki.infra.certificate.fingerprint(SHA256()).hex().encode()
            answer = b'{"tag":"1","ok":true,"fleet":[%s],"infra":["%s"],"stale":false}' % (named, infra)
            assert server.wait_message("$CONTROL/birthmark/v1/response", answer)

    def test_a_ca_file_that_can_not_stand_is_told_once_and_until_it_is_mended(self, own: Site) -> None:
        path = own.broker.settings.folder / "infra-ca.pem"
        good = path.read_bytes()
        with own.connected(own.pki.control(), "srv-control") as server:
            server.subscribe("$CONTROL/birthmark/v1/response")
            path.write_bytes(good[:-40])
            own.broker.wait_log("the CA certificates in force stay")
            server.publish("$CONTROL/birthmark/v1", b"1 stats")
            settle()
            assert b'"issuers_stale":true' in server.messages[-1][1]
            time.sleep(2.5)
            assert own.broker.log().count("the CA certificates in force stay") == 1
            path.write_bytes(good)
            own.broker.wait_log("1 Fleet CAs and 1 Infra CAs in force", after=own.broker.log().index("in force stay"))
            server.publish("$CONTROL/birthmark/v1", b"2 stats")
            settle()
            assert b'"issuers_stale":false' in server.messages[-1][1]

    def test_a_deny_list_by_a_new_infra_cas_signer_is_taken_once_that_ca_is(self, own: Site) -> None:
        younger = Ca.make("Test Infra CA 2", parent=own.pki.root)
        leaf = own.pki.leaf(younger, ["srv-deny-list"], purposes=[oids.KP_DENY_LIST])
        signer = DenySigner.load(leaf.chain, leaf.key)
        DenyFile(own.broker.deny.path, signer=signer).replace(lambda: Denials(devices=["dev-29"]))
        own.broker.wait_log("deny file .* is signed by nobody|deny file .* the list in force stays")
        write_config(replace(own.broker.settings, infra=(own.pki.infra.certificate, younger.certificate)))
        own.broker.wait_log("deny list version [0-9]{13} in force, 1 entries")

    def test_an_unreadable_ca_file_leaves_the_certificates_in_force(self, own: Site) -> None:
        (own.broker.settings.folder / "fleet-ca.pem").write_text("garbage")
        own.broker.reload()
        own.broker.wait_log("the CA certificates in force stay")
        with own.connected(own.pki.device("dev-22"), "dev-22") as client:
            assert client.up

    def test_a_crl_refuses_what_it_lists_and_a_ca_without_one(self, pki: BrokerPki, tmp_path: Path) -> None:
        revoked = pki.device("dev-23")
        crls = (pki.fleet.crl([revoked.certificate]), pki.infra.crl())
        with open_site(pki, tmp_path / "broker", crls=crls) as broker:
            site = Site(pki, broker)
            for leaf in (revoked, pki.device("dev-23", ca=pki.birth)):
                client = site.client(leaf, "dev-23").connect()
                assert client.refused
                client.close()
            with site.connected(pki.device("dev-23"), "dev-23") as renewed:
                assert renewed.up


class TestRestart:
    """Sessions outlive the broker, and so does what the gate made of their owners."""

    def test_messages_wait_for_a_device_over_a_restart(self, own: Site) -> None:
        leaf = own.pki.device("dev-30")
        # Mosquitto 2.0 writes only sessions to the disk that were begun without clean start.
        with own.connected(leaf, "dev-30", clean_start=False, session_expiry_s=3600) as device:
            device.subscribe("devices/dev-30/down/#")
        with own.connected(own.pki.control(), "srv-control") as server:
            server.publish("devices/dev-30/down/cmd", b"before")
        assert own.broker.stop() == 0
        own.broker.start()
        with own.connected(own.pki.control(), "srv-control") as server:
            assert server.publish("devices/dev-30/down/cmd", b"after") == 0
        with own.connected(leaf, "dev-30", clean_start=False, session_expiry_s=3600) as device:
            assert device.session_present
            assert device.wait_message("devices/dev-30/down/cmd", b"before")
            assert device.wait_message("devices/dev-30/down/cmd", b"after")

    def test_a_subscription_from_before_the_gate_brings_nothing(self, own: Site) -> None:
        conf = own.broker.written.conf
        with_gate = conf.read_text()
        lines = [line for line in with_gate.splitlines() if not line.startswith("plugin")]
        thief, control = own.pki.device("thief-1"), own.pki.control()
        own.broker.stop()
        conf.write_text("\n".join(lines).replace("allow_anonymous false", "allow_anonymous true"))
        own.broker.start()
        with own.connected(thief, "thief-1", clean_start=False, session_expiry_s=3600) as before:
            assert before.subscribe("devices/#") == 1
        own.broker.stop()
        conf.write_text(with_gate)
        own.broker.start()
        with (
            own.connected(control, "srv-control") as server,
            own.connected(own.pki.device("dev-1"), "dev-1") as device,
        ):
            server.subscribe("devices/+/up/#")
            device.publish("devices/dev-1/up/hello", b"while the thief is away")
            with own.connected(thief, "thief-1", clean_start=False, session_expiry_s=3600) as after:
                assert after.session_present
                device.publish("devices/dev-1/up/hello", b"while the thief is there")
                assert server.wait_message("devices/dev-1/up/hello", b"while the thief is there")
                own.broker.wait_log("refused read: reason=another-device id=thief-1")
                settle()
                assert after.messages == []

    def test_a_broker_that_lost_power_comes_up_again(self, own: Site) -> None:
        with own.connected(own.pki.device("dev-31"), "dev-31"):
            own.broker.kill()
        own.broker.start()
        with own.connected(own.pki.device("dev-31"), "dev-31") as client:
            assert client.up


class TestStart:
    """What the gate refuses to start with."""

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("deny", None, "deny file .* can't be read"),
            ("deny", "birthmark-deny 2 1 1800000000 1800000900\nend 0\n", "does not end with 'signer BASE64'"),
            ("fleet-ca.pem", None, "no certificate could be read"),
            ("fleet-ca.pem", "", "no certificate could be read"),
            ("infra-ca.pem", "fleet-ca.pem", "have the same key"),
            ("fleet-ca.pem", "leaf", "not a CA"),
        ],
    )
    def test_a_missing_or_wrong_file(self, own: Site, name: str, content: str | None, reason: str) -> None:
        folder = own.broker.settings.folder
        own.broker.stop()
        if content is None:
            (folder / name).unlink()
        elif content == "leaf":
            leaf: Leaf = own.pki.device("dev-40")
            (folder / name).write_text(leaf.chain.read_text())
        else:
            (folder / name).write_text((folder / content).read_text() if content.endswith(".pem") else content)
        with pytest.raises(RuntimeError, match=reason):
            own.broker.start()

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("plugin_opt_deny_file /other", "plugin_opt_deny_file: given twice"),
            ("plugin_opt_denyfile /deny", "plugin_opt_denyfile: there is no such option"),
            ("plugin_opt_app_clients maybe", "plugin_opt_app_clients: has a value that can't be read"),
        ],
    )
    def test_a_wrong_option(self, own: Site, line: str, reason: str) -> None:
        own.broker.stop()
        conf = own.broker.written.conf
        marker = "plugin_opt_trust_domain"
        conf.write_text(conf.read_text().replace(marker, f"{line}\n{marker}", 1))
        with pytest.raises(RuntimeError, match=reason):
            own.broker.start()
