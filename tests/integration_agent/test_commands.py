"""A device obeys what its server signed, and nothing else; whatever happens in between, it ends in one word."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from birthmark_server.ca.issuer import to_der
from birthmark_server.domain import CertificateProfile
from birthmark_wire.rotation import Ack, AckState, Hello, JobAnswer, JobRequest
from support.agent_site import AgentSite, Device
from support.pki import Leaf
from support.rotation_peer import RotationPeer, sign
from support.server import Server

pytestmark = pytest.mark.parts


def until(condition: Callable[[], bool], *, timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def serial(device: Device) -> str:
    slot = device.identities().slots.best()
    assert slot is not None
    return slot.identity.serial_number


def test_a_command_becomes_a_new_certificate_that_took_the_session_over(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-1")
    with RotationPeer.running(site) as peer, device.running() as agent:
        hello = peer.wait_for(device, "hello")
        assert isinstance(hello, Hello)
        assert (hello.job_id, hello.sequence) == ("", 0)
        job = peer.order(device)
        active = peer.wait_active(device, job)
        assert active.serial == serial(device) != hello.serial
        peer.wait_for(
            device,
            "hello",
            where=lambda m: isinstance(m, Hello) and (m.serial, m.job_id, m.sequence) == (active.serial, job, 1),
        )
        assert not [m for m in peer.said(device, "ack") if isinstance(m, Ack) and m.state is not AckState.ACCEPTED]
        assert "simplereenroll" not in server.log
        assert agent.log.count("session=True") == 1
        until(lambda: json.loads((device.state / "job").read_text())["reported"] is True)


def test_the_same_command_again_gets_the_same_answer_and_no_second_certificate(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-2")
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        job = peer.order(device)
        active = peer.wait_active(device, job)
        peer.heard.clear()
        peer.send(device, "cmd", peer.jobs[job][1])
        assert peer.wait_active(device, job) == active
        assert not peer.said(device, "csr")


def test_a_certificate_again_gets_the_same_answer_since_the_first_may_have_been_lost(
    site: AgentSite, server: Server
) -> None:
    device = site.device("CMD-12")
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        job = peer.order(device)
        active = peer.wait_active(device, job)
        (request,) = peer.said(device, "csr")
        peer.heard.clear()
        peer.answer(device, request)
        assert peer.wait_active(device, job, timeout_s=10) == active


def refused(peer: RotationPeer, device: Device, job_id: str) -> str:
    return peer.wait_ack(device, job_id, AckState.REFUSED).code


def test_what_is_not_ours_to_obey_is_refused_with_a_stable_code(site: AgentSite, server: Server) -> None:
    device, pki = site.device("CMD-3"), site.installation.pki
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        before = peer.order(device)
        peer.wait_active(device, before)
        now = serial(device)

        def send(signer: Leaf, **changes: Any) -> str:
            command = peer.command(device, **changes)
            peer.send(device, "cmd", sign(command, signer))
            return refused(peer, device, command.job_id)

        control = pki.infra(CertificateProfile.CONTROL, "srv-control-2")
        expired = pki.infra(
            CertificateProfile.COMMAND,
            "srv-command-2",
            now=datetime.now(UTC).replace(microsecond=0) - timedelta(days=30),
            lifetime=timedelta(days=1),
        )
        assert send(control) == "command-unsigned"
        assert send(pki.device("dev-cmd-3")) == "command-unsigned"
        assert send(expired) == "command-unsigned"
        assert send(peer.signer, device_id="dev-other") == "command-for-another"
        past = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
        assert send(peer.signer, expires_at=past) == "command-expired"
        assert send(peer.signer, sequence=1) == "command-changed"
        good = peer.order(device)  # not one of the refused ones counts as taken
        peer.wait_active(device, good)
        assert send(peer.signer, sequence=2) == "command-stale"
        assert serial(device) != now
        altered = sign(peer.command(device, job_id="0123456789abcdef"), peer.signer)
        head, payload, _signature = altered.split(b".")
        other = sign(peer.command(device), peer.signer).split(b".")[2]
        peer.send(device, "cmd", b".".join((head, payload, other)))
        assert refused(peer, device, "0123456789abcdef") == "command-unsigned"
        agent.wait_log("command-refused", count=8)


def test_garbage_is_dropped_and_logged(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-4")
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        for leaf in ("cmd", "nonce", "cert"):
            peer.send(device, leaf, b"garbage")
            peer.send(device, leaf, b"")
        peer.send(device, "app/nobody/cmd", b"garbage")
        agent.wait_log("message-unreadable", count=6)
        job = peer.order(device)
        peer.wait_active(device, job)
        assert agent.log.count("message-unreadable") == 6  # what is an application's, and named like ours, is not ours


def test_a_server_that_says_later_is_obeyed_and_a_refusal_is_final(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-5")
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        job = peer.command(device)
        peer.refusals.append(JobAnswer(job.job_id, code="busy", detail="a storm", retry_after_s=2))
        peer.order(device, command=job)
        agent.wait_log("server-said-later")
        at = datetime.now(UTC)
        peer.wait_active(device, job.job_id)
        assert datetime.now(UTC) - at > timedelta(seconds=2)
        assert len({m.csr for m in peer.said(device, "csr") if isinstance(m, JobRequest)}) == 2  # a new key
        after = serial(device)
        second = peer.command(device)
        peer.refusals.append(JobAnswer(second.job_id, code="attest-binding", detail="another nonce"))
        peer.order(device, command=second)
        assert peer.wait_ack(device, second.job_id, AckState.FAILED).code == "attest-binding"
        assert serial(device) == after
        assert device.cli("status").returncode == 0


def test_a_certificate_for_another_key_or_device_is_refused_and_the_old_one_stays(
    site: AgentSite, server: Server
) -> None:
    device, other = site.device("CMD-6"), site.installation.pki.device("dev-cmd-6")
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        before = serial(device)
        command = peer.command(device)
        fleet = site.installation.pki.authority.fleet
        peer.refusals.append(JobAnswer(command.job_id, (other.der, to_der(fleet.certificate))))
        peer.order(device, command=command)
        assert peer.wait_ack(device, command.job_id, AckState.FAILED).code == "unusable-answer"
        assert serial(device) == before


def test_a_server_that_says_later_before_there_is_a_nonce_is_obeyed_too(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-10")
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        peer.silent_about.add("ack")
        job = peer.order(device)
        peer.wait_ack(device, job, AckState.ACCEPTED)
        peer.silent_about.clear()
        peer.send(device, "cert", JobAnswer(job, code="busy", detail="many rotate", retry_after_s=1).encode())
        agent.wait_log("server-said-later")
        peer.wait_active(device, job)


def test_an_answer_that_came_while_the_device_was_down_is_asked_for_again_with_the_same_request(
    site: AgentSite, server: Server
) -> None:
    device = site.device("CMD-11")
    with RotationPeer.running(site) as peer:
        peer.silent_about.add("csr")
        with device.running() as agent:
            peer.wait_for(device, "hello")
            job = peer.order(device)
            request = peer.wait_for(device, "csr")
            agent.stop(9)
        assert isinstance(request, JobRequest)
        peer.certify(device, request)  # issued, and the message with it expired at the broker
        peer.silent_about.clear()
        with device.running():
            active = peer.wait_active(device, job)
        assert peer.said(device, "csr") == [request, request]
        (issued,) = [
            r
            for r in site.installation.store.device_certificates(device.device_id)
            if r.serial_number.lstrip("0") == active.serial
        ]
        assert issued.revoked_at is None


def test_a_restart_in_between_finishes_the_job_with_the_same_key(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-7")
    with RotationPeer.running(site) as peer:
        peer.silent_about.add("csr")
        with device.running() as agent:
            peer.wait_for(device, "hello")
            job = peer.order(device)
            peer.wait_for(device, "csr")
            agent.stop(9)
        key = json.loads((device.state / "job").read_text())["key_pem"]
        peer.silent_about.clear()
        with device.running():
            active = peer.wait_active(device, job)
        slot = device.identities().slots.best()
        assert slot is not None
        assert slot.identity.key_pem.decode() == key
        assert slot.identity.serial_number == active.serial


def test_an_open_job_that_a_later_command_replaces_is_said_to_have_failed(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-8")
    with RotationPeer.running(site) as peer, device.running():
        peer.wait_for(device, "hello")
        peer.silent_about.add("ack")
        first = peer.order(device)
        peer.wait_ack(device, first, AckState.ACCEPTED)
        peer.silent_about.clear()
        second = peer.order(device)
        assert peer.wait_ack(device, first, AckState.FAILED).code == "superseded"
        peer.wait_active(device, second)


def test_a_renewal_of_its_own_and_a_command_never_run_at_once(site: AgentSite, server: Server) -> None:
    device = site.device("CMD-9")
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        peer.silent_about.add("csr")
        since = len(server.log)
        job = peer.order(device)
        peer.wait_for(device, "csr")
        agent.renew()
        agent.wait_log("connected broker")
        peer.silent_about.clear()
        assert "simplereenroll" not in server.log[since:]
        (request,) = peer.said(device, "csr")
        peer.answer(device, request)
        peer.wait_active(device, job)
        peer.wait_for(device, "active", where=lambda m: getattr(m, "job_id", None) == "")  # then SIGHUP's own
        assert "simplereenroll" in server.log[since:]
