"""`birthmark-agent doctor` finds what is wrong and says what to do; it exits 0 only if all is well."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from birthmark_server.domain import RevocationReason
from support.agent_site import AgentSite, Device
from support.server import Server

pytestmark = pytest.mark.parts


def examine(device: Device) -> tuple[int, dict[str, dict[str, Any]]]:
    done = device.cli("doctor", "--json", check=False)
    return done.returncode, {check["check"]: check for check in json.loads(done.stdout)["checks"]}


def test_a_healthy_device_is_well_and_stays_connected(site: AgentSite, server: Server) -> None:
    device = site.device("DOC-1")
    with device.running() as agent:
        agent.wait_log("connected broker")
        code, checks = examine(device)
        assert code == 0, checks
        assert {check["level"] for check in checks.values()} == {"ok"}
        assert agent.log.count("connected broker") == 1


def test_what_is_missing_before_the_first_enrollment_is_named(site: AgentSite, server: Server) -> None:
    code, checks = examine(site.device("DOC-2"))
    assert code == 1
    assert checks["birth certificate"]["advice"] == "birthmark-agent enroll"
    assert checks["TPM"]["level"] == "ok"


def test_a_tpm_that_is_not_there_hides_nothing_else(site: AgentSite, server: Server) -> None:
    device = site.device("DOC-3")
    device.cli("enroll")
    device.tpm.stop()
    code, checks = examine(device)
    assert code == 1
    assert [name for name, check in checks.items() if check["level"] == "wrong"] == ["TPM"]
    assert "tpm.tcti" in checks["TPM"]["advice"]
    assert device.cli("enroll", "--again", check=False).returncode == 69
    assert checks["trust anchor"]["level"] == "ok"


def test_files_that_others_may_read_and_a_foreign_key_are_named(site: AgentSite, server: Server) -> None:
    device = site.device("DOC-4")
    device.cli("enroll")
    (device.state / "birth.json").chmod(0o644)
    device.tpm.clear()
    code, checks = examine(device)
    assert code == 1
    assert "chmod go=" in checks["state folder"]["advice"]
    assert checks["storage key"]["level"] == "wrong"


def test_a_broker_that_is_down_is_named(site: AgentSite, server: Server) -> None:
    device = site.device("DOC-5")
    device.cli("enroll")
    site.broker.stop()
    try:
        code, checks = examine(device)
    finally:
        site.broker.start()
    assert code == 1
    assert checks["broker"]["level"] == "wrong"
    assert "nobody listens" in checks["broker"]["seen"]
    assert checks["server"]["level"] == "ok"


def revoke(site: AgentSite, device: Device) -> None:
    """Revoke the operational certificate, and tell the broker's gate."""
    slot = device.identities().slots.best()
    assert slot is not None
    sha256 = hashlib.sha256(slot.identity.chain[0]).hexdigest()
    record = site.installation.store.revoke_certificate(
        sha256, reason=RevocationReason.KEY_COMPROMISE, at=datetime.now(UTC), by="alice"
    )
    site.broker.deny.add(serials=[record.serial_number])
    site.broker.reload()
    site.broker.wait_log("deny")


def test_the_broker_is_asked_by_a_connect_as_the_gate_lets_a_revoked_certificate_through_tls(
    site: AgentSite, server: Server
) -> None:
    device = site.device("DOC-6")
    device.cli("enroll")
    _code, checks = examine(device)
    assert "lets us in" in checks["broker"]["seen"]
    revoke(site, device)
    code, checks = examine(device)
    assert code == 1
    assert checks["broker"]["level"] == "wrong"


def test_a_running_agent_is_not_disturbed_and_is_believed_when_it_is_not_connected(
    site: AgentSite, server: Server
) -> None:
    device = site.device("DOC-7")
    with device.running() as agent:
        agent.wait_log("connected broker")
        site.broker.stop()
        try:
            agent.wait_log("not-connected")
            code, checks = examine(device)
            note = json.loads(device.cli("trace", "--json", check=False).stdout)["note"]
        finally:
            site.broker.start()
    assert code == 1
    assert checks["broker"]["level"] == "wrong"
    assert "the agent is not connected" in checks["broker"]["seen"]
    assert "holds the session" not in note
    assert "is not connected to the broker" in note
