"""Two Mosquittos with our gate, as one broker: the contract, and what happens while one of them is down or stalls."""

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from birthmark_server.broker.assignment import Shard
from birthmark_server.broker.control import BrokerControl, Connection
from birthmark_server.broker.denyfile import Denials, DenyFile, DenyList
from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.broker.link import BrokerLink, MessageHandler
from birthmark_server.broker.shards import ShardedControl
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.encoding import read_json
from broker.contract import BrokerControlContract, Ear, until
from support.broker_pki import BrokerPki, Leaf
from support.gate_site import Site, open_site
from support.mqtt_client import Client

pytestmark = pytest.mark.parts

SHARDS = ("mqtt-1", "mqtt-2")


@dataclass
class ShardedSite:
    """Brokers by name, and clients that go where they belong. deny: the server's list, copied to both."""

    pki: BrokerPki
    sites: dict[str, Site]
    deny: DenyFile

    @property
    def shards(self) -> list[Shard]:
        """As the settings would have them."""
        return [Shard(name, BrokerEndpoint("localhost", site.broker.port)) for name, site in self.sites.items()]

    @contextmanager
    def control(self, ear: Ear) -> Iterator[ShardedControl]:
        """A control over both, connected."""

        def make_link(shard: Shard, heard: MessageHandler | None) -> BrokerLink:
            return BrokerLink(
                host="localhost",
                port=shard.endpoint.port,
                client_id="srv-control",
                context=self.pki.client_context(self.pki.control()),
                on_message=heard,
            )

        control = ShardedControl(shards=self.shards, make_link=make_link, on_message=ear.hear, deny_file=self.deny)
        control.start()
        try:
            assert until(lambda: control.all_live)
            control.update_trust(  # a test before may have left another one
                roots=[self.pki.root.certificate],
                fleet=[self.pki.fleet.certificate],
                infra=[self.pki.infra.certificate],
            )
            yield control
        finally:
            control.stop()

    def home(self, client_id: str) -> str:
        """The name of the device's broker."""
        with ExitStack() as stack:
            control = ShardedControl(
                shards=self.shards, make_link=lambda *_: _NoLink(), on_message=None, deny_file=None
            )
            stack.callback(control.stop)
            return control.assignment.of(client_id).name

    def at_home(self, client_id: str) -> Site:
        return self.sites[self.home(client_id)]

    def elsewhere(self, client_id: str) -> Site:
        """A broker that is not the device's."""
        return next(site for name, site in self.sites.items() if name != self.home(client_id))

    def client(self, leaf: Leaf | None, client_id: str, **more: Any) -> Client:
        return self.at_home(client_id).client(leaf, client_id, **more)

    def connected(self, leaf: Leaf, client_id: str, **more: Any) -> AbstractContextManager[Client]:
        return self.at_home(client_id).connected(leaf, client_id, **more)

    def refusal(self, leaf: Leaf | None, client_id: str, reason: str, **more: Any) -> str:
        return self.at_home(client_id).refusal(leaf, client_id, reason, **more)


class _NoLink:
    """A link to nobody, for what needs none."""

    live = False

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def wait_tried(self, timeout_s: float) -> bool:
        return False

    def ask(self, command: str, *, timeout_s: float = 5.0) -> Any:
        raise BrokerUnavailable("nobody there")

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        raise BrokerUnavailable("nobody there")


@pytest.fixture(scope="module")
def brokers(pki: BrokerPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShardedSite]:
    """Both, for all tests of this module: a test that ends one starts it again."""
    with ExitStack() as stack:
        sites = {name: Site(pki, stack.enter_context(open_site(pki, tmp_path_factory.mktemp(name)))) for name in SHARDS}
        copies = [site.broker.deny.path for site in sites.values()]
        deny = DenyFile(tmp_path_factory.mktemp("server") / "deny", signer=pki.deny_signer, copies=copies)
        deny.create()
        yield ShardedSite(pki, sites, deny)


