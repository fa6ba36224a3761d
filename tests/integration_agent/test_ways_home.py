"""Every way home, end to end: what a device lost, and how it comes back by itself, by the cheapest way that is open."""

import hashlib
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from birthmark_agent.slots import Identity
from birthmark_server.domain import BoardSwap, CertificateProfile, CertificateRecord, RevocationReason
from support.agent_site import AgentSite, Device, ek_sha256
from support.server import Server

pytestmark = pytest.mark.parts


def asked(server: Server, since: int) -> list[str]:
    """Return what the server was asked for since its log was so long: the last segments of the paths."""
    lines = [line for line in server.log[since:].splitlines() if " path=" in line]
    return [line.partition(" path=")[2].split()[0].rpartition("/")[2] for line in lines]


def birth_certificates(site: AgentSite, device: Device) -> list[CertificateRecord]:
    records = site.installation.store.device_certificates(device.device_id)
    return [record for record in records if record.profile is CertificateProfile.IDEVID]


def expire(site: AgentSite, device: Device) -> None:
    """Put an expired certificate into the slot in use, as if the device had been in a drawer for years."""
    identities = device.identities()
    slot = identities.slots.best()
    assert slot is not None
    with identities.open_tpm() as tpm:
        key_pem = tpm.create_operational_key()
        with tpm.load(key_pem) as key:
            spki = key.spki
    year_s = 360 * 86_400.0
    chain = site.issue(device, spki, at_s=-year_s, lifetime_s=86_400)
    identities.slots.clear()
    identities.slots.promote(identities.slots.write_spare(Identity.of(chain, key_pem)))


def test_nothing_lost_nothing_asked_but_whether_it_still_holds(site: AgentSite, server: Server) -> None:
    device = site.device("HOME-1")
    device.cli("enroll")
    since = len(server.log)
    device.cli("enroll")
    assert asked(server, since) == ["nonce"]


def test_an_expired_certificate_is_healed_by_the_birth_certificate(site: AgentSite, server: Server) -> None:
    device = site.device("HOME-2")
    device.cli("enroll")
    expire(site, device)
    assert device.cli("status", check=False).returncode == 1
    since = len(server.log)
    with site.control() as control, device.running():
        control.wait_for(f"devices/{device.device_id}/up/hello")
    assert "simpleenroll" in asked(server, since)
    assert "enrollments" not in asked(server, since)


def test_a_lost_disk_is_healed_by_the_birth_certificate_in_the_tpm(site: AgentSite, server: Server) -> None:
    device = site.device("HOME-3")
    device.cli("enroll")
    shutil.rmtree(device.state)
    since = len(server.log)
    with site.control() as control, device.running():
        control.wait_for(f"devices/{device.device_id}/up/hello")
    assert "simpleenroll" in asked(server, since)
    assert "enrollments" not in asked(server, since)
    assert (device.state / "birth.json").exists()


def test_tpm2_clear_is_healed_by_the_birth_certificate_on_disk(site: AgentSite, server: Server) -> None:
    device = site.device("HOME-4")
    device.cli("enroll")
    device.tpm.clear()
    since = len(server.log)
    with site.control() as control, device.running():
        control.wait_for(f"devices/{device.device_id}/up/hello")
    assert "simpleenroll" in asked(server, since)
    assert "enrollments" not in asked(server, since)
    with device.identities().open_tpm() as tpm:
        assert tpm.read_birth_certificate()  # the copy in NV is there again


def test_disk_and_nv_lost_is_healed_by_attestation_and_the_same_birth_certificate(
    site: AgentSite, server: Server
) -> None:
    device = site.device("HOME-5")
    device.cli("enroll")
    birth = (device.state / "birth.json").read_bytes()
    shutil.rmtree(device.state)
    device.tpm.clear()
    since = len(server.log)
    with site.control() as control, device.running():
        control.wait_for(f"devices/{device.device_id}/up/hello")
    assert "enrollments" in asked(server, since)
    assert (device.state / "birth.json").read_bytes() == birth
    assert len(birth_certificates(site, device)) == 1


