"""What may pass is `later`: full disk, busy TPM, a broker or server that is away, a clock that nobody vouches for."""

import time
from datetime import UTC, datetime

import pytest

from birthmark_agent import jobs
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.identity import Identities
from birthmark_agent.settings import load_settings
from birthmark_wire.rotation import Ack, AckState
from support.agent_here import on_fillable_disk, running
from support.agent_site import AgentSite, WrongClock
from support.rotation_peer import RotationPeer
from support.server import Server

pytestmark = pytest.mark.parts


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that could not be judged is judged again soon."""
    monkeypatch.setattr(jobs, "_HELD_S", 0.3)


@pytest.mark.usefixtures("hasty")
def test_a_full_disk_takes_no_command_until_there_is_room(site: AgentSite, server: Server) -> None:
    device = site.device("LATER-1")
    disk, identities = on_fillable_disk(device)
    with RotationPeer.running(site) as peer:
        Homecoming(identities).find()
        with running(identities):
            peer.wait_for(device, "hello")
            disk.full = True
            job = peer.order(device)
            later = peer.wait_ack(device, job, AckState.LATER)
            assert (later.code, later.retry_after_s) == ("storage-failed", 1)
            assert not peer.said(device, "csr")
            disk.full = False
            peer.wait_active(device, job)


def test_a_tpm_that_is_away_is_waited_for(site: AgentSite, server: Server) -> None:
    device = site.device("LATER-2")
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        device.tpm.stop()
        job = peer.order(device)
        assert peer.wait_ack(device, job, AckState.LATER).code == "tpm-unavailable"
        device.tpm.start()
        peer.wait_active(device, job)


def test_a_tpm_in_lockout_obeys_all_the_same(site: AgentSite, server: Server) -> None:
    device = site.device("LATER-3")
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        device.tpm.lock_out()
        peer.wait_active(device, peer.order(device))


def test_a_key_that_tpm2_clear_took_is_made_anew(site: AgentSite, server: Server) -> None:
    device = site.device("LATER-4")
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        peer.silent_about.add("csr")
        job = peer.order(device)
        request = peer.wait_for(device, "csr")
        device.tpm.clear()
        peer.silent_about.clear()
        peer.answer(device, request)
        assert peer.wait_ack(device, job, AckState.LATER).code == "tpm-foreign-key"
        peer.wait_active(device, job)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("year", [1970, 2099])
def test_a_clock_that_nobody_vouches_for_asks_the_server_and_waits_where_it_is_away(
    site: AgentSite, server: Server, year: int
) -> None:
    device = site.device(f"LATER-5-{year}")
    device.cli("enroll")
    settings = load_settings(device.config)
    away = device.config.with_name("away.toml")
    away.write_text(device.config.read_text().replace(f"localhost:{site.installation.port}", "localhost:1"))
    clock = WrongClock(datetime(year, 1, 2, tzinfo=UTC))
    if year == 2099:  # a session that began while the clock was right
        clock._off_by *= 0
    with RotationPeer.running(site) as peer:
        with running(Identities(load_settings(away), system=clock)):
            peer.wait_for(device, "hello")
            job = peer.order(device)
            assert peer.wait_ack(device, job, AckState.LATER).code == "clock-not-set"
            assert not peer.said(device, "csr")
        with running(Identities(settings, system=clock)):
            peer.wait_active(device, job)


def test_a_server_that_never_answers_a_command_keeps_no_device_from_renewing(
    site: AgentSite, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_ANSWER_WITHIN_S", 0.2)
    device = site.device("LATER-7")
    device.cli("enroll")
    with RotationPeer.running(site) as peer, running(device.identities()) as agent:
        peer.wait_for(device, "hello")
        peer.silent_about.add("ack")
        job = peer.order(device)
        peer.wait_ack(device, job, AckState.ACCEPTED)
        agent.request_renewal()
        peer.wait_for(device, "active", where=lambda m: getattr(m, "job_id", None) == "")
        peer.silent_about.clear()
        peer.wait_active(device, job)


def test_the_floor_between_attempts_holds_for_commands_too(site: AgentSite, server: Server) -> None:
    device = site.device("LATER-6")
    device.config.write_text(device.config.read_text().replace("floor_s = 0.2", "floor_s = 12.0"))
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        began_s = time.monotonic()
        peer.wait_active(device, peer.order(device))
        second = peer.order(device)  # within the floor, on the busiest machine
        later = peer.wait_ack(device, second, AckState.LATER)
        assert isinstance(later, Ack)
        assert later.code == "too-soon"
        peer.wait_active(device, second)
        assert time.monotonic() - began_s > 12.0
