"""What every BrokerControl must do, whatever broker is behind it. A back end's test class inherits these."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Any, Protocol

import pytest

from birthmark_server.broker.control import BrokerControl
from birthmark_server.broker.denyfile import Denials
from birthmark_server.broker.policy import Role
from birthmark_server.broker.trust_files import IssuersInForce, fingerprint
from birthmark_server.errors import Misconfigured
from support.broker_pki import BrokerPki, Ca, Leaf
from support.mqtt_client import WAIT_S, Client

STOLEN_MOST = 20


class BrokerSite(Protocol):
    """The broker under test, and clients that try things on it: gate_site.Site, and the like for other back ends."""

    @property
    def pki(self) -> BrokerPki: ...

    def client(self, leaf: Leaf | None, client_id: str, **more: Any) -> Client: ...

    def connected(self, leaf: Leaf, client_id: str, **more: Any) -> AbstractContextManager[Client]: ...


class Ear:
    """Hears what devices say: (device id, leaf, payload), in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, bytes]] = []

    def hear(self, device_id: str, leaf: str, payload: bytes, at: datetime) -> None:
        """A link's message handler."""
        self.heard.append((device_id, leaf, payload))


@contextmanager
def open_client(site: BrokerSite, leaf: Leaf, client_id: str, **more: Any) -> Iterator[Client]:
    """Run a client that may be refused. more: of site.client()."""
    client = site.client(leaf, client_id, **more).connect()
    try:
        yield client
    finally:
        client.close()


