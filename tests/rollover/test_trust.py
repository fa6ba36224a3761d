"""Bundles are offered, pushed in portions, and acknowledged; what can't be read changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from birthmark_server.authorities import PeerReport
from birthmark_server.broker.control import Connection
from birthmark_server.broker.errors import BrokerUnavailable
from birthmark_server.broker.policy import Role
from birthmark_server.broker.trust_files import IssuersInForce
from birthmark_server.ca.profile import CaKind
from birthmark_server.errors import Misconfigured
from birthmark_server.rollover import trust
from birthmark_server.rollover.brokers import BrokerTrust
from birthmark_server.rollover.trust import TrustBook, TrustPush
from birthmark_wire import jws
from birthmark_wire.trust import TRUST_TYPE, TrustAck, TrustBundle
from support.core import Core
from support.server import Clock, Installation


@dataclass
class Broker:
    """What it shows, and what it carried."""

    ids: list[str] = field(default_factory=list)
    live: bool = True
    looks: int = 0
    carried: list[tuple[str, bytes]] = field(default_factory=list)

    def connections(self) -> list[Connection]:
        """As BrokerControl."""
        self.looks += 1
        until = Clock()()
        shown = [Connection(one, one, Role.DEVICE, "1", until) for one in self.ids]
        return [*shown, Connection("srv-control", "srv-control", Role.CONTROL, "2", until)]

    def publish(self, topic: str, payload: bytes, *, expires_s: int | None = None) -> None:
        """As BrokerControl."""
        if not self.live:
            raise BrokerUnavailable("down")
        self.carried.append((topic, payload))


@pytest.fixture
def core(site: Installation) -> Iterator[Core]:
    with site.services(Clock()):
        pass  # the record begins before the new CA is there
    site.pki.add(CaKind.FLEET, label="2027")
    clock = Clock()
    with site.services(clock, broker=site.broker_lines(8883)) as services:
        yield Core(site, services, clock)


def stage(core: Core) -> None:
    core.services.rollover.stage("fleet-2027", by="alice")
    core.services.record.refresh()


def devices(core: Core, count: int) -> list[str]:
    found = []
    for _ in range(count):
        tpm, device_id = core.listed()
        core.enroll(tpm)
        found.append(device_id)
    return sorted(found)


def push(core: Core, broker: Broker) -> TrustPush:
    return TrustPush(
        store=core.services.authorities,
        book=core.services.trust,
        publisher=broker,
        broker=broker,
        now=core.clock,
    )


def told(broker: Broker) -> list[str]:
    names = [topic for topic, _ in broker.carried]
    broker.carried.clear()
    return [name.split("/")[1] for name in names if name.endswith("/down/trust")]


def test_there_is_no_bundle_before_a_ca_was_staged(core: Core) -> None:
    (device_id,) = devices(core, 1)
    broker = Broker([device_id])
    assert core.services.trust.current is None
    assert push(core, broker).run() == 0
    assert (broker.looks, told(broker)) == (0, [])
    assert core.services.trust.offer(device_id) is None


def test_a_new_version_is_pushed_in_portions_and_again_to_who_does_not_answer(
    core: Core, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "PORTION", 2)
    ids = devices(core, 5)
    broker = Broker([*ids, "stranger"])
    pushing = push(core, broker)
    stage(core)
    portions = []
    while pushing.run():
        portions.append(told(broker))
    portions.append(told(broker))
    assert sorted(name for portion in portions for name in portion) == ids
    assert max(map(len, portions)) == 2
    for device_id in ids[:4]:
        core.services.rotation.handle(device_id, "trust", TrustAck(1).encode(), core.clock())
    core.clock.forward(seconds=10)
    assert pushing.run() == 0  # it looks again after a while only
    assert broker.looks == 1
    core.clock.forward(seconds=50)
    while pushing.run():
        pass
    assert told(broker) == ids[4:]


def test_a_broker_that_is_down_keeps_nobody_from_being_told_later(core: Core) -> None:
    ids = devices(core, 1)
    broker = Broker(ids, live=False)
    pushing = push(core, broker)
    stage(core)
    assert pushing.run() == 0
    broker.live = True
    pushing.run()
    assert told(broker) == ids


def test_a_bundle_is_offered_until_it_is_acknowledged_and_after_a_new_birth_again(core: Core) -> None:
    tpm, device_id = core.listed()
    core.enroll(tpm)
    stage(core)
    offered = core.services.trust.offer(device_id)
    assert offered is not None
    bundle = TrustBundle.decode(jws.decode(offered, message_type=TRUST_TYPE).payload)
    assert bundle.version == 1
    assert len(bundle.issuers) == 3
    core.services.rotation.handle(device_id, "trust", TrustAck(0, "trust-unlinked", "no").encode(), core.clock())
    assert core.services.trust.offer(device_id) == offered
    core.services.rotation.handle(device_id, "trust", TrustAck(1).encode(), core.clock())
    assert core.services.trust.offer(device_id) is None
    core.enroll(tpm)
    assert core.services.trust.offer(device_id) == offered


def test_garbage_is_on_record_and_acknowledges_nothing(core: Core) -> None:
    (device_id,) = devices(core, 1)
    stage(core)
    for payload in (b"", b"garbage", TrustAck(1).encode() + b" x", b'{"protocol":"birthmark/1","version":-1}'):
        assert core.services.rotation.handle(device_id, "trust", payload, core.clock()) == ()
    assert core.services.authorities.trust_of(device_id) == 0
    assert len(core.refusals("message-unreadable")) == 4


def test_a_server_without_a_command_key_gives_no_bundle_out(core: Core) -> None:
    stage(core)
    book = TrustBook(store=core.services.authorities, sign=None)
    book.refresh()
    assert book.current is None
    assert book.bundle is not None  # its broker is given it all the same


@dataclass
class Gate:
    """A broker's control: what it goes by, or why it would not take it."""

    live: bool = True
    refuses: Exception | None = None
    given: int = 0
    fleet: list[str] = field(default_factory=list)
    seen: IssuersInForce = field(default_factory=lambda: IssuersInForce(frozenset(), frozenset()))

    def update_trust(self, *, fleet: list[x509.Certificate], **more: object) -> IssuersInForce:
        """As BrokerControl."""
        if self.refuses:
            raise self.refuses
        self.given += 1
        self.fleet = [one.fingerprint(SHA256()).hex() for one in fleet]
        return self.seen

    def each_issuers(self) -> dict[str, IssuersInForce]:
        """As ShardedControl."""
        return {"mqtt:8883": self.seen}


