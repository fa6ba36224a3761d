"""Certification requests, the evidence inside them, and keys that a device makes later; and decisions judged again."""

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from attestation.enrolling import FOREIGN, MODEL, ROOTS, SERVER, VENDOR, answer_of, begin, enroll
from birthmark_agent.csr import KeyEvidence, Names, attestation_bundle, birth_names, build_request, device_names
from birthmark_server.attestation import der, errors
from birthmark_server.attestation.csr import VerifiedCsr, verify_csr
from birthmark_server.attestation.replay import EvidenceIncomplete, replay_activation, replay_renewal
from birthmark_server.attestation.verify import VERIFIER_VERSION, VerifiedKey, verify_new_key
from birthmark_server.errors import BirthmarkError, Misconfigured
from birthmark_wire import est
from birthmark_wire.enrollment import Attestation
from birthmark_wire.tpm_templates import BIRTH_KEY
from support.odd_der import tlv
from support.software_tpm import SoftwareKey, SoftwareTpm

TPM = SoftwareTpm.create(VENDOR)
NAMES = device_names("dev-1", "spiffe://fleet.example/device/dev-1")
NONCE, CLIENT = b"n" * 32, b"client certificate"
KEY = TPM.new_operational_key()


def renewal(key: SoftwareKey = KEY, names: Names = NAMES, tpm: SoftwareTpm = TPM) -> bytes:
    """Return an honest renewal's CSR."""
    return tpm.renewal_csr(key, names, nonce=NONCE, device_id="dev-1", client_certificate=CLIENT)


def judge(csr: bytes, **changes: object) -> VerifiedKey:
    """Let the verifier judge a renewal."""
    context: dict[str, object] = {"nonce": NONCE, "device_id": "dev-1", "client_certificate": CLIENT}
    context |= {"ak_public": TPM.ak.public.encode()} | changes
    return verify_new_key(verify_csr(csr), **context)  # type: ignore[arg-type]  # each test names what it changes


def test_a_renewed_key_is_proven_by_the_ak_on_record() -> None:
    verified = judge(renewal())
    assert verified.spki == KEY.spki
    assert verified.evidence.verifier_version == VERIFIER_VERSION


def test_the_names_are_given_as_they_stand_in_the_request() -> None:
    csr = verify_csr(renewal())
    assert (csr.subject, csr.subject_alt_name, csr.spki) == (NAMES.subject, NAMES.subject_alt_name, KEY.spki)
    assert csr.statement is not None
    assert csr.statement.public == KEY.public.encode()


def test_a_request_without_evidence_is_read_and_proves_no_tpm() -> None:
    bare = build_request(KEY, birth_names("SN-1"))
    assert (verify_csr(bare).statement, verify_csr(bare).subject_alt_name) == (None, b"")
    with pytest.raises(errors.CsrEvidenceMissing):
        judge(bare)


def test_a_request_by_cryptography_is_read() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    names = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "plain")])
    san = x509.SubjectAlternativeName([x509.DNSName("plain.example")])
    builder = x509.CertificateSigningRequestBuilder().subject_name(names)
    builder = builder.add_extension(x509.BasicConstraints(False, None), True).add_extension(san, False)
    request = builder.add_attribute(x509.ObjectIdentifier("1.2.840.113549.1.9.7"), b"password").sign(
        key, hashes.SHA256()
    )
    csr = verify_csr(request.public_bytes(Encoding.DER))
    assert (csr.subject, csr.subject_alt_name) == (names.public_bytes(), san.public_bytes())


OTHER_CONTEXTS: dict[str, dict[str, object]] = {
    "another nonce": {"nonce": bytes(32)},
    "another device": {"device_id": "dev-2"},
    "another connection": {"client_certificate": b"other"},
    "another job": {"job_id": "job-1"},
}


@pytest.mark.parametrize("case", OTHER_CONTEXTS)
def test_evidence_for_another_exchange_is_refused(case: str) -> None:
    with pytest.raises(errors.AttestBinding):
        judge(renewal(), **OTHER_CONTEXTS[case])


def test_evidence_of_another_tpm_is_refused() -> None:
    other = SoftwareTpm.create(VENDOR)
    with pytest.raises(errors.AttestSignature):
        judge(renewal(tpm=other))


def test_names_changed_after_certifying_are_refused() -> None:
    statement = verify_csr(renewal()).statement
    assert statement is not None
    evidence = KeyEvidence(Attestation(statement.attest, statement.signature), statement.public)
    for names in (device_names("dev-2"), Names(NAMES.subject, b"")):
        with pytest.raises(errors.AttestBinding):
            judge(build_request(KEY, names, evidence))


