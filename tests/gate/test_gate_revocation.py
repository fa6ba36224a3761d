"""Revocation that is felt: by command at once, by the list within a second, and by the lease where neither arrives."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from birthmark_server.broker.denyfile import Denials, DenyFile
from birthmark_server.broker.policy import ANSWER_TOPIC, CONTROL_TOPIC
from birthmark_server.broker.signing import DenySigner
from birthmark_server.ca import oids
from support.broker_pki import BrokerPki
from support.gate_site import Site, open_site
from support.mqtt_client import Client, settle

pytestmark = pytest.mark.parts

PENDING_MAX = 1024  # server/mosquitto_gate/pending.h


@pytest.fixture
def own(pki: BrokerPki, tmp_path: Path) -> Iterator[Site]:
    """A broker for one test."""
    with open_site(pki, tmp_path / "broker") as broker:
        yield Site(pki, broker)


def ask(server: Client, command: str) -> dict[str, object]:
    """Ask the gate, and return its answer."""
    tag = command.split()[0]
    server.publish(CONTROL_TOPIC, command.encode())
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for topic, payload in list(server.messages):
            if topic == ANSWER_TOPIC and json.loads(payload)["tag"] == tag:
                answer: dict[str, object] = json.loads(payload)
                return answer
        time.sleep(0.005)
    raise AssertionError(f"no answer to {command}")


class TestCommand:
    """`revoke` and `block` run ahead of a list that is on the disk."""

    def test_a_revoked_certificate_is_cut_and_stays_out_before_any_list_says_so(self, own: Site) -> None:
        leaf = own.pki.device("dev-1")
        with own.connected(own.pki.control(), "srv-control") as server:
            with own.connected(leaf, "dev-1") as device, own.connected(own.pki.device("dev-2"), "dev-2") as other:
                assert ask(server, f"a revoke {leaf.serial} 2")["kicked"] == 1
                assert device.wait_end()
                assert other.up
            own.refusal(leaf, "dev-1", "serial-denied")
            assert ask(server, f"b revoke {leaf.serial} 2") == {"tag": "b", "ok": True, "kicked": 0}
            with own.connected(own.pki.device("dev-1"), "dev-1") as renewed:
                assert renewed.up
        assert "version 2 in force" not in own.broker.log()

    def test_a_blocked_device_is_cut_and_stays_out_with_every_certificate(self, own: Site) -> None:
        with own.connected(own.pki.control(), "srv-control") as server:
            with own.connected(own.pki.device("dev-3"), "dev-3") as device:
                assert ask(server, "a block dev-3 2")["kicked"] == 1
                assert device.wait_end()
            own.refusal(own.pki.device("dev-3"), "dev-3", "device-denied")

    def test_once_its_list_is_in_force_the_list_alone_decides(self, own: Site) -> None:
        leaf = own.pki.device("dev-4")
        with own.connected(own.pki.control(), "srv-control") as server:
            ask(server, f"a revoke {leaf.serial} 2")
            own.broker.deny.add(devices=["another"])
            own.broker.wait_log("version 2 in force")
            with own.connected(leaf, "dev-4") as again:
                # A command that comes late, after the list that it ran ahead of, changes nothing.
                assert ask(server, f"b revoke {leaf.serial} 2")["kicked"] == 0
                assert again.up

    def test_an_older_list_does_not_take_back_what_was_told(self, own: Site) -> None:
        leaf = own.pki.device("dev-5")
        with own.connected(own.pki.control(), "srv-control") as server:
            ask(server, f"a revoke {leaf.serial} 3")
            own.broker.deny.add(devices=["another"])
            own.broker.wait_log("version 2 in force")
            own.refusal(leaf, "dev-5", "serial-denied")

    def test_a_control_identity_that_is_revoked_is_cut_too_even_by_its_own_command(self, own: Site) -> None:
        replica, asking = own.pki.control("srv-replica"), own.pki.control()
        with own.connected(replica, "srv-replica") as other, own.connected(asking, "srv-control") as server:
            assert ask(server, f"a revoke {replica.serial} 2")["kicked"] == 1
            assert other.wait_end()
            assert ask(server, f"b revoke {asking.serial} 2")["kicked"] == 0
            assert server.wait_end()
        own.broker.wait_log("cut: reason=serial-denied id=srv-control")

    def test_a_full_table_forgets_nothing_and_says_so(self, own: Site) -> None:
        leaf = own.pki.device("dev-6")
        with own.connected(own.pki.control(), "srv-control") as server:
            ask(server, f"a revoke {leaf.serial} 2")
            for number in range(PENDING_MAX - 1):
                server.paho.publish(CONTROL_TOPIC, f"x block other-{number} 2".encode(), qos=1)
            assert ask(server, "b block one-more 2") == {"tag": "b", "ok": False, "error": "full"}
            own.refusal(leaf, "dev-6", "serial-denied")

    def test_nobody_else_can_command(self, own: Site) -> None:
        with (
            own.connected(own.pki.device("dev-7"), "dev-7") as thief,
            own.connected(own.pki.device("dev-8"), "dev-8") as other,
        ):
            thief.publish(CONTROL_TOPIC, b"a block dev-8 2")
            own.broker.wait_log("refused write: reason=topic-reserved id=dev-7")
            settle()
            assert other.up


class TestLease:
    """A broker that hears nothing lets nobody in."""

    LEASE_S = 4

    @pytest.fixture
    def short(self, pki: BrokerPki, tmp_path: Path) -> Iterator[Site]:
        """A broker whose list is believed for four seconds."""
        with open_site(pki, tmp_path / "broker", lease_s=self.LEASE_S) as broker:
            yield Site(pki, broker)

    def test_after_it_new_connections_are_refused_and_what_is_connected_stays(self, short: Site) -> None:
        with short.connected(short.pki.device("dev-1"), "dev-1") as device:
            short.broker.wait_log("lease of deny list version 1 is over", timeout_s=self.LEASE_S + 3)
            short.refusal(short.pki.device("dev-2"), "dev-2", "lease-over")
            short.refusal(short.pki.control(), "srv-control", "lease-over")
            assert device.publish("devices/dev-1/up/hello", b"still here") in (0, 16)
            before = len(short.broker.log())
            short.broker.deny.renew()
            short.broker.wait_log("the lease runs: new connections are let in again", after=before)
            with short.connected(short.pki.device("dev-2"), "dev-2") as again:
                assert again.up

    def test_what_is_connected_is_cut_by_a_list_that_comes_late(self, short: Site) -> None:
        leaf = short.pki.device("dev-3")
        with short.connected(leaf, "dev-3") as device:
            short.broker.wait_log("lease of deny list version 1 is over", timeout_s=self.LEASE_S + 3)
            short.broker.deny.add(serials=[leaf.serial])
            assert device.wait_end()

    def test_a_broker_that_was_down_during_a_revocation_lets_nobody_in_until_it_has_heard(self, short: Site) -> None:
        revoked = short.pki.device("dev-4")
        kept = short.broker.deny.path.read_bytes()
        short.broker.stop()
        short.broker.deny.add(serials=[revoked.serial])
        fresh = short.broker.deny.path.read_bytes()
        short.broker.deny.path.write_bytes(kept)  # it is cut off: the new list did not reach it
        time.sleep(self.LEASE_S + 0.5)
        short.broker.start()
        short.refusal(revoked, "dev-4", "lease-over")
        short.refusal(short.pki.device("dev-5"), "dev-5", "lease-over")
        short.broker.deny.path.write_bytes(fresh)
        short.broker.wait_log("deny list version 2 in force")
        short.broker.deny.renew()
        short.broker.wait_log("the lease runs")
        short.refusal(revoked, "dev-4", "serial-denied")
        with short.connected(short.pki.device("dev-5"), "dev-5") as other:
            assert other.up

    def test_the_same_list_again_is_no_new_lease(self, short: Site) -> None:
        time.sleep(self.LEASE_S / 2)
        before = len(short.broker.log())
        short.broker.reload()
        line = short.broker.wait_log(r"deny list version 1 in force.*lease \d+ s", after=before)
        assert int(line.split()[-2]) < self.LEASE_S
        short.broker.wait_log("lease of deny list version 1 is over", timeout_s=self.LEASE_S)

    def test_a_list_of_the_clocks_future_opens_nothing(self, own: Site) -> None:
        ahead = DenyFile(own.broker.deny.path, signer=own.pki.deny_signer, clock=lambda: time.time() + 600)
        ahead.add(devices=["another"])
        own.broker.wait_log("is of this clock's future")
        own.refusal(own.pki.device("dev-6"), "dev-6", "clock-behind")
        own.broker.deny.renew()  # by a right clock
        own.broker.wait_log("the lease runs")
        with own.connected(own.pki.device("dev-6"), "dev-6") as device:
            assert device.up


class TestSignature:
    """Who may write the file is not who may sign it."""

    @pytest.mark.parametrize("who", ["stranger", "control", "nobody"])
    def test_a_forged_list_opens_nothing(self, own: Site, tmp_path: Path, who: str) -> None:
        denied = own.pki.device("dev-1")
        own.broker.deny.add(serials=[denied.serial])
        own.broker.wait_log("version 2 in force")
        honest = own.broker.deny.path.read_bytes()
        if who == "stranger":
            forged = DenyFile(tmp_path / "deny", signer=BrokerPki(tmp_path).deny_signer)
            forged.replace(Denials)
            own.broker.deny.path.write_bytes(forged.path.read_bytes())
            own.broker.wait_log("has a signer that no Infra CA certified; the list in force stays: version 2")
        elif who == "control":
            leaf = own.pki.control()
            key = load_pem_private_key(leaf.key.read_bytes(), None)
            forger = DenySigner(key, leaf.certificate, own.pki.infra.certificate)  # type: ignore[arg-type]  # an EC key
            own.broker.deny.path.write_bytes(forger.sign(honest[: honest.index(b"signer ")].replace(b" 2 ", b" 3 ", 1)))
            own.broker.wait_log("has a signer without the key purpose of one")
        else:
            own.broker.deny.path.write_bytes(honest.replace(f"serial {denied.serial}\n".encode(), b""))
            own.broker.wait_log("has a signature that does not fit")
        own.refusal(denied, "dev-1", "serial-denied")

    def test_a_signer_that_was_revoked_signs_nothing_more(self, own: Site) -> None:
        leaf = own.pki.leaf(own.pki.infra, ["srv-deny-list"], purposes=[oids.KP_DENY_LIST])
        following = DenyFile(own.broker.deny.path, signer=DenySigner.load(leaf.chain, leaf.key))
        following.add(serials=[f"{own.pki.deny_signer.certificate.serial_number:x}"])
        own.broker.wait_log("version 2 in force")
        own.broker.deny.add(devices=["dev-2"])
        own.broker.wait_log("has a signer that the list in force denies")
        with own.connected(own.pki.device("dev-2"), "dev-2") as device:
            assert device.up
