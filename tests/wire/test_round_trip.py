"""Every value that can be written is read back as itself, and any bytes at all are a message or a DecodeError."""

from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_wire import ids
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.encoding import b64, unb64
from birthmark_wire.enrollment import (
    Attestation,
    Challenge,
    ChallengeAnswer,
    Claim,
    EnrollRequest,
    EnrollResult,
)
from birthmark_wire.errors import DecodeError
from birthmark_wire.est import NonceAnswer
from birthmark_wire.rotation import (
    _CODE,
    _JOB_ID,
    _SERIAL,
    MOST_SEQUENCE,
    Ack,
    AckState,
    Action,
    Active,
    Command,
    Hello,
    JobAnswer,
    JobNonce,
    JobRequest,
)
from birthmark_wire.time import TimeAnswer, TimeQuestion
from wire.samples import DECODERS, SAMPLES, Message, golden


def _octets(high: int, low: int = 1) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=low, max_size=high)


_names = st.from_regex(ids._NAME, fullmatch=True)
_device_ids = st.from_regex(ids._DEVICE_ID, fullmatch=True).filter(lambda text: not text.startswith("srv-"))
_domains = st.sampled_from(["fleet.example.com", "localhost", "a.b-c.d1"])
_attestations = st.builds(Attestation, attest=_octets(2048), signature=_octets(1024))
_jobs = st.from_regex(_JOB_ID, fullmatch=True)
_codes = st.from_regex(_CODE, fullmatch=True)
_serials = st.from_regex(_SERIAL, fullmatch=True)
_times = st.integers(0, 253402300799).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
_waits = st.integers(0, 31_536_000)
_pcrs = st.sets(st.integers(0, 23)).map(lambda pcrs: tuple(sorted(pcrs)))

_messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        EnrollRequest,
        server_name=st.text(max_size=253),
        ek_certificates=st.lists(_octets(256), max_size=8).map(tuple),
        ek_chain=st.lists(_octets(256), max_size=16).map(tuple),
        ek_public=_octets(1024),
        ak_public=_octets(1024),
        birth_key_public=_octets(1024),
        agent=st.text(max_size=64),
        claim=st.none() | st.builds(Claim, batch=_names, serial=_names, model=_names),
    ),
    st.builds(
        Challenge,
        enrollment_id=st.text(max_size=64),
        nonce=_octets(32, 32),
        credential_blob=_octets(256),
        encrypted_secret=_octets(1024),
        quote_pcrs=_pcrs,
        device_id=_device_ids,
        serial=_names,
        model=_names,
        batch=st.just("") | _names,
        expires_in_s=st.integers(1, 86_400),
    ),
    st.builds(
        ChallengeAnswer,
        secret=_octets(32, 32),
        csr=_octets(4096),
        certify=_attestations,
        quote=st.none() | _attestations,
    ),
    st.builds(
        EnrollResult,
        device_id=_device_ids,
        chain=st.lists(_octets(256), min_size=1, max_size=8).map(tuple),
        anchors=st.lists(_octets(256), max_size=8).map(tuple),
        trust_domain=_domains,
        est_url=st.text(max_size=512),
        broker_host=st.text(max_size=253),
        broker_port=st.integers(1, 65535),
    ),
    st.builds(BrokerEndpoint, _domains, st.integers(1, 65535)),
    st.builds(NonceAnswer, nonce=_octets(32, 32), expires_in_s=st.integers(1, 86_400)),
    st.builds(
        Command,
        action=st.sampled_from(Action),
        device_id=_device_ids,
        job_id=_jobs,
        sequence=st.integers(1, MOST_SEQUENCE),
        issued_at=_times,
        expires_at=_times,
    ),
    st.builds(
        Ack,
        job_id=_jobs,
        state=st.sampled_from(AckState),
        code=st.just("") | _codes,
        detail=st.text(max_size=512),
        retry_after_s=_waits,
    ),
    st.builds(JobNonce, job_id=_jobs, nonce=_octets(32, 32), expires_in_s=st.integers(1, 86_400)),
    st.builds(JobRequest, job_id=_jobs, serial=_serials, csr=_octets(512)),
    st.builds(JobAnswer, job_id=_jobs, chain=st.lists(_octets(256), min_size=1, max_size=8).map(tuple)),
    st.builds(JobAnswer, job_id=_jobs, code=_codes, detail=st.text(max_size=512), retry_after_s=_waits),
    st.builds(Active, serial=_serials, job_id=st.just("") | _jobs),
    st.builds(
        Hello,
        agent=st.text(max_size=64),
        serial=_serials,
        not_after=_times,
        job_id=st.just("") | _jobs,
        sequence=st.integers(0, MOST_SEQUENCE),
    ),
    st.builds(TimeQuestion, nonce=_octets(32, 32)),
    st.builds(
        TimeAnswer,
        at=st.integers(0, 253_402_300_799).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
        chain=st.lists(_octets(256), min_size=1, max_size=4).map(tuple),
        signature=_octets(256),
    ),
)


@given(_messages)
def test_what_is_written_is_read_back(message: Message) -> None:
    assert DECODERS[type(message)](message.encode()) == message


@pytest.mark.parametrize("decode", DECODERS.values())
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(decode: Callable[[bytes], Message], data: bytes) -> None:
    with suppress(DecodeError):
        decode(data)


@pytest.mark.parametrize("name", SAMPLES)
@given(st.data())
def test_a_damaged_message_is_read_or_refused(name: str, data: st.DataObject) -> None:
    whole = golden(name)
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 40)))
    damaged = whole[:start] + data.draw(st.binary(max_size=8)) + whole[end:]
    with suppress(DecodeError):
        DECODERS[type(SAMPLES[name])](damaged)


@given(st.binary(max_size=200))
def test_base64url_is_read_back(data: bytes) -> None:
    assert unb64(b64(data), field="x") == data


@given(st.text(max_size=40))
def test_base64url_has_one_form_for_each_value(text: str) -> None:
    try:
        data = unb64(text, field="x")
    except DecodeError:
        return
    assert b64(data) == text