def test_evidence_moved_to_another_key_is_refused() -> None:
    statement = verify_csr(renewal()).statement
    assert statement is not None
    thief = SoftwareKey.create(BIRTH_KEY)
    moved = KeyEvidence(Attestation(statement.attest, statement.signature), statement.public)
    with pytest.raises(errors.AttestBinding):
        judge(build_request(thief, NAMES, moved))
    # Even a TPM that bound its statement to the thief's request certifies only its own key.
    lying = replace(thief, public=KEY.public)
    with pytest.raises(errors.CsrKey):
        judge(renewal(key=lying))


NO_REQUESTS: dict[str, tuple[Callable[[bytes], bytes], type[BirthmarkError]]] = {
    "empty": (lambda _: b"", errors.CsrMalformed),
    "a byte too many": (lambda csr: csr + b"\x00", errors.CsrMalformed),
    "a byte too few": (lambda csr: csr[:-1], errors.CsrMalformed),
    "PEM": (lambda csr: b"-----BEGIN CERTIFICATE REQUEST-----", errors.CsrMalformed),
    "a certificate": (lambda _: VENDOR.root.der, errors.CsrMalformed),
    "one bit of the names changed": (lambda csr: csr.replace(b"dev-1", b"dev-3"), errors.CsrSignature),
    "another signature": (lambda csr: csr[:-4] + bytes(4), errors.CsrSignature),
}


@pytest.mark.parametrize("case", NO_REQUESTS)
def test_what_is_no_request_is_refused(case: str) -> None:
    change, wanted = NO_REQUESTS[case]
    with pytest.raises(wanted) as caught:
        verify_csr(change(renewal()))
    assert type(caught.value) is wanted


