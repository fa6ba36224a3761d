"""Sessions against a real Mosquitto with the gate; keys in software, for TLS with a TPM key has tests of its own."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from birthmark_agent.http import TlsFailed, Unreachable
from birthmark_agent.mqtt import (
    BrokerRefused,
    ConnectionLost,
    OnMessage,
    Session,
    SessionState,
    drive,
    drive_until,
    wait_live,
)
from support.broker_pki import BrokerPki, Leaf
from support.mosquitto import Broker, running_broker
from support.ports import free_port

pytestmark = pytest.mark.parts

DEVICE = "sensor-1"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> BrokerPki:
    return BrokerPki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def broker(pki: BrokerPki, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    leaf = pki.broker()
    with running_broker(
        tmp_path_factory.mktemp("broker"),
        certificate=leaf.chain,
        key=leaf.key,
        roots=[pki.root.certificate],
        fleet=[pki.fleet.certificate],
        infra=[pki.infra.certificate],
        trust_domain=pki.trust_domain,
        signer=pki.deny_signer,
    ) as running:
        yield running


class Control:
    """The server's side: a paho client of its own thread that hears all devices and streams to one."""

    def __init__(self, pki: BrokerPki, port: int) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.sent = 0
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="srv-control", protocol=MQTTProtocolVersion.MQTTv5
        )
        self.client.tls_set_context(pki.client_context(pki.control()))
        self.client.on_message = lambda _c, _d, message: self.heard.append((message.topic, bytes(message.payload)))
        ready = threading.Event()
        self.client.on_connect = lambda client, *_: client.subscribe("devices/+/up/#", qos=1)
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.connect("localhost", port)
        self.client.loop_start()
        assert ready.wait(30)

    def stream(self, device: str, stop: threading.Event) -> None:
        while not stop.is_set():
            self.client.publish(f"devices/{device}/down/cmd", str(self.sent), qos=1)
            self.sent += 1
            time.sleep(0.002)

    def wait_for(self, topic: str, count: int = 1) -> list[bytes]:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            found = [payload for name, payload in self.heard if name == topic]
            if len(found) >= count:
                return found
            time.sleep(0.01)
        raise AssertionError(f"nothing on {topic}: {self.heard}")

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def control(pki: BrokerPki, broker: Broker) -> Iterator[Control]:
    one = Control(pki, broker.port)
    yield one
    one.close()


def session(
    pki: BrokerPki, port: int, leaf: Leaf | None, *, device: str = DEVICE, heard: OnMessage = lambda *_: None
) -> Session:
    return Session(
        device_id=device,
        host="localhost",
        port=port,
        context=pki.client_context(leaf),
        keepalive_s=60,
        session_expiry_s=3600,
        connect_timeout_s=20.0,
        on_message=heard,
    )


def connect(one: Session, *, beside: tuple[Session, ...] = ()) -> Session:
    one.open()
    wait_live(one, timeout_s=20, beside=beside)
    return one


def test_a_session_comes_to_life_and_says_hello(pki: BrokerPki, broker: Broker, control: Control) -> None:
    one = session(pki, broker.port, pki.device(DEVICE))
    connect(one)
    sent = one.publish("hello", b'{"any": "thing"}')
    assert drive_until([one], sent.is_published, timeout_s=20)
    assert control.wait_for(f"devices/{DEVICE}/up/hello") == [b'{"any": "thing"}']
    one.close(announce=True)
    assert json.loads(control.wait_for(f"devices/{DEVICE}/up/status")[0]) == {"state": "offline", "reason": "stopped"}


