"""Applications on a device share its connection: nothing of theirs is lost or out of turn, whatever happens to it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from birthmark_agent.app_client import AgentClient, Message, Refused
from birthmark_server.domain import CertificateProfile
from support.agent_site import AgentSite, Control, Device
from support.rotation_peer import RotationPeer
from support.server import Server

pytestmark = pytest.mark.parts

EXAMPLE = Path(__file__).parents[2] / "device_agent" / "examples" / "publish.sh"


def with_applications(site: AgentSite, serial: str, more: str = "", users: str = "") -> Device:
    return site.device(
        serial,
        extra=f'[applications]\nsocket = "apps"\nrate_per_s = 10000.0\n{more}\n'
        f"[applications.users]\nmeter = {os.geteuid()}\nother = 65534\n{users}\n",
    )


def path(device: Device) -> str:
    return str(device.folder / "apps")


def client(device: Device, name: str = "meter") -> AgentClient:
    until = time.monotonic() + 20
    while True:
        try:
            return AgentClient(name, path=path(device))
        except (FileNotFoundError, ConnectionRefusedError):
            assert time.monotonic() < until
            time.sleep(0.02)


def numbers(control: Control, device: Device, topic: str = "n") -> list[int]:
    wanted = f"devices/{device.device_id}/up/app/meter/{topic}"
    return [int(payload) for name, payload in list(control.heard) if name == wanted]


def until(condition: Callable[[], bool], *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def publishing(device: Device) -> Iterator[list[float]]:
    """Publish numbers, one every 2 ms, each waited for; gives the seconds that each took, in order."""
    stop, took = threading.Event(), list[float]()
    failed: list[Exception] = []

    def work() -> None:
        try:
            with client(device) as agent:
                while not stop.is_set():
                    began_s = time.monotonic()
                    agent.publish("n", str(len(took)).encode(), timeout_s=30)
                    took.append(time.monotonic() - began_s)
                    time.sleep(0.002)
        except Exception as error:  # noqa: BLE001  # raised again by the test
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield took
    finally:
        stop.set()
        thread.join(40)
    assert not failed, failed


def first_arrivals(heard: list[int]) -> list[int]:
    return list(dict.fromkeys(heard))


def test_what_an_application_publishes_while_certificates_change_is_all_there_and_in_turn(
    site: AgentSite, server: Server, record_property: Callable[[str, object], None]
) -> None:
    device = with_applications(site, "APP-1")
    with RotationPeer.running(site) as peer, site.control() as control, device.running() as agent:
        peer.wait_for(device, "hello")
        with publishing(device) as took:
            until(lambda: len(took) > 20)
            calm = sorted(took[5:])[len(took) // 2]
            for count in range(3):
                peer.wait_active(device, peer.order(device))
                agent.renew()
                until(lambda count=count: len([m for m in peer.said(device, "active") if not m.job_id]) > count)  # type: ignore[misc,union-attr]
            before = len(took)
            until(lambda: len(took) > before + 20)
            resident_mib = resident_kib(agent.process.pid) / 1024
        heard = numbers(control, device)
        until(lambda: len(set(numbers(control, device))) >= len(took))
        heard = numbers(control, device)
        assert first_arrivals(heard) == list(range(len(took)))
        figures = {
            "published": len(took),
            "duplicates": len(heard) - len(set(heard)),
            "calm_ms": round(calm * 1000, 1),
            "longest_ms": round(max(took) * 1000, 1),
            "agent_mib": round(resident_mib, 1),
        }
        record_property("take-over", json.dumps(figures))
        print("take-over:", json.dumps(figures))
        assert max(took) < 20.0
        assert resident_mib < 45


@contextmanager
def lasting_ear(site: AgentSite, device: Device) -> Iterator[list[int]]:
    """A consumer whose session outlives the broker's restarts: gives the numbers as they arrive."""
    name = f"srv-ear-{device.serial.lower()}"
    chain, key = site.installation.pki.infra(CertificateProfile.CONTROL, name).write(site.folder, name)
    heard, ready = list[int](), threading.Event()
    ear = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
    ear.tls_set(str(site.installation.pki.root_pem), str(chain), str(key))
    ear.on_connect = lambda one, *_: one.subscribe(f"devices/{device.device_id}/up/app/#", qos=1)
    ear.on_subscribe = lambda *_: ready.set()
    ear.on_message = lambda _one, _data, message: heard.append(int(message.payload))
    ear.reconnect_delay_set(1, 1)
    lasting = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho 2.2
    lasting.SessionExpiryInterval = 3600
    ear.connect("localhost", site.broker.port, clean_start=False, properties=lasting)
    ear.loop_start()
    try:
        assert ready.wait(30)
        yield heard
    finally:
        ear.disconnect()
        ear.loop_stop()