def test_requests_for_weak_keys_are_refused() -> None:
    names = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    for key in (ec.generate_private_key(ec.SECP224R1()), ec.generate_private_key(ec.SECP521R1())):
        with pytest.raises(errors.WeakKey):
            verify_csr(names.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    other = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(errors.WeakKey):
        verify_csr(names.sign(other, None).public_bytes(Encoding.DER))


GOOD_BUNDLE = attestation_bundle(TPM.certify_new_key(KEY, b"q" * 32))


def with_attribute(*values: bytes, twice: bool = False) -> bytes:
    """Return a request by KEY whose id-aa-attestation holds these values."""
    oid = tlv(der.OBJECT_IDENTIFIER, bytes.fromhex("2a864886f70d010910023b"))
    attribute = tlv(der.SEQUENCE, oid, tlv(der.SET, *values))
    return signed_request(tlv(0xA0, attribute, attribute if twice else b""))


def signed_request(attributes: bytes) -> bytes:
    """Return a request by KEY with these attributes, DER."""
    information = tlv(der.SEQUENCE, b"\x02\x01\x00", NAMES.subject, KEY.spki, attributes)
    algorithm = tlv(der.SEQUENCE, tlv(der.OBJECT_IDENTIFIER, bytes.fromhex("2a8648ce3d040302")))
    signature = KEY.sign_digest(hashlib.sha256(information).digest(), "sha256")
    return tlv(der.SEQUENCE, information, algorithm, tlv(der.BIT_STRING, b"\x00", signature))


def test_the_attribute_is_the_one_of_the_wire_contract() -> None:
    assert der.oid(der.read_one(bytes.fromhex("060b2a864886f70d010910023b"), 6)) == est.ID_AA_ATTESTATION
    assert verify_csr(with_attribute(GOOD_BUNDLE)).statement is not None


BAD_BUNDLES: dict[str, bytes] = {
    "not a SEQUENCE": tlv(der.OCTET_STRING, b"x"),
    "an empty bundle": tlv(der.SEQUENCE),
    "no statement": tlv(der.SEQUENCE, tlv(der.SEQUENCE)),
    "two statements": tlv(der.SEQUENCE, tlv(der.SEQUENCE, *[der.sequence(GOOD_BUNDLE)[0].value] * 2)),
    "another type": GOOD_BUNDLE.replace(bytes.fromhex("67810514"), bytes.fromhex("67810515")),
    "a member missing": tlv(
        der.SEQUENCE,
        tlv(
            der.SEQUENCE,
            tlv(
                der.SEQUENCE,
                tlv(der.OBJECT_IDENTIFIER, bytes.fromhex("6781051401")),
                tlv(der.SEQUENCE, tlv(der.OCTET_STRING, b"a"), tlv(der.OCTET_STRING, b"b")),
            ),
        ),
    ),
    "a text in the place of octets": tlv(
        der.SEQUENCE,
        tlv(
            der.SEQUENCE,
            tlv(
                der.SEQUENCE,
                tlv(der.OBJECT_IDENTIFIER, bytes.fromhex("6781051401")),
                tlv(der.SEQUENCE, *[tlv(0x0C, b"a")] * 3),
            ),
        ),
    ),
}


@pytest.mark.parametrize("case", BAD_BUNDLES)
def test_an_attestation_attribute_that_can_not_be_read_is_malformed(case: str) -> None:
    with pytest.raises(errors.CsrEvidence):
        verify_csr(with_attribute(BAD_BUNDLES[case]))


def test_the_subject_alt_name_is_found_once_or_not_at_all() -> None:
    san = tlv(der.SEQUENCE, tlv(der.OBJECT_IDENTIFIER, bytes.fromhex("551d11")), tlv(der.OCTET_STRING, b"\x30\x00"))
    assert verify_csr(signed_request(b"\xa0\x00")).subject_alt_name == b""
    assert verify_csr(signed_request(requesting(san))).subject_alt_name == b"\x30\x00"
    with pytest.raises(errors.CsrMalformed):
        verify_csr(signed_request(requesting(san, san)))


def requesting(*extensions: bytes) -> bytes:
    """Return the attributes with an extensionRequest."""
    oid = tlv(der.OBJECT_IDENTIFIER, bytes.fromhex("2a864886f70d01090e"))
    return tlv(0xA0, tlv(der.SEQUENCE, oid, tlv(der.SET, tlv(der.SEQUENCE, *extensions))))


def test_an_attribute_with_two_values_or_twice_is_malformed() -> None:
    for request in (with_attribute(GOOD_BUNDLE, GOOD_BUNDLE), with_attribute(GOOD_BUNDLE, twice=True)):
        with pytest.raises(errors.CsrMalformed):
            verify_csr(request)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_malformed(data: bytes) -> None:
    with pytest.raises(errors.CsrMalformed):
        verify_csr(data)


@given(st.binary(max_size=80))
def test_any_attestation_attribute_is_read_or_malformed(data: bytes) -> None:
    with pytest.raises((errors.CsrEvidence, errors.CsrMalformed)):
        verify_csr(with_attribute(data))


def test_nobody_but_verify_csr_builds_a_verified_csr() -> None:
    with pytest.raises(TypeError, match="only verify_csr"):
        VerifiedCsr(
            encoded=b"",
            key=KEY.private.public_key(),
            spki=b"",
            subject=b"",
            subject_alt_name=b"",
            statement=None,
            seal=None,
        )


# -- kept evidence


def test_a_birth_is_proven_again_from_its_evidence_alone() -> None:
    model = replace(MODEL, quote_pcrs=(0, 7))
    exchange = begin(TPM.enroll_request(server_name=SERVER), ROOTS, model=model)
    device = exchange.judge(answer_of(TPM, exchange))
    assert replay_activation(device.evidence, roots=VENDOR.trust_store()) == device


def test_a_birth_without_certificate_is_proven_again() -> None:
    tpm = SoftwareTpm.create(FOREIGN)
    request = replace(tpm.enroll_request(server_name=SERVER), ek_certificates=(), ek_chain=())
    model = replace(MODEL, require_ek_certificate=False)
    exchange = begin(request, ROOTS, model=model, listed_ek=frozenset((tpm.ek_sha256,)))
    device = exchange.judge(answer_of(tpm, exchange))
    assert replay_activation(device.evidence, roots=ROOTS) == device


def test_every_byte_of_the_evidence_counts() -> None:
    evidence = enroll(TPM, ROOTS).evidence
    free = {"judged-at", "policy", "device-id", "source", "station", "intermediate", "root"}
    for index, (name, value) in enumerate(evidence.parts):
        if name in free:
            continue
        changed = value[:-1] + bytes((value[-1] ^ 1,)) if value else b"x"
        parts = (*evidence.parts[:index], (name, changed), *evidence.parts[index + 1 :])
        with pytest.raises((BirthmarkError, ValueError)):
            replay_activation(replace(evidence, parts=parts), roots=ROOTS)


def test_evidence_is_judged_only_under_the_roots_that_it_names() -> None:
    evidence = enroll(TPM, ROOTS).evidence
    assert evidence.roots_version == ROOTS.version
    with pytest.raises(Misconfigured, match="version"):
        replay_activation(evidence, roots=VENDOR.with_intermediate_kept())


def test_a_renewal_is_proven_again_from_its_evidence_alone() -> None:
    verified = judge(renewal())
    assert replay_renewal(verified.evidence) == verified
    with pytest.raises(EvidenceIncomplete, match="activation"):
        replay_activation(replace(verified.evidence, roots_version=ROOTS.version), roots=ROOTS)
    without_nonce = tuple(part for part in verified.evidence.parts if part[0] != "nonce")
    with pytest.raises(EvidenceIncomplete, match="nonce"):
        replay_renewal(replace(verified.evidence, parts=without_nonce))
