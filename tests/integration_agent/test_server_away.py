"""A server that is down: nothing that works stops, nothing that waits gives up."""

import pytest

from support.agent_site import AgentSite

pytestmark = pytest.mark.parts


def test_a_server_that_is_down_costs_no_connection(site: AgentSite) -> None:
    device = site.device("FAIL-2")
    with site.server():
        device.cli("enroll")
    with site.control() as control, device.running() as agent:
        before = control.wait_for(f"devices/{device.device_id}/up/hello")[0]["serial"]
        renewed = device.cli("renew", check=False)
        assert renewed.returncode != 0
        assert "nobody listens" in renewed.stderr
        status = device.status()
        report = status["report"]
        assert isinstance(report, dict)
        assert report["renewal_result"] == "server-unreachable"
        assert report["phase"] == "connected"
        with site.server():
            agent.renew()
            active = control.wait_for(f"devices/{device.device_id}/up/active")[0]["serial"]
            assert active != before


def test_without_a_server_and_without_an_identity_the_agent_waits(site: AgentSite) -> None:
    device = site.device("FAIL-3")
    done = device.cli("enroll", check=False)
    assert done.returncode == 75
    with device.running() as agent:
        agent.wait_log("nobody listens", count=3)
        with site.server():
            agent.wait_log("connected broker")