def test_a_broker_is_given_no_ca_that_its_root_has_revoked(site: Installation) -> None:
    clock = Clock()
    with site.services(clock):
        pass
    site.pki.add(CaKind.FLEET, label="2027")
    with site.services(clock, broker=site.broker_lines(8883)) as services:
        old, new = services.authority.fleet, services.authority.issuer_named("fleet-2027")
        services.rollover.stage(new.name, by="alice")
        services.rollover.activate(new.name, by="alice", force=True)
    assert _fleet_given(site, clock) == {old.sha256, new.sha256}
    site.pki.revoke(old.name)  # its key was stolen; its certificates stand, and so it can't be retired
    assert _fleet_given(site, clock) == {new.sha256}


def _fleet_given(site: Installation, clock: Clock) -> set[str]:
    """Start a server; return the Fleet CAs that it gives to its broker."""
    gate = Gate()
    with site.services(clock, broker=site.broker_lines(8883)) as services:
        BrokerTrust(
            store=services.authorities,
            bundle=lambda: services.trust.bundle,
            control=gate,
            gives=True,
            now=clock,
            revoked=services.authority.revoked,
        ).run()
    return set(gate.fleet)


def test_a_broker_that_does_not_take_the_bundle_is_on_record_with_why_and_given_it_again(core: Core) -> None:
    gate, store = Gate(refuses=Misconfigured("disk full")), core.services.authorities
    work = BrokerTrust(store=store, bundle=lambda: core.services.trust.bundle, control=gate, gives=True, now=core.clock)
    work.run()
    assert store.brokers(since=core.clock()) == [PeerReport("mqtt:8883", (), core.clock())]
    stage(core)
    work.run()
    assert store.brokers(since=core.clock())[0].detail == "disk full"
    gate.refuses = None
    work.run()
    assert gate.given == 0  # not at once
    core.clock.forward(seconds=6)
    work.run()
    core.clock.forward(seconds=6)
    work.run()
    assert gate.given == 1
    assert store.brokers(since=core.clock())[0].detail == ""