def test_a_take_over_loses_no_message_and_announces_no_death(pki: BrokerPki, broker: Broker, control: Control) -> None:
    device = "sensor-2"
    heard: list[int] = []
    old = session(pki, broker.port, pki.device(device), device=device, heard=lambda _leaf, p: heard.append(int(p)))
    connect(old)
    stop = threading.Event()
    streaming = threading.Thread(target=control.stream, args=(device, stop))
    streaming.start()
    try:
        current = old
        for _ in range(3):
            drive_until([current], lambda: False, timeout_s=0.2)
            new = session(pki, broker.port, pki.device(device), device=device, heard=lambda _l, p: heard.append(int(p)))
            connect(new, beside=(current,))
            assert new.session_present
            new.publish("active", b"{}")
            drive_until([current], lambda old=current: old.state is SessionState.CLOSED, timeout_s=20)  # type: ignore[misc]
            assert isinstance(current.failure, ConnectionLost)
            current = new
        drive_until([current], lambda: False, timeout_s=0.2)
    finally:
        stop.set()
        streaming.join()
    drive_until([current], lambda: len(set(heard)) >= control.sent, timeout_s=20)
    assert sorted(set(heard)) == list(range(control.sent))
    assert len(control.wait_for(f"devices/{device}/up/active", 3)) == 3
    assert not [payload for topic, payload in control.heard if topic == f"devices/{device}/up/status"]
    current.close(announce=False)


def test_a_take_over_with_a_bad_certificate_leaves_the_old_connection_alive(
    pki: BrokerPki, broker: Broker, control: Control
) -> None:
    device = "sensor-3"
    old = session(pki, broker.port, pki.device(device), device=device)
    connect(old)
    for leaf in (pki.device(device, ca=pki.foreign), None):
        with pytest.raises((TlsFailed, ConnectionLost)):
            connect(session(pki, broker.port, leaf, device=device), beside=(old,))
    with pytest.raises(BrokerRefused):
        connect(session(pki, broker.port, pki.device("sensor-4"), device=device), beside=(old,))
    assert drive_until([old], old.publish("status", b"{}").is_published, timeout_s=20)
    old.close(announce=False)


def test_a_refused_client_certificate_is_named_by_its_alert_or_shows_as_a_cut_connection(
    pki: BrokerPki, broker: Broker
) -> None:
    one = session(pki, broker.port, pki.device(DEVICE, ca=pki.foreign))
    with pytest.raises((TlsFailed, ConnectionLost), match=r"unknown ca|decrypt error|cut"):  # a reset overtakes alerts
        connect(one)


def test_a_broker_that_is_not_there_or_not_ours_is_named(pki: BrokerPki, broker: Broker, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="nobody listens"):
        session(pki, free_port(), pki.device(DEVICE)).open()
    stranger = BrokerPki(tmp_path)
    with pytest.raises(TlsFailed, match="its certificate does not stand") as refused:
        session(stranger, broker.port, None).open()
    assert not refused.value.peer


def test_messages_wait_while_the_device_is_away(pki: BrokerPki, broker: Broker, control: Control) -> None:
    device, heard = "sensor-5", []
    leaf = pki.device(device)
    first = session(pki, broker.port, leaf, device=device)
    connect(first)
    first.close(announce=False)
    control.client.publish(f"devices/{device}/down/cmd", "while you were out", qos=1).wait_for_publish(5)
    second = session(pki, broker.port, leaf, device=device, heard=lambda leaf, payload: heard.append((leaf, payload)))
    connect(second)
    assert second.session_present
    drive_until([second], lambda: bool(heard), timeout_s=20)
    assert heard == [("cmd", b"while you were out")]
    second.close(announce=False)


def test_a_broker_that_stops_ends_the_session(pki: BrokerPki, broker: Broker) -> None:
    one = session(pki, broker.port, pki.device("sensor-6"), device="sensor-6")
    connect(one)
    broker.stop()
    try:
        drive_until([one], lambda: one.state is SessionState.CLOSED, timeout_s=20)
        assert isinstance(one.failure, ConnectionLost | BrokerRefused)
        drive([one], timeout_s=0)  # a closed session is no trouble to the loop
    finally:
        broker.start()
