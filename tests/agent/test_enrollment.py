"""A birth and the renewals after it, the agent's code against the server's core."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent import csr
from birthmark_agent.birth import BadChallenge, BirthRecord, NoEndorsement
from birthmark_agent.certificate import read_certificate
from birthmark_agent.enrollment import challenged_ek, enroll, verify_birth_chain
from birthmark_agent.errors import IdentityDamaged, UnusableAnswer
from birthmark_agent.est import EstClient
from birthmark_agent.http import Answer, Refused
from birthmark_agent.renewal import names_of, obtain
from birthmark_agent.schedule import renew_at
from birthmark_agent.settings import Renewal
from birthmark_agent.slots import Operational
from birthmark_wire.enrollment import EnrollResult
from support.agent_fakes import CoreConnection, FakeTpm
from support.core import Core
from support.server import Identity
from support.software_tpm import SoftwareTpm


def born(core: Core, tpm: FakeTpm, connection: CoreConnection | None = None) -> BirthRecord:
    return enroll(
        connection or CoreConnection(core),
        tpm,
        server_name="localhost",
        anchors=[core.services.authority.root.certificate],
        ek_template="",
        agent="birthmark-agent/test",
    )


def first_certificate(core: Core, tpm: FakeTpm, record: BirthRecord) -> Operational:
    birth = Identity(record.chain, tpm.tpm.birth_key.private)
    return obtain(
        EstClient(CoreConnection(core, birth)),
        tpm.opened,
        device_id=record.device_id,
        client_certificate=record.chain[0],
        names=csr.device_names(record.device_id),
        anchors=[core.services.authority.root.certificate],
        again=False,
    )


def test_a_device_is_born_in_two_requests_and_never_fills_the_tpm(core: Core) -> None:
    tpm, device_id = core.listed()
    device, connection = FakeTpm(tpm), CoreConnection(core)
    record = born(core, device, connection)
    assert connection.asked == ["enrollments", "activation"]
    assert record.device_id == device_id
    assert device.most_loaded == 3
    assert device.loaded == 0
    assert BirthRecord.decode(record.encode()) == record
    assert BirthRecord.from_nv(record.to_nv()) == record


@pytest.mark.parametrize("template", ["rsa2048", "p256", "p384"])
def test_the_challenge_tells_which_endorsement_key_it_is_for(core: Core, template: str) -> None:
    tpm = SoftwareTpm.create(core.site.vendor, ek=template)
    from birthmark_server.tpm.credential import make_credential

    credential = make_credential(tpm.ek_public, tpm.ak.public.name(), bytes(32))
    assert challenged_ek(credential.encrypted_secret) == template


def test_a_device_that_is_born_again_gets_the_same_certificate(core: Core) -> None:
    tpm, _ = core.listed()
    assert born(core, FakeTpm(tpm)).chain == born(core, FakeTpm(tpm)).chain


def test_a_device_that_nobody_listed_is_refused(core: Core) -> None:
    with pytest.raises(Refused):
        born(core, FakeTpm(core.site.tpm()))


def test_a_tpm_without_endorsement_certificate_needs_a_setting(core: Core) -> None:
    tpm, _ = core.listed()
    with pytest.raises(NoEndorsement, match="no EK certificate"):
        born(core, FakeTpm(replace(tpm, ek_certificates=())))


class Meddling(CoreConnection):
    """A server that is authentic and answers something else."""

    def request(self, method: str, path: str, *, body: bytes = b"", mime: str = "", accept: str = "") -> Answer:
        answer = super().request(method, path, body=body, mime=mime, accept=accept)
        return self.meddle(answer) if path.endswith("activation") else answer

    def meddle(self, answer: Answer) -> Answer:
        return replace(answer, body=b"{}")


class AnotherName(Meddling):
    def meddle(self, answer: Answer) -> Answer:
        return replace(answer, body=replace(EnrollResult.decode(answer.body), device_id="dev-other").encode())


class AnotherCertificate(Meddling):
    def meddle(self, answer: Answer) -> Answer:
        result = EnrollResult.decode(answer.body)
        return replace(answer, body=replace(result, chain=result.chain[1:]).encode())


@pytest.mark.parametrize(
    ("server", "error"), [(Meddling, BadChallenge), (AnotherName, BadChallenge), (AnotherCertificate, UnusableAnswer)]
)
def test_an_answer_that_does_not_fit_is_not_kept(core: Core, server: type[Meddling], error: type[Exception]) -> None:
    tpm, _ = core.listed()
    with pytest.raises(error):
        born(core, FakeTpm(tpm), server(core))


def test_the_first_certificate_comes_by_the_birth_certificate(core: Core) -> None:
    tpm, device_id = core.listed()
    device = FakeTpm(tpm)
    first = first_certificate(core, device, born(core, device))
    assert read_certificate(first.chain[0]).common_names == (device_id,)
    assert len(first.chain) == 2


def test_a_renewal_keeps_the_names_and_knows_its_issuer_already(core: Core) -> None:
    tpm, device_id = core.listed()
    device = FakeTpm(tpm)
    first = first_certificate(core, device, born(core, device))
    connection = CoreConnection(core, Identity(first.chain, device.keys[first.key_pem].private))
    second = obtain(
        EstClient(connection),
        device.opened,
        device_id=device_id,
        client_certificate=first.chain[0],
        names=names_of(first.chain[0]),
        anchors=[core.services.authority.root.certificate],
        again=True,
        known=first.chain[1:],
    )
    assert connection.asked == ["nonce", "simplereenroll"]
    assert names_of(second.chain[0]) == names_of(first.chain[0])
    assert read_certificate(second.chain[0]).spki != read_certificate(first.chain[0]).spki


def test_a_birth_certificate_of_another_tpm_is_not_ours(core: Core) -> None:
    tpm, _ = core.listed()
    record = born(core, FakeTpm(tpm))
    with pytest.raises(UnusableAnswer, match="carries our key"):
        verify_birth_chain(
            record.chain, spki=core.site.tpm().birth_key.spki, anchors=[core.services.authority.root.certificate]
        )
    with pytest.raises(UnusableAnswer, match="can't be read"):
        verify_birth_chain((b"x",), spki=b"", anchors=[core.services.authority.root.certificate])


def test_a_chain_that_does_not_lead_to_the_pinned_root_is_refused(core: Core) -> None:
    tpm, _ = core.listed()
    record = born(core, FakeTpm(tpm))
    with pytest.raises(UnusableAnswer, match="no path from"):
        verify_birth_chain(
            record.chain[:1], spki=tpm.birth_key.spki, anchors=[core.services.authority.root.certificate]
        )


@given(st.binary(max_size=300))
def test_any_bytes_are_a_birth_record_or_damage(data: bytes) -> None:
    with pytest.raises(IdentityDamaged):
        BirthRecord.decode(data)
    with pytest.raises(IdentityDamaged):
        BirthRecord.from_nv((data,))


START = datetime(2026, 1, 1, tzinfo=UTC)


@given(st.binary(min_size=1), st.integers(60, 10**9), st.floats(0.05, 0.95), st.floats(0, 0.25))
def test_renewal_falls_into_the_lifetime_and_stays_where_it_is(
    leaf: bytes, lifetime_s: int, fraction: float, jitter: float
) -> None:
    renewal = Renewal(fraction=fraction, jitter=jitter, floor_s=60)
    end = START + timedelta(seconds=lifetime_s)
    due = renew_at(leaf, not_before=START, not_after=end, renewal=renewal)
    assert START <= due < end
    assert due == renew_at(leaf, not_before=START, not_after=end, renewal=renewal)
    assert abs((due - START).total_seconds() / lifetime_s - fraction) <= jitter + 0.001 or fraction + jitter > 0.98


def test_devices_born_in_one_second_do_not_come_back_in_one() -> None:
    renewal = Renewal(fraction=2 / 3, jitter=0.05, floor_s=60)
    end = START + timedelta(days=30)
    due = {renew_at(b"%d" % n, not_before=START, not_after=end, renewal=renewal) for n in range(100)}
    assert max(due) - min(due) > timedelta(days=2)
