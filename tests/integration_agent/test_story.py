"""The main job on real parts: a device is born, attested, certified, connected over mutual TLS, and rotates."""

import json
import signal
import threading
from pathlib import Path

import pytest

from birthmark_agent.homecoming import Homecoming
from birthmark_agent.run import Agent
from birthmark_agent.systemd import Notifier
from birthmark_server.domain import CertificateProfile
from support.agent_site import AgentSite
from support.server import Server

pytestmark = pytest.mark.parts


def up(device_id: str, leaf: str) -> str:
    return f"devices/{device_id}/up/{leaf}"


def test_a_device_is_born_connects_rotates_and_stops_in_order(site: AgentSite, server: Server) -> None:
    device = site.device("STORY-1")
    enrolled = json.loads(device.cli("enroll", "--json").stdout)
    assert enrolled["device_id"] == device.device_id
    with site.control() as control, device.running() as agent:
        hello = control.wait_for(up(device.device_id, "hello"))[0]
        assert hello["serial"] == enrolled["certificate"]["serial"]
        agent.renew()
        active = control.wait_for(up(device.device_id, "active"))[0]
        assert active["serial"] != hello["serial"]
        assert control.wait_for(up(device.device_id, "hello"), 2)[1]["serial"] == active["serial"]
        status = device.status()
        assert status["running"] is True
        assert status["next_action"] == "renew"
        assert agent.stop() == 0
        assert control.wait_for(up(device.device_id, "status")) == [{"state": "offline", "reason": "stopped"}]
    profiles = [record.profile for record in site.installation.store.device_certificates(device.device_id)]
    assert sorted(profiles) == [CertificateProfile.IDEVID, CertificateProfile.LDEVID, CertificateProfile.LDEVID]


def test_rotations_lose_no_message_of_a_stream(
    site: AgentSite, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = site.device("STORY-2")
    identities = device.identities()
    Homecoming(identities).find()
    heard: list[int] = []
    agent = Agent(identities, notifier=Notifier({}))
    monkeypatch.setattr(agent, "_heard", lambda _leaf, payload: heard.append(int(payload)))
    running = threading.Thread(target=agent.run)
    stop = threading.Event()
    with site.control() as control:
        running.start()
        try:
            control.wait_for(up(device.device_id, "hello"))
            stream = threading.Thread(target=control.stream, args=(device.device_id, stop))
            stream.start()
            for count in range(1, 4):
                agent.request_renewal()
                control.wait_for(up(device.device_id, "active"), count)
            stop.set()
            stream.join()
            wanted = set(range(control.sent))
            pause = threading.Event()
            for _ in range(200):
                if set(heard) == wanted:
                    break
                pause.wait(0.02)
            assert set(heard) == wanted
            assert not [topic for topic, _ in control.heard if topic == up(device.device_id, "status")]
        finally:
            stop.set()
            agent.stop()
            running.join()


def test_the_agent_that_is_killed_leaves_its_will_and_comes_back(site: AgentSite, server: Server) -> None:
    device = site.device("STORY-3")
    with site.control() as control:
        with device.running() as agent:
            control.wait_for(up(device.device_id, "hello"))
            agent.stop(signal.SIGKILL)
        assert control.wait_for(up(device.device_id, "status")) == [{"state": "offline", "reason": "lost"}]
        with device.running() as again:
            assert len(control.wait_for(up(device.device_id, "hello"), 2)) == 2
            assert "enrolling" not in again.log


def test_a_first_run_enrolls_by_itself_and_a_second_agent_is_refused(site: AgentSite, server: Server) -> None:
    device = site.device("STORY-4")
    with device.running() as agent:
        agent.wait_log("connected broker")
        second = device.cli("run", check=False)
        assert second.returncode == 75
        assert "another agent works with" in second.stderr
        assert device.cli("enroll", check=False).returncode == 75
        renewed = device.cli("renew", "--json")
        assert json.loads(renewed.stdout)["report"]["renewals"] == 1


def test_renew_without_a_running_agent_connects_rotates_and_leaves(site: AgentSite, server: Server) -> None:
    device = site.device("STORY-5")
    before = json.loads(device.cli("enroll", "--json").stdout)["certificate"]["serial"]
    with site.control() as control:
        after = json.loads(device.cli("renew", "--json").stdout)["certificate"]["serial"]
        assert control.wait_for(up(device.device_id, "active")) == [
            {"protocol": "birthmark/1", "serial": after, "job_id": ""}
        ]
    assert after != before


def test_enroll_again_gives_the_same_birth_certificate(site: AgentSite, server: Server) -> None:
    device = site.device("STORY-6")
    device.cli("enroll")
    birth = (device.state / "birth.json").read_bytes()
    device.cli("enroll", "--again")
    assert (device.state / "birth.json").read_bytes() == birth


def test_a_stranger_is_refused_with_the_servers_reason(site: AgentSite, server: Server) -> None:
    device = site.device("STORY-7", listed=False)
    refused = device.cli("enroll", check=False)
    assert refused.returncode == 77
    assert "request" in refused.stderr
    assert not (device.state / "birth.json").exists()


def test_who_is_connected_holds_neither_the_tpms_library_nor_cryptography(site: AgentSite, server: Server) -> None:
    """17 MB, which are needed apart, and gone with the child: after a birth, a connection and a rotation alike."""
    device = site.device("STORY-8")
    with site.control() as control, device.running() as agent:
        control.wait_for(up(device.device_id, "hello"))
        agent.renew()
        control.wait_for(up(device.device_id, "hello"), 2)
        mapped = Path(f"/proc/{agent.process.pid}/maps").read_text()
        children = Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text()
    assert "libssl" in mapped
    assert "libtss2" not in mapped
    assert "cryptography" not in mapped
    assert children == ""
