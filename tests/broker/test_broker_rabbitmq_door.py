"""What the door answers to each of RabbitMQ's questions, as RabbitMQ 3.10 asks them; and over HTTP."""

import http.client
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from birthmark_server.broker.denyfile import Denials, DenyFile
from birthmark_server.broker.policy import Role, Verdict
from birthmark_server.broker.rabbitmq_door import RabbitDoor
from birthmark_server.broker.rabbitmq_http import RabbitDoorServer
from birthmark_server.errors import Misconfigured
from broker.test_broker_policy import LINES
from support.broker_pki import BrokerPki

DEV_1 = {"username": "spiffe://fleet.test/device/dev-1"}
CONNECT = DEV_1 | {"vhost": "/", "ip": "127.0.0.1", "tags": "", "client_id": "dev-1"}
QUEUE = DEV_1 | {"resource": "queue", "name": "mqtt-subscription-dev-1qos1", "permission": "configure"}
EXCHANGE = DEV_1 | {"resource": "exchange", "name": "amq.topic", "permission": "write"}
TOPIC = DEV_1 | {"resource": "topic", "name": "amq.topic", "permission": "read", "routing_key": "devices.dev-1.down.#"}


@pytest.fixture
def deny_file(pki: BrokerPki, tmp_path: Path) -> DenyFile:
    file = DenyFile(tmp_path / "deny", signer=pki.deny_signer)
    file.create()
    return file


@pytest.fixture
def door(deny_file: DenyFile) -> RabbitDoor:
    return RabbitDoor(trust_domain="fleet.test", deny_file=deny_file)


@pytest.mark.parametrize(
    ("question", "form"),
    [("user", DEV_1), ("vhost", CONNECT), ("resource", QUEUE), ("resource", EXCHANGE), ("topic", TOPIC)],
)
def test_what_a_device_needs_is_allowed(door: RabbitDoor, question: str, form: dict[str, str]) -> None:
    assert door.decide(question, form)


@pytest.mark.parametrize(
    ("question", "form"),
    [
        ("user", {}),
        ("user", {"username": "dev-1"}),
        ("user", {"username": "spiffe://fleet.test/device/"}),
        ("user", {"username": "spiffe://fleet.test/device/srv-control"}),
        ("user", {"username": "spiffe://fleet.test/device/dev-1/x"}),
        ("user", {"username": "spiffe://other.test/device/dev-1"}),
        ("user", DEV_1 | {"password": ""}),
        ("user", DEV_1 | {"password": "x"}),
        ("user", DEV_1 | {"vhost": "/", "client_id": "dev-1", "password": "none"}),  # RabbitMQ 4.0, whoever says it
        ("vhost", CONNECT | {"client_id": "dev-2"}),
        ("vhost", CONNECT | {"client_id": "dev-1.app"}),
        ("vhost", {name: value for name, value in CONNECT.items() if name != "client_id"}),
        ("vhost", CONNECT | {"vhost": "other"}),
        ("resource", QUEUE | {"name": "mqtt-subscription-dev-2qos1"}),
        ("resource", QUEUE | {"name": "birthmark"}),
        ("resource", EXCHANGE | {"name": "amq.direct"}),
        ("resource", EXCHANGE | {"permission": "configure"}),
        ("topic", TOPIC | {"name": "amq.direct"}),
        ("topic", TOPIC | {"permission": "configure"}),
        ("topic", TOPIC | {"routing_key": "devices.*.down.#"}),
        ("topic", TOPIC | {"routing_key": "devices.dev-1.*"}),
        ("topic", TOPIC | {"routing_key": "*.dev-1.down.#"}),
        ("topic", TOPIC | {"routing_key": "$share.birthmark.devices.*.up.#"}),
        ("everything", DEV_1),
    ],
)
def test_all_else_is_denied(door: RabbitDoor, question: str, form: dict[str, str]) -> None:
    assert not door.decide(question, form)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("device ") and " read " not in line])
def test_topics_are_judged_by_the_one_policy(door: RabbitDoor, line: str) -> None:
    role, identity, access, verdict, topic = line.split(" ", 4)
    assert Role(role) is Role.DEVICE
    form = {
        "username": f"spiffe://fleet.test/device/{identity}",
        "name": "amq.topic",
        "permission": "write" if access == "write" else "read",
        "routing_key": topic.replace("/", ".").replace("+", "*"),
    }
    if not identity.startswith("srv-"):
        assert door.decide("topic", form) == (verdict == Verdict.ALLOWED)