@pytest.fixture
def site(brokers: ShardedSite) -> ShardedSite:
    return brokers


@pytest.fixture
def control(site: ShardedSite, ear: Ear) -> Iterator[ShardedControl]:
    with site.control(ear) as control:
        yield control


class TestShardedControl(BrokerControlContract):
    """The same as of one broker."""

    @pytest.fixture
    def control(self, site: ShardedSite, ear: Ear) -> Iterator[BrokerControl]:
        with site.control(ear) as control:
            yield control


def id_at(site: ShardedSite, name: str, *, prefix: str) -> str:
    """A device id that belongs to the broker `name`."""
    return next(one for one in (f"{prefix}-{number}" for number in range(100)) if site.home(one) == name)


def test_it_says_at_which_broker_each_device_is(site: ShardedSite, control: ShardedControl) -> None:
    first, second = (id_at(site, name, prefix="node") for name in SHARDS)
    with site.connected(site.pki.device(first), first), site.connected(site.pki.device(second), second):
        found = {one.identity: one.node for one in control.connections()}
    assert (found[first], found[second]) == SHARDS


def test_a_device_at_another_broker_is_heard_answered_and_told_where_it_belongs(
    site: ShardedSite, control: ShardedControl, ear: Ear
) -> None:
    with site.elsewhere("astray").connected(site.pki.device("astray"), "astray") as device:
        device.subscribe("devices/astray/down/#")
        control.publish("devices/astray/down/cmd", b"to wherever it is")
        assert device.wait_message("devices/astray/down/cmd", b"to wherever it is")
        device.publish("devices/astray/up/hello", b"here")
        assert until(lambda: ("astray", "hello", b"here") in ear.heard)
        endpoint = BrokerEndpoint("localhost", site.at_home("astray").broker.port)
        assert device.wait_message("devices/astray/down/broker", endpoint.encode())
        control.publish("devices/astray/down/cmd", b"an answer")
        assert device.wait_message("devices/astray/down/cmd", b"an answer")
        assert control.kick("astray") == 1


def test_at_its_own_broker_it_is_told_nothing(site: ShardedSite, control: ShardedControl, ear: Ear) -> None:
    with site.connected(site.pki.device("at-home"), "at-home") as device:
        device.subscribe("devices/at-home/down/#")
        device.publish("devices/at-home/up/hello", b"here")
        assert until(lambda: ("at-home", "hello", b"here") in ear.heard)
        control.publish("devices/at-home/down/cmd", b"last")
        assert device.wait_message("devices/at-home/down/cmd", b"last")
        assert device.messages == [("devices/at-home/down/cmd", b"last")]


@pytest.mark.alone
def test_one_that_is_down_holds_up_none_and_lets_nobody_revoked_in_when_it_is_back(
    site: ShardedSite, control: ShardedControl
) -> None:
    there, gone = (id_at(site, name, prefix="down") for name in SHARDS)
    leaf, lost = site.pki.device(there), site.pki.device(gone)
    site.sites["mqtt-2"].broker.stop()
    assert until(lambda: not control.all_live)
    with site.connected(leaf, there) as device:
        assert [one.identity for one in control.connections() if one.identity == there] == [there]
        assert control.health().unreachable == ("mqtt-2",)
        assert [(one.shard.name, bool(one.problem)) for one in control.each_health()] == [
            ("mqtt-1", False),
            ("mqtt-2", True),
        ]
        device.subscribe(f"devices/{there}/down/#")
        control.publish(f"devices/{there}/down/cmd", b"do")
        assert device.wait_message(f"devices/{there}/down/cmd", b"do")
        began = time.monotonic()
        control.deny(serials=[leaf.serial, lost.serial])
        assert device.wait_end()
        assert time.monotonic() - began < 1.0
    site.sites["mqtt-2"].broker.start()
    site.sites["mqtt-2"].refusal(lost, gone, "serial-denied")


