"""One server, two Mosquittos: devices of both rotate, and what an operator revokes is cut by the server's own links."""

import json
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from birthmark_server.broker.denyfile import DenyFile
from birthmark_server.domain import CertificateProfile
from birthmark_server.jobs import JobState
from rotation.test_rotation_mosquitto import jobs, states, tell_to_rotate, until
from support.mosquitto import Broker
from support.rotating_live import born, broker_of, connected
from support.server import Installation, Server

pytestmark = pytest.mark.parts

NAMES = ("mqtt-1", "mqtt-2")


def broker_lines(site: Installation, brokers: dict[str, Broker]) -> str:
    """[broker] of a server with both, which writes the deny list of both."""
    _port, lines = site.broker_lines(0).split("\n", 1)
    signer, key = site.infra(CertificateProfile.DENY_LIST, "srv-deny-list").write(site.folder, "deny-list")
    lines += f'deny_file = "{site.folder / "deny"}"\ndeny_certificate = "{signer}"\ndeny_key = "{key}"\n'
    for name, broker in brokers.items():
        lines += f'[[broker.shards]]\nname = "{name}"\nhost = "localhost"\nport = {broker.port}\n'
        lines += f'deny_file = "{broker.deny.path}"\n'
    return lines


def revoke(site: Installation, server: Server, device_id: str) -> dict[str, object]:
    officer = site.infra(CertificateProfile.SECURITY_OFFICER, "olivia")
    path, reason = f"/v1/devices/{device_id}/revoke", json.dumps({"reason": "keyCompromise"}).encode()
    answer = server.ask("POST", path, reason, by=officer, content_type="application/json")
    assert answer.status == 200, answer.body
    said: dict[str, object] = json.loads(answer.body)
    return said


@pytest.mark.alone
def test_devices_of_both_rotate_and_are_revoked_by_the_servers_own_links(tmp_path: Path) -> None:
    with ExitStack() as stack:
        site = stack.enter_context(Installation.create(tmp_path))
        brokers = {name: stack.enter_context(broker_of(site, name=name)) for name in NAMES}
        server = stack.enter_context(site.start(broker=broker_lines(site, brokers)))
        devices = [born(site, server, brokers[NAMES[number % 2]], f"SN-{number}") for number in range(4)]
        with connected(devices):
            ids = tell_to_rotate(site, devices)
            done = {JobState.DONE}  # a look that finds a device between two connections is followed by a later one
            assert until(lambda: set(states(site, ids)) == done, timeout_s=90), (jobs(site, ids), server.log)
            assert until(lambda: server.log.count('event="device told of its broker"') >= 1)  # not all are at home
            gone = devices[1]
            device_id, at = gone.device.device_id, brokers[NAMES[1]]
            began = time.monotonic()
            assert revoke(site, server, device_id)["broker"] == ""
            at.wait_log(f"gate: cut: reason=serial-denied id={device_id}")
            assert time.monotonic() - began < 1.0
        lists = [DenyFile(one.deny.path, signer=one.deny.signer).read() for one in brokers.values()]
        assert lists[0] == lists[1]
        assert gone.device.serial in lists[0].serials
        assert not any(".cli-" in one.log() for one in brokers.values())  # no connection for that alone