def until(condition: Callable[[], bool], timeout_s: float = WAIT_S) -> bool:
    """Wait until `condition()` holds; return whether it does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


class BrokerControlContract:
    """`site` runs the broker; `control` is the back end under test; `ear` is whom it tells what it hears.

    many: connections that don't go into one answer, where a broker answers in pages."""

    many = 120

    def test_a_certificate_of_another_ca_of_ours_lets_nobody_in(self, site: BrokerSite, control: BrokerControl) -> None:
        for ca in (site.pki.birth, site.pki.infra, site.pki.foreign):
            with open_client(site, site.pki.device("dev-12", ca=ca), "dev-12") as client:
                assert client.refused

    def test_the_server_hears_its_devices_and_no_device_can_steal_from_its_share(
        self, site: BrokerSite, control: BrokerControl, ear: Ear
    ) -> None:
        with (
            site.connected(site.pki.device("dev-thief"), "dev-thief") as thief,
            site.connected(site.pki.device("dev-9"), "dev-9") as device,
        ):
            thief.subscribe("$share/birthmark/devices/+/up/#")
            thief.subscribe("devices/+/up/#")
            said = [f"{number}".encode() for number in range(STOLEN_MOST)]
            for payload in said:
                device.publish("devices/dev-9/up/hello", payload)
            assert until(lambda: len([one for one in ear.heard if one[0] == "dev-9"]) >= len(said))
        assert [one for one in ear.heard if one[0] == "dev-9"] == [("dev-9", "hello", payload) for payload in said]
        assert thief.messages == []

    def test_nobody_speaks_for_another_device_or_listens_to_its_messages(
        self, site: BrokerSite, control: BrokerControl, ear: Ear
    ) -> None:
        with site.connected(site.pki.device("dev-10"), "dev-10") as victim:
            victim.subscribe("devices/dev-10/down/#")
            with open_client(site, site.pki.device("dev-11"), "dev-11") as other:
                other.subscribe("devices/dev-10/down/#")
                control.publish("devices/dev-10/down/cmd", b"for dev-10 only")
                assert victim.wait_message("devices/dev-10/down/cmd", b"for dev-10 only")
            with open_client(site, site.pki.device("dev-11"), "dev-11") as other:
                other.publish("devices/dev-10/up/hello", b"forged")
            with open_client(site, site.pki.device("dev-11"), "dev-10") as impostor:
                assert impostor.refused
            assert victim.publish("devices/dev-10/up/hello", b"still here") in (0, 16)
            assert until(lambda: ("dev-10", "hello", b"still here") in ear.heard)
        assert other.messages == []
        assert ("dev-10", "hello", b"forged") not in ear.heard

    def test_it_lists_who_is_connected_and_with_which_certificate(
        self, site: BrokerSite, control: BrokerControl
    ) -> None:
        leaf = site.pki.device("dev-1")
        with site.connected(leaf, "dev-1"):
            found = {one.identity: one for one in control.connections()}
        device = found["dev-1"]
        assert (device.role, device.serial) == (Role.DEVICE, leaf.serial)
        assert device.not_after == leaf.certificate.not_valid_after_utc
        assert until(lambda: "dev-1" not in [one.identity for one in control.connections()])

    def test_after_a_take_over_it_lists_the_new_certificate_only(
        self, site: BrokerSite, control: BrokerControl
    ) -> None:
        old = site.client(site.pki.device("dev-2"), "dev-2").connect()
        assert old.up
        leaf = site.pki.device("dev-2")
        with site.connected(leaf, "dev-2"):
            assert [one.serial for one in control.connections() if one.identity == "dev-2"] == [leaf.serial]
        old.close()

    def test_single_devices_can_be_asked_for(self, site: BrokerSite, control: BrokerControl) -> None:
        leaf = site.pki.device("dev-14")
        away = [f"away-{number}" for number in range(70)]  # more than one question holds
        with site.connected(leaf, "dev-14"), site.connected(site.pki.device("dev-15"), "dev-15"):
            found = control.connections_of([*away, "dev-14"])
        assert [(one.identity, one.serial) for one in found] == [("dev-14", leaf.serial)]
        assert control.connections_of([]) == []

    def test_a_list_of_many_is_whole(self, site: BrokerSite, control: BrokerControl) -> None:
        ids = [f"dev-{number}-" + "x" * 50 for number in range(self.many)]
        leaves = {device_id: site.pki.device(device_id) for device_id in ids}
        clients = [site.client(leaf, device_id).connect() for device_id, leaf in leaves.items()]
        try:
            assert {one.identity for one in control.connections()} >= set(ids)
        finally:
            for client in clients:
                client.close()

    def test_a_kick_cuts_one_device_and_no_other(self, site: BrokerSite, control: BrokerControl) -> None:
        with (
            site.connected(site.pki.device("dev-3"), "dev-3") as kicked,
            site.connected(site.pki.device("dev-4"), "dev-4") as other,
        ):
            assert control.kick("dev-3") == 1
            assert kicked.wait_end()
            assert other.publish("devices/dev-4/up/hello", b"still here") in (0, 16)
        assert control.kick("dev-3") == 0

    def test_a_denied_certificate_is_cut_and_stays_out_while_the_next_one_gets_in(
        self, site: BrokerSite, control: BrokerControl
    ) -> None:
        leaf = site.pki.device("dev-5")
        with site.connected(leaf, "dev-5") as client:
            denied = control.deny(serials=[leaf.serial])
            assert control.deny(serials=[leaf.serial]) == denied
            assert client.wait_end()
        again = site.client(leaf, "dev-5").connect()
        assert again.refused
        again.close()
        with site.connected(site.pki.device("dev-5"), "dev-5") as renewed:
            assert renewed.up

    def test_a_denied_device_stays_out_until_it_is_let_in_again(self, site: BrokerSite, control: BrokerControl) -> None:
        denied = control.deny(devices=["dev-6"])
        assert until(lambda: control.health().deny_version == denied.version)
        refused = site.client(site.pki.device("dev-6"), "dev-6").connect()
        assert refused.refused
        refused.close()
        allowed = control.set_denied(Denials)
        assert until(lambda: control.health().deny_version == allowed.version)
        with site.connected(site.pki.device("dev-6"), "dev-6") as client:
            assert client.up

    def test_its_health_counts(self, site: BrokerSite, control: BrokerControl) -> None:
        before = control.health()
        with site.connected(site.pki.device("dev-7"), "dev-7"):
            with open_client(site, site.pki.device("dev-13"), "dev-13") as nosy:
                nosy.subscribe("devices/#")
            with open_client(site, site.pki.device("dev-13"), "dev-7") as impostor:
                assert impostor.refused
            assert until(lambda: control.health().connected == before.connected + 1)
            after = control.health()
        assert after.accepted == before.accepted + 2
        assert after.refused == before.refused + 1
        assert after.refused_topics == before.refused_topics + 1
        assert 0 < after.connected <= after.capacity
        assert after.open
        assert not after.deny_stale
        assert 0 < after.round_trip_ms < 5000

    def test_what_it_publishes_reaches_the_device(self, site: BrokerSite, control: BrokerControl) -> None:
        with site.connected(site.pki.device("dev-8"), "dev-8") as device:
            device.subscribe("devices/dev-8/down/#")
            control.publish("devices/dev-8/down/cmd", b"do", expires_s=60)
            assert device.wait_message("devices/dev-8/down/cmd", b"do")

    def test_it_names_the_issuers_in_force(self, site: BrokerSite, control: BrokerControl) -> None:
        fleet, infra = fingerprint(site.pki.fleet.certificate), fingerprint(site.pki.infra.certificate)
        assert control.issuers() == IssuersInForce(frozenset({fleet}), frozenset({infra}))

    def test_a_new_fleet_ca_counts_when_update_trust_returns_and_until_it_is_taken_out(
        self, site: BrokerSite, control: BrokerControl
    ) -> None:
        pki, younger = site.pki, Ca.make("Test Fleet CA 2", parent=site.pki.root)
        roots, infra = [pki.root.certificate], [pki.infra.certificate]
        leaf = pki.device("dev-9", ca=younger)
        refused = site.client(leaf, "dev-9").connect()
        assert refused.refused
        refused.close()
        both = [pki.fleet.certificate, younger.certificate]
        with site.connected(pki.device("dev-10"), "dev-10") as old:
            seen = control.update_trust(roots=roots, fleet=both, infra=infra)
            assert seen.fleet == {fingerprint(one) for one in both}
            assert seen == control.issuers() == control.update_trust(roots=roots, fleet=both, infra=infra)
            with site.connected(leaf, "dev-9") as new:
                assert new.up
            assert old.publish("devices/dev-10/up/hello", b"still here") in (0, 16)
        control.update_trust(roots=roots, fleet=[younger.certificate], infra=infra)
        refused = site.client(pki.device("dev-10"), "dev-10").connect()
        assert refused.refused
        refused.close()
        with site.connected(leaf, "dev-9") as new:
            assert new.up

    def test_a_set_that_can_not_stand_changes_nothing(self, site: BrokerSite, control: BrokerControl) -> None:
        pki, before = site.pki, control.issuers()
        good = {"roots": [pki.root.certificate], "fleet": [pki.fleet.certificate], "infra": [pki.infra.certificate]}
        leaf, foreign = pki.device("dev-11").certificate, pki.foreign.certificate
        wrong: list[tuple[str, list[object]]] = [
            ("roots", []),
            ("fleet", []),
            ("infra", []),
            ("fleet", [pki.infra.certificate]),
            ("fleet", [pki.fleet.certificate] * 17),
            ("fleet", [foreign]),
            ("infra", [leaf]),
            ("roots", [pki.fleet.certificate]),
            ("links", [foreign]),
        ]
        for name, value in wrong:
            with pytest.raises(Misconfigured):
                control.update_trust(**{**good, name: value})  # type: ignore[arg-type]  # some are no certificates' lists
        assert control.issuers() == before
