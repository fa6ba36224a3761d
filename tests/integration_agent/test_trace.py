"""`birthmark-agent trace`: seven steps with evidence, or the one that fails and why."""

import hashlib
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_agent.slots import Identity
from birthmark_server.domain import RevocationReason
from support.agent_site import AgentSite, Device
from support.broker_pki import BrokerPki
from support.ports import free_port
from support.server import Server

pytestmark = pytest.mark.parts

NAMES = [
    "connect",
    "server certificate",
    "its verification",
    "client certificate",
    "its verification",
    "access",
    "encrypted exchange",
]


def trace(device: Device, *options: str) -> dict[str, Any]:
    done = device.cli("trace", "--json", *options, check=False)
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode == 0) is answer["ok"]
    return answer


def last(device: Device, *options: str) -> dict[str, Any]:
    """Return the step that failed."""
    answer = trace(device, *options)
    assert not answer["ok"]
    assert all(step["ok"] for step in answer["steps"][:-1])
    failed: dict[str, Any] = answer["steps"][-1]
    return failed


@pytest.fixture(scope="module")
def device(site: AgentSite, server: Server) -> Device:
    device = site.device("TRACE-1")
    device.cli("enroll")
    return device


@pytest.mark.parametrize("options", [[], ["--server"]])
def test_seven_steps_with_the_evidence_of_this_connection(device: Device, options: list[str]) -> None:
    answer = trace(device, *options)
    assert [step["name"] for step in answer["steps"]] == NAMES
    assert all(step["ms"] >= 0 for step in answer["steps"])
    evidence = [step["evidence"] for step in answer["steps"]]
    slot = device.identities().slots.best()
    assert slot is not None
    assert evidence[3]["serial"] == slot.identity.serial_number
    assert evidence[3]["key"].startswith("in the TPM, under 0x81000001: 1 signature in")
    assert evidence[2]["path"].endswith("(pinned)")
    assert "ecdsa_secp256r1_sha256" in evidence[2]["signature"]
    assert "TLSv1.3" in evidence[6]["session"]


def test_people_get_aligned_lines(device: Device) -> None:
    lines = device.cli("trace").stdout.splitlines()
    assert sum(line[:1].isdigit() for line in lines) == 7
    assert lines[-1].startswith("mutual TLS stands")


def test_messages_that_wait_for_the_device_go_on_waiting(site: AgentSite, server: Server) -> None:
    waiting = site.device("TRACE-2")
    with waiting.running() as agent:
        agent.wait_log("connected broker")
    with site.control() as control:
        control.client.publish(f"devices/{waiting.device_id}/down/cmd", b"later", qos=1).wait_for_publish(5)
        assert trace(waiting)["ok"]
        with waiting.running() as agent:
            agent.wait_log("message-unreadable")


def test_while_the_agent_runs_its_session_is_its_own(site: AgentSite, server: Server) -> None:
    busy = site.device("TRACE-3")
    with site.control() as control, busy.running():
        control.wait_for(f"devices/{busy.device_id}/up/hello")
        answer = trace(busy)
        assert answer["ok"]
        assert answer["peer"] == "server"
        assert "the agent runs" in answer["note"]
        assert len(control.wait_for(f"devices/{busy.device_id}/up/hello")) == 1


def configured(device: Device, old: str, new: str) -> Device:
    """Return the device with one thing changed in its settings, in a folder of its own but with the same state."""
    folder = device.folder / f"changed-{hashlib.sha256(new.encode()).hexdigest()[:8]}"
    folder.mkdir()
    text = device.config.read_text().replace('folder = "state"', f'folder = "{device.state}"')
    assert old in text
    changed = Device(device.site, device.serial, device.tpm, folder)
    changed.config.write_text(text.replace(old, new))
    return changed


def test_step_1_nobody_listens(device: Device) -> None:
    step = last(configured(device, "[log]", f'[mqtt]\nhost = "localhost"\nport = {free_port()}\n[log]'))
    assert (step["step"], "nobody listens" in step["reason"]) == (1, True)


def test_step_3_a_wrong_root_and_a_wrong_name(device: Device, site: AgentSite, tmp_path: Path) -> None:
    stranger = tmp_path / "root.pem"
    stranger.write_text(ssl.DER_cert_to_PEM_cert(BrokerPki(tmp_path).root.certificate.public_bytes(Encoding.DER)))
    step = last(configured(device, str(site.installation.pki.root_pem), str(stranger)))
    assert step["step"] == 3
    assert "does not stand" in step["reason"]
    assert step["evidence"]["subject"].startswith("CN=srv-broker")
    named = f'[mqtt]\nhost = "127.0.0.2"\nport = {site.broker.port}\n[log]'
    step = last(configured(device, "[log]", named))
    assert step["step"] in (1, 3)  # 127.0.0.2 is not listened on everywhere


def test_step_4_a_key_that_the_tpm_does_not_have(site: AgentSite, server: Server) -> None:
    cleared = site.device("TRACE-4")
    cleared.cli("enroll")
    cleared.tpm.clear()
    step = last(cleared)
    assert step["step"] == 4
    assert "could not sign" in step["reason"]


def test_step_5_the_peer_refuses_the_certificate_and_the_server_says_why(site: AgentSite, server: Server) -> None:
    expired = site.device("TRACE-5")
    expired.cli("enroll")
    identities = expired.identities()
    with identities.open_tpm() as tpm:
        key_pem = tpm.create_operational_key()
        with tpm.load(key_pem) as key:
            chain = site.issue(expired, key.spki, at_s=-86_400 * 200, lifetime_s=86_400)
    identities.slots.clear()
    identities.slots.promote(identities.slots.write_spare(Identity.of(chain, key_pem)))
    step = last(expired)
    assert step["step"] == 5
    assert "expired" in step["reason"]


def test_step_6_the_peer_lets_nobody_in_with_a_revoked_certificate(site: AgentSite, server: Server) -> None:
    revoked = site.device("TRACE-6")
    revoked.cli("enroll")
    slot = revoked.identities().slots.best()
    assert slot is not None
    sha256 = hashlib.sha256(slot.identity.chain[0]).hexdigest()
    store = site.installation.store
    record = store.revoke_certificate(sha256, reason=RevocationReason.KEY_COMPROMISE, at=datetime.now(UTC), by="alice")
    site.broker.deny.add(serials=[record.serial_number])
    site.broker.reload()
    site.broker.wait_log("deny")
    step = last(revoked)
    assert step["step"] == 6
    assert "is revoked" in step["reason"]
    step = last(revoked, "--server")
    assert step["step"] == 6
    assert "certificate-revoked" in step["reason"]


def test_without_a_certificate_there_is_nothing_to_show(site: AgentSite) -> None:
    done = site.device("TRACE-7").cli("trace", check=False)
    assert done.returncode == 70
    assert "birthmark-agent enroll" in done.stderr
