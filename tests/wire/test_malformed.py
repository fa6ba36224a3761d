"""What is refused, one row each: the member at fault is named, and so is what was wanted."""

import json
from collections.abc import Callable
from typing import Any, Final

import pytest

from birthmark_wire.encoding import b64
from birthmark_wire.enrollment import Challenge, ChallengeAnswer, EnrollRequest, EnrollResult
from birthmark_wire.errors import DecodeError
from birthmark_wire.est import NonceAnswer
from wire.samples import DECODERS, SAMPLES, golden

ABSENT: Final = object()

# (record, path of the member, the value put there, what the refusal says)
ROWS: Final[list[tuple[str, str, Any, str]]] = [
    ("enroll_request", "protocol", "birthmark/2", "protocol: want 'birthmark/1', got 'birthmark/2'"),
    ("enroll_request", "protocol", ABSENT, "protocol: is missing"),
    ("enroll_request", "protocol", 1, "protocol: want a string, got a number"),
    ("enroll_request", "protocl", "birthmark/1", "protocl: is not a member of this message"),
    ("enroll_request", "server_name", "x" * 254, "server_name: want at most 253 characters, got 254"),
    ("enroll_request", "ek_certificates", "MIIB", "ek_certificates: want an array, got a string"),
    ("enroll_request", "ek_certificates", ["AAAA"] * 9, "ek_certificates: want at most 8 items, got 9"),
    ("enroll_request", "ek_certificates", ["AAAA", 7], "ek_certificates[1]: want a base64url string, got a number"),
    ("enroll_request", "ek_certificates", [""], "ek_certificates[0]: want 1 to 4096 bytes, got 0"),
    ("enroll_request", "ek_certificates", ["A" * 5464], "ek_certificates[0]: want at most 4096 bytes"),
    ("enroll_request", "ek_chain", ["AAAA"] * 17, "ek_chain: want at most 16 items, got 17"),
    ("enroll_request", "ak_public", "AA==", "ak_public: want unpadded base64url"),
    ("enroll_request", "ak_public", "AB", "ak_public: want unpadded base64url in its one canonical form"),
    ("enroll_request", "ak_public", "A+A/", "ak_public: want unpadded base64url"),
    ("enroll_request", "ak_public", "AA AA", "ak_public: want unpadded base64url"),
    ("enroll_request", "ak_public", "AAAé", "ak_public: want unpadded base64url"),
    ("enroll_request", "ak_public", "AAAAA", "ak_public: want unpadded base64url"),
    ("enroll_request", "birth_key_public", ABSENT, "birth_key_public: is missing"),
    ("enroll_request", "birth_key_public", None, "birth_key_public: want a base64url string, got null"),
    ("enroll_request", "agent", "x" * 65, "agent: want at most 64 characters, got 65"),
    ("enroll_request", "claim", [], "claim: want an object, got an array"),
    ("enroll_request_relayed", "claim.batch", ABSENT, "claim.batch: is missing"),
    ("enroll_request_relayed", "claim.serial", "SN_42", "claim.serial: want 1 to 64 letters, digits or any of"),
    ("enroll_request_relayed", "claim.serial", "", "claim.serial: want 1 to 64 letters, digits or any of"),
    ("enroll_request_relayed", "claim.model", "=cmd", "claim.model: want 1 to 64 letters, digits or any of"),
    ("enroll_request_relayed", "claim.admin", True, "claim.admin: is not a member of this message"),
    ("enroll_request_relayed", "ek_certificates", [], "ek_public: want an EK certificate or an EK public area"),
    ("command", "action", "reboot", "action: want one of rotate, got 'reboot'"),
    ("command", "device_id", "srv-1", "device_id: ids that begin with 'srv-' are reserved"),
    ("command", "job_id", "a/b", "job_id: want [a-z0-9-]{1,64}, got 'a/b'"),
    ("command", "sequence", 0, "sequence: want 1 to 9007199254740991, got 0"),
    ("command", "expires_at", "2026-11-28", "expires_at: want a time as 2026-01-31T12:00:00Z"),
    ("ack", "state", "done", "state: want one of accepted, later, refused, failed, got 'done'"),
    ("ack", "code", "No Way", "code: want [a-z0-9-]{1,64}, got 'No Way'"),
    ("ack", "detail", "x" * 513, "detail: want at most 512 characters, got 513"),
    ("job_nonce", "nonce", b64(bytes(31)), "nonce: want 32 to 32 bytes, got 31"),
    ("job_request", "serial", "0F", "serial: want [1-9a-f][0-9a-f]{0,39}, got '0F'"),
    ("job_request", "csr", "", "csr: want 1 to 8192 bytes, got 0"),
    ("job_answer", "chain", [], "chain: want either a chain or the code of a refusal"),
    ("job_answer", "code", "both", "chain: want either a chain or the code of a refusal"),
    ("active", "job_id", "A", "job_id: want [a-z0-9-]{1,64}, got 'A'"),
    ("hello", "sequence", -1, "sequence: want 0 to 9007199254740991, got -1"),
    ("hello", "agent", ABSENT, "agent: is missing"),
    ("trust_bundle", "version", 0, "version: want 1 to 9007199254740991, got 0"),
    ("trust_bundle", "roots", [], "roots: want one root at least"),
    ("trust_bundle", "roots", ["AAAA"] * 5, "roots: want at most 4 items, got 5"),
    ("trust_bundle", "links", ["AAAA", ""], "links[1]: want 1 to 8192 bytes, got 0"),
    ("trust_bundle", "issuers", [{"kind": "root", "certificate": "AA"}], "kind: want one of fleet, infra, got"),
    ("trust_ack", "version", -1, "version: want 0 to 9007199254740991, got -1"),
    ("trust_ack", "code", "No Way", "code: want [a-z0-9-]{1,64}, got 'No Way'"),
    ("challenge", "nonce", b64(bytes(31)), "nonce: want 32 to 32 bytes, got 31"),
    ("challenge", "nonce", b64(bytes(33)), "nonce: want at most 32 bytes"),
    ("challenge", "credential_blob", b64(bytes(257)), "credential_blob: want"),
    ("challenge", "quote_pcrs", "7,0", "quote_pcrs: want rising PCR numbers, 0 to 23"),
    ("challenge", "quote_pcrs", "0,0", "quote_pcrs: want rising PCR numbers, 0 to 23"),
    ("challenge", "quote_pcrs", "24", "quote_pcrs: want rising PCR numbers, 0 to 23"),
    ("challenge", "quote_pcrs", "0, 2", "quote_pcrs: want PCR numbers with commas between"),
    ("challenge", "quote_pcrs", "٣", "quote_pcrs: want PCR numbers with commas between"),
    ("challenge", "quote_pcrs", "0,", "quote_pcrs: want PCR numbers with commas between"),
    ("challenge", "device_id", "Edge-42", "device_id: want 1 to 64 of a-z, 0-9 and '-'"),
    ("challenge", "device_id", "edge/42", "device_id: want 1 to 64 of a-z, 0-9 and '-'"),
    ("challenge", "device_id", "edge-42\n", "device_id: want 1 to 64 of a-z, 0-9 and '-'"),
    ("challenge", "device_id", "srv-1", "device_id: ids that begin with 'srv-' are reserved"),
    ("challenge", "device_id", "x" * 65, "device_id: want 1 to 64 of a-z, 0-9 and '-'"),
    ("challenge", "expires_in_s", 0, "expires_in_s: want 1 to 86400, got 0"),
    ("challenge", "expires_in_s", True, "expires_in_s: want an integer, got a boolean"),
    ("challenge", "expires_in_s", 300.0, "expires_in_s: want an integer, got a number"),
    ("challenge", "expires_in_s", "300", "expires_in_s: want an integer, got a string"),
    ("challenge_answer", "secret", b64(bytes(16)), "secret: want 32 to 32 bytes, got 16"),
    ("challenge_answer", "csr", b64(bytes(4097)), "csr: want"),
    ("challenge_answer", "certify", ABSENT, "certify: is missing"),
    ("challenge_answer", "certify", None, "certify: want an object, got null"),
    ("challenge_answer", "certify.attest", "", "certify.attest: want 1 to 2048 bytes, got 0"),
    ("challenge_answer", "certify.public", "AAAA", "certify.public: is not a member of this message"),
    ("challenge_answer_with_quote", "quote.signature", ABSENT, "quote.signature: is missing"),
    ("enroll_result", "chain", [], "chain: want at least the birth certificate, got an empty array"),
    ("enroll_result", "trust_domain", "Fleet.Example", "trust_domain: want a lower-case host name"),
    ("enroll_result", "trust_domain", "fleet..example", "trust_domain: want a lower-case host name"),
    ("enroll_result", "broker_port", 65536, "broker_port: want 1 to 65535, got 65536"),
    ("broker_endpoint", "host", "Mqtt 1", "host: want a lower-case host name"),
    ("broker_endpoint", "port", 0, "port: want 1 to 65535, got 0"),
    ("broker_endpoint", "protocol", "birthmark/2", "protocol: want"),
    ("nonce_answer", "nonce", b64(bytes(8)), "nonce: want 32 to 32 bytes, got 8"),
    ("nonce_answer", "expiry", 1e3, "expiry: want an integer, got a number"),
]