def test_a_certificate_that_the_server_refuses_gives_way_to_the_other_slot(site: AgentSite, server: Server) -> None:
    device = site.device("HOME-6")
    device.cli("enroll")
    device.cli("renew")
    slots = device.identities().slots.candidates()
    assert len(slots) == 2
    site.installation.store.revoke_certificate(
        hashlib.sha256(slots[0].identity.chain[0]).hexdigest(),
        reason=RevocationReason.SUPERSEDED,
        at=datetime.now(UTC),
        by="alice",
    )
    since = len(server.log)
    device.cli("enroll")
    assert asked(server, since) == ["nonce", "nonce"]


def test_a_device_revoked_by_mistake_comes_back_by_itself_once_readmitted(site: AgentSite, server: Server) -> None:
    device = site.device("HOME-7")
    device.cli("enroll")
    store = site.installation.store
    revoked = store.revoke_device(
        device.device_id, reason=RevocationReason.KEY_COMPROMISE, at=datetime.now(UTC), by="alice"
    )
    deny(site, revoked)
    with site.control() as control, device.running() as agent:
        agent.wait_log("server-refused", count=3)
        assert not [topic for topic, _ in control.heard if device.device_id in topic]
        store.readmit_device(device.device_id, at=datetime.now(UTC), by="alice")
        control.wait_for(f"devices/{device.device_id}/up/hello")
    assert len(birth_certificates(site, device)) == 2  # the first one stays revoked
    assert device.status()["device_id"] == device.device_id


def test_a_birth_certificate_alone_revoked_is_healed_by_attestation(site: AgentSite, server: Server) -> None:
    device = site.device("HOME-8")
    device.cli("enroll")
    (birth,) = birth_certificates(site, device)
    site.installation.store.revoke_certificate(
        birth.sha256, reason=RevocationReason.UNSPECIFIED, at=datetime.now(UTC), by="alice"
    )
    expire(site, device)
    since = len(server.log)
    device.cli("enroll")
    assert "enrollments" in asked(server, since)
    assert len(birth_certificates(site, device)) == 2


def deny(site: AgentSite, records: list[CertificateRecord]) -> None:
    """Put certificates on the broker's deny file, as the server does, and let it read it."""
    site.broker.deny.add(serials=[record.serial_number for record in records])
    site.broker.reload()


def test_a_new_board_takes_the_old_ones_place_and_hears_nothing_that_was_meant_for_it(
    site: AgentSite, server: Server
) -> None:
    old, store = site.device("HOME-10"), site.installation.store
    old.cli("enroll")
    with site.control() as control, old.running():
        control.wait_for(f"devices/{old.device_id}/up/hello")
    board = site.device("HOME-10-BOARD", listed=False)
    assert board.cli("enroll", check=False).returncode == 77
    store.request_swap(BoardSwap(old.device_id, ek_sha256(board.tpm), "alice", datetime.now(UTC)))
    at = datetime.now(UTC)
    store.approve_swap(old.device_id, by="bob", at=at, expires_at=at + timedelta(days=1))
    with site.control() as control:
        control.client.publish(f"devices/{old.device_id}/down/cmd", b"for the old board", qos=1).wait_for_publish(10)
        board.cli("enroll")
        with board.running() as agent:
            control.wait_for(f"devices/{old.device_id}/up/hello")
            control.client.publish(f"devices/{old.device_id}/down/cmd", b"for the new board", qos=1)
            agent.wait_log("message-unreadable")
            assert agent.log.count("message-unreadable") == 1
        with board.running() as agent:
            control.wait_for(f"devices/{old.device_id}/up/hello", 2)
            agent.wait_log("session=True")  # from now on the session is its own
    assert old.cli("enroll", check=False).returncode == 77
