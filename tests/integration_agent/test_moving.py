"""A device whose broker is another one now: it is told, or asks, and its next connect goes there."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from support.agent_site import AgentSite, Device
from support.mosquitto import Broker
from support.rotating_live import broker_of

pytestmark = pytest.mark.parts


@contextmanager
def second_broker(site: AgentSite) -> Iterator[Broker]:
    with broker_of(site.installation, name="mosquitto-2") as broker:
        yield broker


def shards(site: AgentSite, second: Broker, *, control: bool) -> str:
    """Lines of [broker]: the site's own broker is drained, the second takes all devices."""
    _port, lines = site.installation.broker_lines(0).split("\n", 1)
    return f"""{lines if control else ""}
[[broker.shards]]
name = "old"
host = "localhost"
port = {site.broker.port}
drain = true
[[broker.shards]]
name = "new"
host = "localhost"
port = {second.port}
"""


def told(device: Device) -> int:
    """The port that the device keeps."""
    return int(json.loads((device.state / "broker.json").read_text())["port"])


def test_a_device_at_another_broker_is_told_at_its_hello_and_goes_at_its_next_connect(site: AgentSite) -> None:
    device = site.device("MOVE-1")
    with site.server():
        device.cli("enroll")
    with second_broker(site) as second, site.server(extra=shards(site, second, control=True)) as server:
        with device.running() as agent:
            agent.wait_log("connected broker")
            agent.wait_log(f"broker-named broker=localhost:{second.port}")
            assert told(device) == second.port
            agent.renew()  # while it is connected, its session is taken over where it is
            agent.wait_log("renewed serial")
            agent.wait_log(f"connected broker=localhost:{site.broker.port}", count=2)
            server.wait_log('event="device told of its broker"', count=2)  # at its second hello too
            site.broker.stop()
            try:
                agent.wait_log(f"connected broker=localhost:{second.port}")
            finally:
                site.broker.start()
        assert server.log.count('event="device told of its broker"') == 2  # and not where it belongs


def test_a_device_is_born_to_where_it_belongs_and_asks_the_server_when_its_broker_is_gone(site: AgentSite) -> None:
    device = site.device("MOVE-2")
    with second_broker(site) as second, site.server(extra=shards(site, second, control=False)):
        device.cli("enroll")
    assert json.loads((device.state / "birth.json").read_text())["broker_port"] == second.port
    with site.server(), device.running() as agent:  # one broker again; the second one is gone
        agent.wait_log(f"connected broker=localhost:{site.broker.port}")
        assert agent.log.count("nobody listens") == 3
        assert told(device) == site.broker.port