def test_one_whose_list_nobody_brings_lets_nobody_in(site: ShardedSite, control: ShardedControl) -> None:
    """A broker that was cut off during a revocation has an old list, whose lease is over."""
    gone = id_at(site, "mqtt-2", prefix="stale")
    lost, broker = site.pki.device(gone), site.sites["mqtt-2"].broker
    broker.stop()
    minutes_ago = DenyFile(broker.deny.path, signer=site.pki.deny_signer, lease_s=60, clock=lambda: time.time() - 200)
    minutes_ago.renew()
    broker.start()
    site.sites["mqtt-2"].refusal(lost, gone, "lease-over")
    control.set_denied(Denials)
    assert until(lambda: not control.health().unreachable and control.health().open)
    with site.connected(lost, gone) as device:
        assert device.up


@pytest.mark.alone
def test_one_that_stalls_holds_up_none(site: ShardedSite, control: ShardedControl) -> None:
    there = id_at(site, "mqtt-1", prefix="stall")
    leaf = site.pki.device(there)
    stalled = site.sites["mqtt-2"].broker
    with site.connected(leaf, there) as device:
        assert stalled.process is not None
        stalled.process.send_signal(signal.SIGSTOP)
        try:
            ahead = DenyList(site.deny.read().version + 1)  # of the file, so that this can't be what cuts
            denials = [
                threading.Thread(target=control.tell, args=(ahead,), kwargs={"devices": [], "serials": [serial]})
                for serial in (*(f"{number}" for number in range(1, 9)), leaf.serial)
            ]
            began = time.monotonic()
            for one in denials:  # more at once than it has threads for each
                one.start()
            assert device.wait_end()
            assert time.monotonic() - began < 1.0
            for one in denials:
                one.join()
            assert control.health().unreachable == ("mqtt-2",)
        finally:
            stalled.process.send_signal(signal.SIGCONT)
    assert until(lambda: control.health().unreachable == ())


class _BadLink(_NoLink):
    """A broker in hostile hands: what it answers is well-formed, and no gate's."""

    def __init__(self, answer: Callable[[str], bytes]) -> None:
        self._answer = answer

    def ask(self, command: str, *, timeout_s: float = 5.0) -> Any:
        return read_json(self._answer(command))


def a_page(command: str, *, entries: int = 0) -> bytes:
    """A page that is never the last one."""
    one = {"client": "dev-1", "id": "dev-1", "role": "device", "serial": "1f", "not_after": 2_000_000_000}
    following = int(command.split()[1]) + max(1, entries)
    return json.dumps({"connections": [one] * entries, "next": following}).encode()


@pytest.mark.parametrize(
    "answer", [lambda _: b'{"connections": 7}', a_page, partial(a_page, entries=1), lambda _: b'{"next": 0}']
)
def test_one_that_says_nonsense_holds_up_none(answer: Callable[[str], bytes]) -> None:
    honest = a_page("list 0", entries=1).replace(b"dev-1", b"dev-9").replace(b'"next": 1', b'"next": 0')
    links = {"mqtt-1": _BadLink(lambda _: honest), "mqtt-2": _BadLink(answer)}
    control = ShardedControl(
        shards=[Shard(name, BrokerEndpoint("localhost", 8883)) for name in SHARDS],
        make_link=lambda shard, _: links[shard.name],
        on_message=None,
        deny_file=None,
    )
    seen: list[Connection] = []
    asking = threading.Thread(target=lambda: seen.extend(control.connections()), daemon=True)
    asking.start()
    asking.join(10)
    assert [one.client_id for one in seen] == ["dev-9"]
    control.stop()


def test_where_none_answers_that_is_an_error(site: ShardedSite) -> None:
    control = ShardedControl(shards=site.shards, make_link=lambda *_: _NoLink(), on_message=None, deny_file=None)
    for ask in (control.connections, control.health, lambda: control.kick("dev-1")):
        with pytest.raises(BrokerUnavailable):
            ask()
    with pytest.raises(BrokerUnavailable):
        control.publish("devices/dev-1/down/cmd", b"")
    control.stop()
