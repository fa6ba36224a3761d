"""One rotation, message by message, and all that can come instead of the right one."""

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import pytest

from birthmark_server.broker.control import Connection
from birthmark_server.ca.issuer import to_der
from birthmark_server.domain import RevocationReason
from birthmark_server.jobs import ENDED, TRANSITIONS, Job, JobEvent, JobState
from birthmark_server.rotation.service import RotationPolicy, RotationService
from birthmark_wire.rotation import Ack, AckState, Active, JobAnswer, JobNonce, JobRequest
from birthmark_wire.trust import TrustAck
from rotation.world import Broker, a_round, command, converse, device, hear, job_for, job_of, revoked, tell
from support.core import Core
from support.rotating import RotatingDevice, serial_of
from support.server import Clock, Installation
from support.two_roots import NEW, stand, succeed_root


def rotated(core: Core) -> tuple[RotatingDevice, Job]:
    """A device with its new certificate in the spare slot."""
    of = device(core)
    job = job_for(core, of)
    converse(core, of, command(core, job))
    assert of.spare is not None
    return of, job


def test_a_rotation_from_command_to_retirement(core: Core) -> None:
    of, broker = device(core), Broker()
    old, job = of.serial, job_for(core, of)
    assert a_round(core, broker).run() == 1
    ((topic, payload),) = broker.carried
    assert topic == f"devices/{of.device_id}/down/cmd"
    said = of.take("cmd", payload)
    assert said == [("ack", Ack(job.job_id, AckState.ACCEPTED).encode())]
    nonce = tell(core, of, said)
    assert job_of(core, job).state is JobState.ACCEPTED
    certificate = tell(core, of, hear(of, nonce))
    assert job_of(core, job).state is JobState.ISSUED
    assert hear(of, certificate) == []
    assert of.spare is not None
    assert of.spare.certificate.subject == of.identity.certificate.subject
    broker.show(of)
    assert tell(core, of, of.switch()) == []
    assert job_of(core, job).state is JobState.ACTIVE
    a_round(core, broker).run()
    assert job_of(core, job).state is JobState.ACTIVE, "the broker shows the old certificate still"
    broker.show(of)
    core.clock.forward(seconds=3)
    a_round(core, broker).run()
    done = job_of(core, job)
    assert (done.state, done.code) == (JobState.DONE, "")
    reasons = {one.serial_number: one.reason for one in core.store.device_certificates(of.device_id)}
    assert reasons[old] is RevocationReason.SUPERSEDED
    assert reasons[of.serial] is None


def test_an_old_certificate_is_never_retired_on_a_devices_word(core: Core) -> None:
    of, _ = rotated(core)
    broker = Broker()
    broker.show(of)
    tell(core, of, of.switch())
    for _ in range(20):
        a_round(core, broker).run()
        core.clock.forward(minutes=10)
    assert [one.revoked_at for one in core.store.device_certificates(of.device_id)] == [None] * 3


def test_a_renewal_of_a_devices_own_is_retired_for_in_the_same_way(core: Core) -> None:
    of, broker = device(core), Broker()
    old = of.serial
    of.identity = core.renew(of.tpm, of.identity, of.device_id)
    assert tell(core, of, [("active", Active(of.serial).encode())]) == []
    broker.show(of)
    a_round(core, broker).run()
    assert revoked(core, of) == {old}


def test_a_list_that_takes_long_is_asked_for_the_less_often(core: Core) -> None:
    """2 s for the list of a large fleet: not again for 2 s more, whatever is due until then."""
    of, _ = rotated(core)
    seconds, asked = [0.0], []

    class Large(Broker):
        def connections_of(self, device_ids: Collection[str]) -> list[Connection]:
            asked.append(seconds[0])
            seconds[0] += 2
            return super().connections_of(device_ids)

    broker = Large()
    tell(core, of, of.switch())
    looking = a_round(core, broker, stopwatch=lambda: seconds[0])
    for _ in range(50):
        looking.run()
        core.clock.forward(minutes=10)
        seconds[0] += 1
    assert asked[:4] == [0.0, 4.0, 8.0, 12.0]
    broker.show(of)
    seconds[0] += 20
    assert looking.run() == 1