@pytest.mark.parametrize(("record", "path", "value", "message"), ROWS)
def test_a_wrong_member_is_refused_by_name(record: str, path: str, value: object, message: str) -> None:
    body = json.loads(golden(record))
    *parents, leaf = path.split(".")
    holder = body
    for parent in parents:
        holder = holder[parent]
    if value is ABSENT:
        del holder[leaf]
    else:
        holder[leaf] = value
    with pytest.raises(DecodeError) as refusal:
        DECODERS[type(SAMPLES[record])](json.dumps(body).encode())
    assert str(refusal.value).startswith(message)
    assert message.startswith(refusal.value.field)


# (body, what the refusal says): these are wrong before any member is looked at
BODIES: Final[list[tuple[bytes, str]]] = [
    (b"", "want JSON in UTF-8"),
    (b"{", "want JSON in UTF-8"),
    (b"[]", "want a JSON object, got an array"),
    (b"null", "want a JSON object, got null"),
    (b'{"protocol":"birthmark/1"} ,', "want JSON in UTF-8"),
    (b'{"protocol":"birthmark/1"}{}', "want JSON in UTF-8"),
    (b'{"protocol":"birthmark/1","protocol":"birthmark/1"}', "protocol: stands twice in one object"),
    (b'{"claim":{"batch":"a","batch":"b"}}', "batch: stands twice in one object"),
    (b'{"expiry":NaN}', "NaN is not JSON"),
    (b'{"expiry":-Infinity}', "-Infinity is not JSON"),
    (b'{"expiry":' + b"9" * 5000 + b"}", "want plain JSON"),
    (b'{"agent":"\xff"}', "want JSON in UTF-8"),
    ('{"agent":"é"}'.encode("utf-16"), "want JSON in UTF-8"),
    (b"\xef\xbb\xbf{}", "want JSON in UTF-8"),
    (b'{"claim":' + b"[" * 30_000, "want plain JSON"),
    (b'{"agent":"' + b"x" * 65_536 + b'"}', "want at most 65536 bytes, got 65548"),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
@pytest.mark.parametrize(
    "decode",
    [EnrollRequest.decode, Challenge.decode, ChallengeAnswer.decode, EnrollResult.decode, NonceAnswer.decode],
)
def test_a_body_that_is_not_one_plain_json_object_is_refused(
    decode: Callable[[bytes], object], body: bytes, message: str
) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(body)
