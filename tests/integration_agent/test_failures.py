"""What goes wrong around a device, and that it goes on, or comes back by itself, when that is over."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from birthmark_agent.clock import ClockState
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.identity import Identities
from birthmark_agent.settings import load_settings
from support.agent_here import on_fillable_disk, running
from support.agent_site import AgentSite, Device, WrongClock
from support.server import Server

pytestmark = pytest.mark.parts


def hello(device: Device) -> str:
    return f"devices/{device.device_id}/up/hello"


def test_a_broker_that_goes_away_and_comes_back(site: AgentSite, server: Server) -> None:
    device = site.device("FAIL-1")
    with device.running() as agent:
        agent.wait_log("connected broker")
        site.broker.stop()
        agent.wait_log("not-connected", count=2)
        status = device.status()
        assert status["certificate"] is not None
        site.broker.start()
        agent.wait_log("connected broker", count=2)
        assert agent.log.count("certificate-obtained") == 1


def test_a_tpm_in_lockout_serves_us_all_the_same(site: AgentSite, server: Server) -> None:
    device = site.device("FAIL-4")
    device.tpm.lock_out()
    device.cli("enroll")
    device.cli("renew")
    found = device.cli("doctor", check=False)
    assert found.returncode == 0, found.stdout
    assert "in lockout after" in found.stdout
    assert "tpm2_dictionarylockout" in found.stdout


def test_a_tpm_that_goes_away_costs_no_connection(site: AgentSite, server: Server) -> None:
    device = site.device("FAIL-5")
    with device.running() as agent:
        agent.wait_log("connected broker")
        device.tpm.stop()
        renewed = device.cli("renew", check=False)
        assert renewed.returncode != 0
        assert device.cli("enroll", check=False).returncode == 75  # the agent runs
        device.tpm.start()
        device.cli("renew")


def until(condition: object, *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_full_disk_asks_for_no_certificate_that_could_not_be_kept(site: AgentSite, server: Server) -> None:
    device = site.device("FAIL-6")
    disk, identities = on_fillable_disk(device)
    first = Homecoming(identities).find()
    with site.control() as control, running(identities) as agent:
        control.wait_for(hello(device))
        disk.full, since = True, len(server.log)
        agent.request_renewal()
        until(lambda: device.status()["report"]["renewal_result"] == "storage-failed")  # type: ignore[index]
        assert "simplereenroll" not in server.log[since:]
        best = identities.slots.best()
        assert best is not None
        assert best.identity == first.identity
        disk.full = False
        agent.request_renewal()
        control.wait_for(f"devices/{device.device_id}/up/active")


@pytest.mark.parametrize("year", [1970, 2024, 2099])
def test_a_clock_that_is_wrong_by_years_is_put_right_by_the_server(site: AgentSite, server: Server, year: int) -> None:
    device = site.device(f"FAIL-7-{year}")
    settings = load_settings(device.config)
    identities = Identities(settings, system=WrongClock(datetime(year, 1, 2, tzinfo=UTC)))
    with site.control() as control, running(identities):
        control.wait_for(hello(device))
    again = Identities(settings, system=WrongClock(datetime(year, 1, 2, tzinfo=UTC)))
    since = len(server.log)
    with site.control() as control, running(again):
        control.wait_for(hello(device), 1)
        control.heard.clear()
        time.sleep(0.6)  # some floors long: a clock that runs ahead must not renew at each of them
        assert not control.heard
    assert "simplereenroll" not in server.log[since:]
    if year != 2024:  # that one looks right enough, and nothing needed more
        assert again.clock.state() is ClockState.SET
        assert abs(again.clock.now() - datetime.now(UTC)) < timedelta(seconds=5)


def test_a_wrong_root_is_named_before_anything_is_shown(site: AgentSite, server: Server, tmp_path: Path) -> None:
    device = site.device("FAIL-8")
    device.cli("enroll")
    (tmp_path / "other").mkdir()
    with AgentSite.create(tmp_path / "other") as other:
        text = device.config.read_text()
        stranger = str(other.installation.pki.root_pem)
        device.config.write_text(text.replace(str(site.installation.pki.root_pem), stranger))
        refused = device.cli("enroll", "--again", check=False)
    assert refused.returncode == 76
    assert "its certificate does not stand" in refused.stderr


def test_a_broker_that_restarts_makes_nobody_ask_the_server(site: AgentSite, server: Server) -> None:
    device = site.device("FAIL-9")
    with device.running() as agent:
        agent.wait_log("connected broker")
        since = len(server.log)
        site.broker.stop()
        site.broker.start()
        agent.wait_log("connected broker", count=2)
    assert " path=" not in server.log[since:]
