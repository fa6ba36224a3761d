"""The running agent's pace: what it may repeat, how soon, and what a person's word changes."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from birthmark_agent.backoff import Backoff, Pace
from birthmark_agent.guest import knock
from birthmark_agent.http import Unreachable
from birthmark_agent.identity import Identities
from birthmark_agent.run import Agent
from birthmark_agent.settings import load_settings
from birthmark_agent.systemd import Notifier
from support.agent_site import AgentSite, Device, WrongClock
from support.server import Server

pytestmark = pytest.mark.parts


def failures(device: Device) -> int:
    """How many connections in a row the agent counts as failed, by its folder."""
    return Backoff("connect", Pace(1.0, 1.0, 1.0), files=device.identities().files).failures


@contextmanager
def running(identities: Identities, notifier: Notifier) -> Iterator[Agent]:
    agent = Agent(identities, notifier=notifier)
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join()


def test_systemd_is_told_that_it_runs_before_anything_answers(site: AgentSite, tmp_path: Path) -> None:
    """Else an agent that starts without a network is killed by TimeoutStartSec before its back-off ends, for ever."""
    device = site.device("PACE-1")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        with running(device.identities(), Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})):
            while heard.recv(200) != b"READY=1":
                pass


def test_connections_that_do_not_last_are_failures(site: AgentSite, server: Server) -> None:
    """A copy of this device, say, that takes the session over each time: two agents must not chase each other."""
    device = site.device("PACE-2")
    with device.running() as agent:
        for count in range(1, 5):
            agent.wait_log("connected broker", count=count)
            slot = device.identities().slots.best()
            assert slot is not None
            knock(device.identities(), slot.identity)
        agent.wait_log("connected broker", count=5)
        assert failures(device) == 5
        agent.stop()
    assert failures(device) == 0  # a person's stop is no failure


def test_the_floor_between_connections_holds_over_a_restart(site: AgentSite, server: Server) -> None:
    device = site.device("PACE-3")
    device.config.write_text(device.config.read_text().replace("floor_s = 0.05", "floor_s = 10.0"))
    device.cli("enroll")
    began_s = time.monotonic()
    for _ in range(2):
        with device.running() as agent:
            agent.wait_log("connected broker")
    assert time.monotonic() - began_s > 10.0


class Untold(Identities):
    """A device whose server can't tell the time."""

    def learn_time(self) -> None:
        raise Unreachable("no time from here")


def test_a_clock_that_runs_ahead_does_not_renew_what_was_just_renewed(site: AgentSite, server: Server) -> None:
    device = site.device("PACE-4")
    device.cli("enroll")
    identities = Untold(load_settings(device.config), system=WrongClock(datetime.now(UTC) + timedelta(days=25)))
    since = len(server.log)
    with site.control() as control, running(identities, Notifier({})):
        control.wait_for(f"devices/{device.device_id}/up/hello")
        time.sleep(13)  # it looks every five seconds
    assert server.log[since:].count("simplereenroll") <= 1


def test_a_renewal_that_a_person_asked_for_is_not_forgotten_while_the_agent_waits(
    site: AgentSite, server: Server
) -> None:
    device = site.device("PACE-5")
    device.cli("enroll")
    site.broker.stop()
    try:
        with device.running() as agent:
            agent.wait_log("not-connected", count=2)
            agent.renew()
            time.sleep(0.2)
            site.broker.start()
            agent.wait_log(" renewed ")
    finally:
        if site.broker.process is None:
            site.broker.start()
