"""What was lost on the way is sent again, and the same job goes on over EST."""

import itertools

import pytest

from birthmark_server.jobs import JobState
from birthmark_wire.rotation import Active, JobNonce
from rotation.world import Broker, a_round, converse, device, hear, job_for, job_of, revoked, tell
from support.core import Core


def test_a_hello_brings_the_command_again_until_the_job_is_over(core: Core) -> None:
    of = device(core)
    assert tell(core, of, of.hello()) == []
    job = job_for(core, of)
    for _ in range(2):
        (told,) = tell(core, of, of.hello())
        assert of.read_command(told.payload).job_id == job.job_id
    converse(core, of, [told])
    # It takes over its session with the new certificate: no command may make it begin again.
    assert tell(core, of, of.hello()) == []
    tell(core, of, of.switch())
    assert tell(core, of, of.hello()) == []


def test_a_command_is_sent_again_with_pauses_that_grow_and_is_the_same_command(core: Core) -> None:
    of, broker = device(core), Broker()
    job_for(core, of)
    sent = []
    for _ in range(600):
        if a_round(core, broker).run():
            sent.append(core.clock())
        core.clock.forward(seconds=5)
    assert [(b - a).seconds for a, b in itertools.pairwise(sent)] == [20, 80, 320, 1280]
    assert len({of.read_command(payload) for _, payload in broker.carried}) == 1


def test_a_device_that_falls_silent_is_given_its_certificate_again_then_its_command(core: Core) -> None:
    of, broker = device(core), Broker()
    job = job_for(core, of)
    a_round(core, broker).run()
    csr = hear(of, tell(core, of, of.take("cmd", broker.carried.pop()[1])))
    (lost,) = tell(core, of, csr)
    for leaf in ("cert", "cmd"):
        core.clock.forward(minutes=17)
        a_round(core, broker).run()
        topic, payload = broker.carried.pop()
        assert topic == f"devices/{of.device_id}/down/{leaf}"
        assert leaf == "cmd" or payload == lost.payload
    assert job_of(core, job).state is JobState.ISSUED


def test_a_word_that_was_lost_is_made_up_for_by_a_hello_when_the_certificate_has_settled(core: Core) -> None:
    of, broker = device(core), Broker()
    old = of.serial
    of.identity = core.renew(of.tpm, of.identity, of.device_id)
    broker.show(of)
    for minutes, gone in ((59, set()), (2, {old})):
        core.clock.forward(minutes=minutes)
        tell(core, of, of.hello())
        a_round(core, broker).run()
        assert revoked(core, of) == gone


def test_nothing_is_claimed_while_the_broker_is_down(core: Core) -> None:
    of, broker = device(core), Broker(live=False)
    job = job_for(core, of)
    a_round(core, broker).run()
    broker.live = True
    a_round(core, broker).run()
    assert (len(broker.carried), job_of(core, job).sends) == (1, 1)


def test_the_same_job_over_est_where_the_broker_is_out_of_reach(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    nonce = core.services.renewal.nonce(core.caller(of.identity))
    key = of.tpm.new_operational_key()
    csr = of.csr(key, JobNonce(job.job_id, nonce.nonce, 300))
    issued = core.services.renewal.reenroll(csr, core.caller(of.identity))
    after = job_of(core, job)
    assert (after.state, after.certificate_sha256 != "") == (JobState.ISSUED, True)
    tell(core, of, [("active", Active(f"{issued.serial_number:x}", job.job_id).encode())])
    assert job_of(core, job).state is JobState.ACTIVE


def test_evidence_over_est_for_a_job_that_is_not_the_devices_is_refused(core: Core) -> None:
    of, other = device(core), device(core)
    job = job_for(core, other)
    nonce = core.services.renewal.nonce(core.caller(of.identity))
    csr = of.csr(of.tpm.new_operational_key(), JobNonce(job.job_id, nonce.nonce, 300))
    with pytest.raises(Exception, match="living nonce"):
        core.services.renewal.reenroll(csr, core.caller(of.identity))
    assert job_of(core, job).state is JobState.WAITING