def test_who_is_shut_out_by_our_records_does_not_connect(deny_file: DenyFile) -> None:
    why = {"dev-1": "no-certificate"}
    door = RabbitDoor(trust_domain="fleet.test", deny_file=deny_file, shut_out=lambda device_id: why.get(device_id, ""))
    assert not door.decide("vhost", CONNECT)
    why.clear()
    assert door.decide("vhost", CONNECT)


def test_who_is_denied_is_refused_as_soon_as_the_file_says_so(door: RabbitDoor, deny_file: DenyFile) -> None:
    deny_file.add(devices=["dev-1"])
    assert not door.decide("user", DEV_1)
    assert not door.decide("vhost", CONNECT)
    assert door.decide("user", {"username": "spiffe://fleet.test/device/dev-2"})
    deny_file.replace(Denials)
    assert door.decide("vhost", CONNECT)
    assert (door.counts.accepted, door.counts.refused, door.recent()) == (1, 2, {"dev-1"})


def test_an_older_list_is_not_gone_back_to(door: RabbitDoor, deny_file: DenyFile) -> None:
    before = deny_file.path.read_bytes()
    deny_file.add(devices=["dev-1"])
    assert not door.decide("user", DEV_1)
    deny_file.path.unlink()
    deny_file.path.write_bytes(before)
    assert not door.decide("user", DEV_1)


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"nonsense\n")])
def test_a_list_that_cannot_be_read_stays_in_force_and_nobody_is_let_in_without_any(
    pki: BrokerPki, deny_file: DenyFile, damage: "object"
) -> None:
    door = RabbitDoor(trust_domain="fleet.test", deny_file=deny_file)
    deny_file.add(devices=["dev-1"])
    assert not door.decide("user", DEV_1)
    assert callable(damage)
    damage(deny_file.path)
    assert not door.decide("user", DEV_1)
    assert door.decide("user", {"username": "spiffe://fleet.test/device/dev-2"})
    assert not RabbitDoor(trust_domain="fleet.test", deny_file=deny_file).decide("user", DEV_1)


def test_nobody_is_let_in_once_the_lease_is_over(deny_file: DenyFile) -> None:
    door = RabbitDoor(trust_domain="fleet.test", deny_file=deny_file, clock=lambda: time.time() + 901)
    assert door.lease_s() == 0
    assert not door.decide("user", DEV_1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["user", "vhost", "resource", "topic"]),
    st.dictionaries(st.sampled_from([*CONNECT, *TOPIC]), st.text(max_size=40)),
)
def test_whatever_is_asked_is_answered(door: RabbitDoor, question: str, form: dict[str, str]) -> None:
    assert door.decide(question, form) in (True, False)


@pytest.fixture
def port(door: RabbitDoor) -> Iterator[int]:
    server = RabbitDoorServer(door)
    server.start()
    yield server.port
    server.stop()


def asked(port: int, path: str, body: str, *, method: str = "POST") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request(method, path, body)
    response = connection.getresponse()
    answer = response.status, response.read()
    connection.close()
    return answer


def test_it_is_asked_over_http(port: int) -> None:
    assert asked(port, "/rabbitmq/user", urlencode(DEV_1)) == (200, b"allow")
    assert asked(port, "/rabbitmq/user", urlencode(DEV_1 | {"password": ""})) == (200, b"deny")
    assert asked(port, "/rabbitmq/user", urlencode(DEV_1) + "&" + urlencode(DEV_1)) == (200, b"deny")
    assert asked(port, "/other/user", urlencode(DEV_1)) == (200, b"deny")
    assert asked(port, "/rabbitmq/user", "x" * 9000)[0] == 413
    assert asked(port, "/rabbitmq/user", "", method="GET")[0] == 501


def test_a_connection_that_is_kept_open_is_not_answered_after_the_end(door: RabbitDoor) -> None:
    server = RabbitDoorServer(door)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("POST", "/rabbitmq/user", urlencode(DEV_1))
    assert connection.getresponse().read() == b"allow"
    server.stop()
    assert connection.sock.recv(1) == b""
    connection.close()


def test_it_listens_on_loopback_only(door: RabbitDoor) -> None:
    with pytest.raises(Misconfigured):
        RabbitDoorServer(door, host="0.0.0.0")
