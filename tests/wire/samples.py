"""One value of each wire message, the same ones as in golden/: what an old device in the field sends and expects.

A golden file is the exact body, byte for byte. `python tests/wire/samples.py` writes those that are missing and touches
none that is there: a record that no longer fits means a new PROTOCOL, not a new record.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from birthmark_wire import tpm_templates
from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.enrollment import (
    Attestation,
    Challenge,
    ChallengeAnswer,
    Claim,
    EnrollRequest,
    EnrollResult,
)
from birthmark_wire.est import NonceAnswer
from birthmark_wire.rotation import Ack, AckState, Action, Active, Command, Hello, JobAnswer, JobNonce, JobRequest
from birthmark_wire.time import TimeAnswer, TimeQuestion
from birthmark_wire.trust import BundleIssuer, IssuerKind, TrustAck, TrustBundle

GOLDEN: Final = Path(__file__).parent / "golden"


class Message(Protocol):
    """What every wire message can do."""

    def encode(self) -> bytes: ...


def octets(start: int, length: int) -> bytes:
    """Return `length` bytes that count up from `start`, so that two fields of a record never look alike."""
    return bytes((start + i) % 256 for i in range(length))


SAMPLES: Final[dict[str, Message]] = {
    "enroll_request": EnrollRequest(
        server_name="enroll.example.com",
        ek_certificates=(octets(0x30, 40), octets(0x60, 40)),
        ek_chain=(octets(0x90, 24),),
        ek_public=tpm_templates.EK_P384,
        ak_public=tpm_templates.AK,
        birth_key_public=tpm_templates.BIRTH_KEY,
        agent="birthmark-agent/0.1.0",
    ),
    "enroll_request_relayed": EnrollRequest(
        server_name="enroll.example.com",
        ek_certificates=(octets(0x30, 40),),
        ek_chain=(),
        ek_public=None,
        ak_public=tpm_templates.AK,
        birth_key_public=tpm_templates.BIRTH_KEY,
        agent="birthmark-agent/0.1.0",
        claim=Claim(batch="2026-W14/line 2", serial="SN-000042", model="EDGE-7"),
    ),
    "challenge": Challenge(
        enrollment_id="0f8c3c0e6f9d4c1b8a57d2a4",
        nonce=octets(0x10, 32),
        credential_blob=octets(0x40, 68),
        encrypted_secret=octets(0x00, 256),
        quote_pcrs=(0, 2, 4, 7),
        device_id="edge-000042",
        serial="SN-000042",
        model="EDGE-7",
        batch="2026-W14/line 2",
        expires_in_s=300,
    ),
    "challenge_without_quote": Challenge(
        enrollment_id="0f8c3c0e6f9d4c1b8a57d2a4",
        nonce=octets(0x10, 32),
        credential_blob=octets(0x40, 68),
        encrypted_secret=octets(0x00, 102),
        quote_pcrs=(),
        device_id="edge-000042",
        serial="SN-000042",
        model="EDGE-7",
        batch="",
        expires_in_s=300,
    ),
    "challenge_answer": ChallengeAnswer(
        secret=octets(0x20, 32),
        csr=octets(0x30, 120),
        certify=Attestation(attest=octets(0xFF, 96), signature=octets(0x00, 72)),
    ),
    "challenge_answer_with_quote": ChallengeAnswer(
        secret=octets(0x20, 32),
        csr=octets(0x30, 120),
        certify=Attestation(attest=octets(0xFF, 96), signature=octets(0x00, 72)),
        quote=Attestation(attest=octets(0x7F, 110), signature=octets(0x01, 72)),
    ),
    "enroll_result": EnrollResult(
        device_id="edge-000042",
        chain=(octets(0x30, 200), octets(0x31, 180)),
        anchors=(octets(0x32, 160),),
        trust_domain="fleet.example.com",
        est_url="https://enroll.example.com:8443/.well-known/est",
        broker_host="mqtt.example.com",
        broker_port=8883,
    ),
    "broker_endpoint": BrokerEndpoint("mqtt-1.example.com", 8883),
    "nonce_answer": NonceAnswer(nonce=octets(0x50, 32), expires_in_s=300),
    "command": Command(
        action=Action.ROTATE,
        device_id="edge-000042",
        job_id="5d0c9f7a1e3b4c55",
        sequence=7,
        issued_at=datetime(2026, 11, 27, 22, 0, 0, tzinfo=UTC),
        expires_at=datetime(2026, 11, 28, 22, 0, 0, tzinfo=UTC),
    ),
    "ack": Ack(job_id="5d0c9f7a1e3b4c55", state=AckState.ACCEPTED),
    "ack_later": Ack(
        job_id="5d0c9f7a1e3b4c55", state=AckState.LATER, code="tpm-lockout", detail="in lockout", retry_after_s=600
    ),
    "job_nonce": JobNonce(job_id="5d0c9f7a1e3b4c55", nonce=octets(0x50, 32), expires_in_s=300),
    "job_request": JobRequest(job_id="5d0c9f7a1e3b4c55", serial="4f9a01", csr=octets(0x30, 120)),
    "job_answer": JobAnswer(job_id="5d0c9f7a1e3b4c55", chain=(octets(0x30, 200), octets(0x31, 180))),
    "job_answer_refused": JobAnswer(
        job_id="5d0c9f7a1e3b4c55", code="attest-binding", detail="another nonce", retry_after_s=30
    ),
    "active": Active(serial="4f9a02", job_id="5d0c9f7a1e3b4c55"),
    "active_by_itself": Active(serial="4f9a02"),
    "hello": Hello(
        agent="birthmark-agent/0.1.0",
        serial="4f9a01",
        not_after=datetime(2026, 12, 27, 22, 0, 0, tzinfo=UTC),
        job_id="5d0c9f7a1e3b4c55",
        sequence=7,
    ),
    "hello_of_a_newborn": Hello(
        agent="birthmark-agent/0.1.0", serial="4f9a01", not_after=datetime(2026, 12, 27, 22, 0, 0, tzinfo=UTC)
    ),
    "trust_bundle": TrustBundle(
        version=3,
        issued_at=datetime(2026, 11, 28, 1, 0, 0, tzinfo=UTC),
        roots=(octets(0x30, 200), octets(0x31, 180)),
        links=(octets(0x32, 160),),
        issuers=(
            BundleIssuer(IssuerKind.FLEET, octets(0x33, 150)),
            BundleIssuer(IssuerKind.INFRA, octets(0x34, 150)),
        ),
    ),
    "trust_bundle_of_one_root": TrustBundle(
        version=1, issued_at=datetime(2026, 11, 28, 1, 0, 0, tzinfo=UTC), roots=(octets(0x30, 200),)
    ),
    "trust_ack": TrustAck(version=3),
    "trust_ack_refused": TrustAck(version=2, code="trust-unlinked", detail="no link leads to a root"),
    "time_question": TimeQuestion(nonce=octets(0x60, 32)),
    "time_answer": TimeAnswer(
        at=datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC),
        chain=(octets(0x30, 200), octets(0x31, 180)),
        signature=octets(0x70, 71),
    ),
}

DECODERS: Final[dict[type[Message], Callable[[bytes], Message]]] = {
    EnrollRequest: EnrollRequest.decode,
    Challenge: Challenge.decode,
    ChallengeAnswer: ChallengeAnswer.decode,
    EnrollResult: EnrollResult.decode,
    BrokerEndpoint: BrokerEndpoint.decode,
    NonceAnswer: NonceAnswer.decode,
    Command: Command.decode,
    Ack: Ack.decode,
    JobNonce: JobNonce.decode,
    JobRequest: JobRequest.decode,
    JobAnswer: JobAnswer.decode,
    Active: Active.decode,
    Hello: Hello.decode,
    TrustBundle: TrustBundle.decode,
    TrustAck: TrustAck.decode,
    TimeQuestion: TimeQuestion.decode,
    TimeAnswer: TimeAnswer.decode,
}


def golden(name: str) -> bytes:
    """Return the record `name`, as it was first written."""
    return (GOLDEN / f"{name}.json").read_bytes()


if __name__ == "__main__":
    for name, message in SAMPLES.items():
        path = GOLDEN / f"{name}.json"
        if not path.exists():
            path.write_bytes(message.encode())