def test_a_broker_that_restarts_loses_and_reorders_nothing(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-2")
    with device.running() as agent, lasting_ear(site, device) as heard:
        agent.wait_log("connected broker")
        with publishing(device) as took:
            for count in range(2, 4):
                before = len(took)
                until(lambda before=before: len(took) > before + 20)  # type: ignore[misc]
                site.broker.stop()
                time.sleep(0.3)
                site.broker.start()
                agent.wait_log("connected broker", count=count)
            before = len(took)
            until(lambda: len(took) > before + 20)
        until(lambda: len(set(heard)) >= len(took))
        assert first_arrivals(heard) == list(range(len(took)))


def test_the_server_does_not_hear_applications(
    site: AgentSite, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    device = with_applications(site, "APP-10")
    with caplog.at_level("INFO"), RotationPeer.running(site) as peer, site.control() as control, device.running():
        peer.wait_for(device, "hello")
        with client(device) as one:
            one.publish("hello", b"1")
            one.publish("a/b/c", b"2")
        peer.wait_active(device, peer.order(device))
        assert numbers(control, device, "hello") == [1]
        assert numbers(control, device, "a/b/c") == [2]
        until(lambda: len(peer.said(device, "hello")) == 2)
    assert "broker connected" in caplog.text
    assert "unreadable" not in caplog.text


def test_many_at_once_wait_for_the_broker_in_order_and_the_writer_waits_too(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-3", "queue = 10")
    with site.control() as control, device.running() as agent:
        agent.wait_log("connected broker")
        with client(device) as one:
            tags = [one.send("n", str(number).encode()) for number in range(500)]
            for tag in tags:
                one.wait(tag, timeout_s=30)
        until(lambda: len(numbers(control, device)) >= 500)
        assert numbers(control, device) == list(range(500))


def test_what_comes_for_an_application_waits_until_it_is_there(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-4", "queue = 5")
    down = f"devices/{device.device_id}/down/app/meter"
    with site.control() as control, device.running() as agent:
        agent.wait_log("connected broker")
        for number in range(8):
            control.client.publish(f"{down}/set/x", str(number), qos=1).wait_for_publish(10)
        control.client.publish(f"{down}/unwanted", "1", qos=1).wait_for_publish(10)
        time.sleep(0.3)
        with client(device) as one:
            one.subscribe("set/+")
            received = [one.receive(timeout_s=20) for _ in range(4)]
            assert received == [Message("set/x", str(number).encode()) for number in range(4, 8)]
            assert one.lost == 4
            control.client.publish(f"{down}/set/y", "now", qos=1)
            assert one.receive(timeout_s=20) == Message("set/y", b"now")
            assert one.receive(timeout_s=0.1) is None


def test_status_and_doctor_tell_of_applications_commands_and_the_hook(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-9", users='[hook]\ncommand = "hook"')
    (device.folder / "hook").write_text("#!/bin/sh\nexit 3\n")
    (device.folder / "hook").chmod(0o755)
    with RotationPeer.running(site) as peer, device.running(), client(device):
        peer.wait_for(device, "hello")
        job = peer.order(device)
        peer.wait_active(device, job)
        until(lambda: "it ended with 3" in device.cli("status").stdout)
        shown = device.cli("status").stdout
        assert f"command      {job} done\n" in shown
        assert "applications meter\n" in shown
        checks = device.cli("doctor").stdout
        assert "apps answers; connected: meter" in checks
        assert "warning  hook" in checks
        (device.folder / "hook").chmod(0o644)
        assert "is no file that we may execute" in device.cli("doctor", check=False).stdout


def say(device: Device, *lines: str) -> list[str]:
    """Say lines, end the writing side, and return what the agent said."""
    client(device).close()  # it listens
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path(device))
        sock.settimeout(10)
        sock.sendall("".join(f"{line}\n" for line in lines).encode())
        sock.shutdown(socket.SHUT_WR)
        with sock.makefile("r") as answers:
            return answers.read().splitlines()


def test_who_says_what_it_must_not_is_told_so_and_nothing_else_suffers(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-5", "max_message_bytes = 64")
    with site.control() as control, device.running() as agent:
        agent.wait_log("connected broker")
        with pytest.raises(Refused, match="not-allowed"):
            client(device, "other")
        with pytest.raises(Refused, match="not-allowed"):
            client(device, "nobody")
        assert say(device, "PUB 1 n MQ==")[0].startswith("ERR not-understood")
        assert say(device, "HELLO meter", "PUB 1 n !")[1].startswith("ERR not-base64")
        assert say(device, "HELLO meter", "DANCE")[1].startswith("ERR not-understood")
        assert say(device, "HELLO meter", "HELLO meter")[1].startswith("ERR not-understood")
        assert say(device, "HELLO meter", "PUB 1 n é")[1].startswith("ERR not-ascii")
        assert say(device, "x" * 10_000)[0].startswith("ERR too-large")
        for topic in ("a//b", "a/#", "/a", "a/", "$x", "+"):
            assert say(device, "HELLO meter", f"PUB 1 {topic} MQ==") == ["OK", "NAK 1 topic-unusable"]
        with client(device) as one:
            with pytest.raises(Refused, match="too-large"):
                one.publish("n", bytes(65))
            one.publish("n", b"7")
        assert say(device, "HELLO meter", "PUB a n OA==", "PUB b n OQ==") == ["OK", "ACK a", "ACK b"]
        until(lambda: len(numbers(control, device)) >= 3)
        assert numbers(control, device) == [7, 8, 9]
        branch = f"devices/{device.device_id}/up/"
        ours = {f"{branch}{leaf}" for leaf in ("hello", "status", "ack", "active")}
        outside = [t for t, _ in control.heard if t.startswith(branch) and t not in ours]
        assert all(topic.startswith(f"{branch}app/meter/") for topic in outside)


def test_the_rate_holds_without_a_message_lost(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-6")
    device.config.write_text(device.config.read_text().replace("rate_per_s = 10000.0", "rate_per_s = 20.0"))
    with site.control() as control, device.running() as agent:
        agent.wait_log("connected broker")
        began_s = time.monotonic()
        with client(device) as one:
            for tag in [one.send("n", str(number).encode()) for number in range(60)]:
                one.wait(tag, timeout_s=30)
        assert time.monotonic() - began_s > 1.5  # 61 lines, 20 of them at once
        until(lambda: len(numbers(control, device)) >= 60)
        assert numbers(control, device) == list(range(60))


def test_the_example_in_shell_publishes_what_it_reads(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-7")
    with site.control() as control, device.running() as agent:
        agent.wait_log("connected broker")
        client(device).close()
        done = subprocess.run(
            [EXAMPLE, "meter", "n"],
            input="1\n2\n3\n",
            capture_output=True,
            text=True,
            env=os.environ | {"BIRTHMARK_APPLICATIONS": path(device)},
            timeout=30,
        )
        assert (done.returncode, done.stdout) == (0, "3 acknowledged\n"), done.stderr
        until(lambda: len(numbers(control, device)) >= 3)
        assert numbers(control, device) == [1, 2, 3]
        refused = subprocess.run(
            [EXAMPLE, "other", "n"],
            input="1\n",
            capture_output=True,
            text=True,
            env=os.environ | {"BIRTHMARK_APPLICATIONS": path(device)},
            timeout=30,
        )
        assert refused.returncode == 1
        assert "not-allowed" in refused.stderr


def test_an_application_that_is_gone_costs_nothing_and_leaves_nothing(site: AgentSite, server: Server) -> None:
    device = with_applications(site, "APP-8")
    with site.control() as control, device.running() as agent:
        agent.wait_log("connected broker")
        one = client(device)
        for number in range(50):
            one.send("n", str(number).encode())
        one.close()
        until(lambda: len(numbers(control, device)) >= 50)
        assert numbers(control, device) == list(range(50))
        agent.wait_log("application-left")
        before = cpu_s(agent.process.pid)
        time.sleep(1)
        assert cpu_s(agent.process.pid) - before < 0.1
        before_files = open_files(agent.process.pid)
        for _ in range(50):
            client(device).close()
        until(lambda: open_files(agent.process.pid) <= before_files)
        assert agent.stop() == 0
    assert not Path(path(device)).exists()


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def open_files(pid: int) -> int:
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_client_needs_nothing_but_the_standard_library() -> None:
    code = (
        "import sys, birthmark_agent.app_client; print([n for n in sys.modules if n.startswith(('birthmark', 'paho'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['birthmark_agent', 'birthmark_agent.app_client']"