# -- duplicates, late ones, others', garbage


def test_the_same_word_again_gets_the_same_answer_and_changes_nothing(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    told = command(core, job)
    for _ in range(2):
        said = hear(of, told)
        first, state = tell(core, of, said), job_of(core, job)
        assert tell(core, of, said) == first
        assert job_of(core, job) == state
        told = first
    hear(of, told)
    tell(core, of, active := of.switch())
    state = job_of(core, job)
    assert tell(core, of, active) == []
    assert job_of(core, job) == state
    assert len(core.store.device_certificates(of.device_id)) == 3


def test_the_certificate_is_given_again_after_the_job_is_over(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    csr = hear(of, tell(core, of, hear(of, command(core, job))))
    first = tell(core, of, csr)
    hear(of, first)
    broker = Broker()
    tell(core, of, of.switch())
    broker.show(of)
    a_round(core, broker).run()
    assert job_of(core, job).state is JobState.DONE
    assert tell(core, of, csr) == first


def test_garbage_changes_nothing_and_is_on_record(core: Core) -> None:
    of, job = rotated(core)
    before = job_of(core, job)
    for payload in (b"garbage", b"", b"{}", b"\x00\xff", b'{"protocol":"birthmark/1"}', b"[" * 9000):
        for leaf in ("ack", "csr", "active", "hello", "status"):
            assert tell(core, of, [(leaf, payload)]) == []
            assert job_of(core, job) == before
    last, *_, first = core.store.list_refusals(device_id=of.device_id)
    assert (first.door, first.code, first.evidence) == ("mqtt ack", "message-unreadable", b"garbage")
    assert last.door == "mqtt active"


def test_another_devices_job_is_nobodys(core: Core) -> None:
    of, thief = device(core), device(core)
    job = job_for(core, of)
    before = job_of(core, job)
    for state in AckState:
        (answer,) = tell(core, thief, [("ack", Ack(job.job_id, state).encode())])
        assert JobAnswer.decode(answer.payload).code == "no-such-job"
        unknown = tell(core, thief, [("ack", Ack("no-job-at-all", state).encode())])
        assert JobAnswer.decode(unknown[0].payload).code == "no-such-job"
    nonce = hear(of, tell(core, of, hear(of, command(core, job))))
    (answer,) = tell(core, thief, nonce)
    assert JobAnswer.decode(answer.payload).code == "no-such-job"
    tell(core, thief, [("active", Active(thief.serial, job.job_id).encode())])
    assert job_of(core, job).state is JobState.ACCEPTED
    assert before.state is JobState.WAITING
    assert len(core.store.device_certificates(thief.device_id)) == 2


def test_evidence_over_another_job_or_nonce_is_refused_and_the_job_goes_on(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    (told,) = tell(core, of, hear(of, command(core, job)))
    nonce = JobNonce.decode(told.payload)
    for csr in (
        of.csr(of.tpm.new_operational_key(), nonce, job_id=""),
        of.csr(of.tpm.new_operational_key(), nonce, job_id="another"),
        of.csr(of.tpm.new_operational_key(), replace(nonce, nonce=bytes(32))),
        b"\x30\x00",
    ):
        (answer,) = tell(core, of, [("csr", JobRequest(job.job_id, of.serial, csr).encode())])
        said = JobAnswer.decode(answer.payload)
        assert said.code
        assert not said.chain
        after = job_of(core, job)
        assert (after.state, after.nonce, after.code) == (JobState.ACCEPTED, nonce.nonce, said.code)
    converse(core, of, [told])
    assert job_of(core, job).state is JobState.ISSUED


def test_evidence_bound_to_a_certificate_that_does_not_stand_is_refused(core: Core) -> None:
    of = device(core)
    stranger = device(core)
    job = job_for(core, of)
    (told,) = tell(core, of, hear(of, command(core, job)))
    csr = of.csr(of.tpm.new_operational_key(), JobNonce.decode(told.payload))
    for serial in (stranger.serial, "abc"):
        (answer,) = tell(core, of, [("csr", JobRequest(job.job_id, serial, csr).encode())])
        assert JobAnswer.decode(answer.payload).code == "not-your-certificate"


def test_a_nonce_is_good_for_five_minutes_and_then_another_is_given(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    ack = hear(of, command(core, job))
    (told,) = tell(core, of, ack)
    assert JobNonce.decode(told.payload).expires_in_s == 300
    late = hear(of, [told])
    core.clock.forward(minutes=5)
    (answer,) = tell(core, of, late)
    said = JobAnswer.decode(answer.payload)
    assert (said.code, said.retry_after_s > 0) == ("nonce-unknown", True)
    (again,) = tell(core, of, ack)
    assert JobNonce.decode(again.payload).nonce != JobNonce.decode(told.payload).nonce
    converse(core, of, [again])
    assert job_of(core, job).state is JobState.ISSUED


def test_a_key_is_certified_once(core: Core) -> None:
    of, job = rotated(core)
    assert of.key is not None
    key = of.key
    (told,) = tell(core, of, [("ack", Ack(job.job_id, AckState.ACCEPTED).encode())])
    csr = of.csr(key, JobNonce.decode(told.payload))
    (answer,) = tell(core, of, [("csr", JobRequest(job.job_id, of.serial, csr).encode())])
    assert JobAnswer.decode(answer.payload).code == "key-used-before"


def test_a_device_that_lost_its_power_before_the_certificate_came_gets_another(core: Core) -> None:
    of, job = rotated(core)
    of.spare = None
    converse(core, of, tell(core, of, of.hello()))
    assert job_of(core, job).state is JobState.ISSUED
    tell(core, of, of.switch())
    assert job_of(core, job).state is JobState.ACTIVE


# -- no


@pytest.mark.parametrize(
    ("state", "outcome"), [(AckState.REFUSED, JobState.REFUSED), (AckState.FAILED, JobState.FAILED)]
)
def test_a_no_is_an_outcome_with_its_reason_at_every_step(core: Core, state: AckState, outcome: JobState) -> None:
    for steps in (0, 1, 2):
        of = device(core)
        job = job_for(core, of)
        told = command(core, job)
        for _ in range(steps):
            told = tell(core, of, hear(of, told))
        no = Ack(job.job_id, state, code="tpm-lockout", detail="the TPM is in lockout")
        assert tell(core, of, [("ack", no.encode())]) == []
        ended = job_of(core, job)
        assert (ended.state, ended.code, ended.detail) == (outcome, "tpm-lockout", "the TPM is in lockout")
        assert ended.ended_at == core.clock()
        (answer,) = tell(core, of, [("ack", Ack(job.job_id, AckState.ACCEPTED).encode())])
        assert JobAnswer.decode(answer.payload).code == "job-over"
        assert job_of(core, job) == ended


def test_no_device_has_a_word_with_the_operators_terminal(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    words = "\x1b]52;c;cm0gLXJmIC8=\x07\x9b2J\r\u202eol\u00e4"
    tell(core, of, [("ack", Ack(job.job_id, AckState.FAILED, code="x", detail=words).encode())])
    assert job_of(core, job).detail == "?]52;c;cm0gLXJmIC8=??2J??ol\u00e4"
    core.services.rotation.handle(of.device_id, "trust", TrustAck(0, "x", words).encode(), core.clock())
    (laggard,) = core.services.authorities.page_laggards(1, seen_since=core.clock() - timedelta(days=1))
    assert laggard.detail == "?]52;c;cm0gLXJmIC8=??2J??ol\u00e4"


def test_later_puts_the_job_off_and_it_is_sent_again(core: Core) -> None:
    of, broker = device(core), Broker()
    job = job_for(core, of)
    a_round(core, broker).run()
    tell(core, of, [("ack", Ack(job.job_id, AckState.LATER, code="busy", retry_after_s=600).encode())])
    core.clock.forward(seconds=599)
    a_round(core, broker).run()
    assert len(broker.carried) == 1
    core.clock.forward(seconds=1)
    a_round(core, broker).run()
    assert len(broker.carried) == 2


def test_a_deadline_ends_the_job_where_it_stands_with_a_reason(core: Core) -> None:
    seen = []
    for steps in (0, 1, 2, 3):
        of = device(core)
        job = job_for(core, of, hours=1)
        told = command(core, job)
        for _ in range(min(steps, 2)):
            told = tell(core, of, hear(of, told))
        if steps == 3:
            hear(of, told)
            tell(core, of, of.switch())
        core.clock.forward(hours=1)
        a_round(core, Broker(live=False)).run()
        ended = job_of(core, job)
        assert ended.state is JobState.EXPIRED
        assert ended.detail
        seen.append(ended.code)
    assert seen == ["not-accepted", "no-request", "not-used", "not-seen"]


def test_a_revoked_device_gets_nothing_and_its_job_fails(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    csr = hear(of, tell(core, of, hear(of, command(core, job))))
    core.store.revoke_device(of.device_id, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice")
    (answer,) = tell(core, of, csr)
    assert not JobAnswer.decode(answer.payload).chain
    assert len(core.store.device_certificates(of.device_id)) == 2


def test_the_quota_holds_over_mqtt_too(core: Core) -> None:
    of = device(core)
    job = job_for(core, of)
    converse(core, of, command(core, job))
    for _ in range(24):
        core.clock.forward(minutes=1)
        converse(core, of, tell(core, of, [("ack", Ack(job.job_id, AckState.ACCEPTED).encode())]))
    refused = [answer for answer in of.answers if not answer.chain]
    assert {answer.code for answer in refused} == {"too-many-certificates"}
    assert all(answer.retry_after_s > 0 for answer in refused)
    assert len(core.store.device_certificates(of.device_id)) == 24


def test_when_many_are_under_way_the_rest_is_told_later_with_a_spread(core: Core) -> None:
    few = RotationService(
        store=core.store,
        jobs=core.services.jobs,
        renewal=core.services.renewal,
        authority=core.services.authority,
        signer=None,
        policy=RotationPolicy(most_under_way=core.services.jobs.count_under_way(at=core.clock()) + 1),
        refusals=core.services.rotation._refusals,
        trust=core.services.trust,
        random=core.services.rotation._random,
    )
    devices = [device(core) for _ in range(6)]
    jobs = [job_for(core, of) for of in devices]
    waits = []
    for of, job in zip(devices, jobs, strict=True):
        (answer,) = tell(core, of, [("ack", Ack(job.job_id, AckState.ACCEPTED).encode())], service=few)
        if answer.topic.endswith("/cert"):
            said = JobAnswer.decode(answer.payload)
            assert said.code == "busy"
            waits.append(said.retry_after_s)
            assert job_of(core, job).state is JobState.WAITING
    assert len(waits) == 5
    assert len(set(waits)) > 1
    core.clock.forward(minutes=5)
    assert tell(core, devices[5], [("ack", Ack(jobs[5].job_id, AckState.ACCEPTED).encode())], service=few)[
        0
    ].topic.endswith("/nonce")


def test_a_certificate_that_is_given_again_comes_with_the_ca_that_signed_it(site: Installation) -> None:
    """Another Fleet CA may issue by now."""
    clock = Clock()
    succeed_root(site)
    with site.services(clock, broker=site.broker_lines(8883)) as services:
        core, authority = Core(site, services, clock), services.authority
        of = device(core)
        csr = hear(of, tell(core, of, hear(of, command(core, job_for(core, of)))))
        (first,), fleet = tell(core, of, csr), authority.fleet
        stand(services, NEW)
        assert authority.fleet is not fleet
        assert tell(core, of, csr) == [first]
    chain = JobAnswer.decode(first.payload).chain
    assert chain[1] == to_der(fleet.certificate)


# -- the table


def test_what_has_ended_stays_ended_and_every_open_job_can_end() -> None:
    assert not [state for state, _ in TRANSITIONS if state in ENDED]
    for state in set(JobState) - ENDED:
        assert TRANSITIONS[state, JobEvent.TIMED_OUT] is JobState.EXPIRED


def test_serials_are_written_as_the_store_has_them(core: Core) -> None:
    of = device(core)
    serials = [one.serial_number for one in core.store.device_certificates(of.device_id)]
    assert serial_of(of.identity) in serials
