"""EST's core: who gets an operational certificate, for which key, under which names."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_agent.csr import Names, build_request, device_names
from birthmark_server.attestation.errors import (
    AttestBinding,
    AttestSignature,
    CsrEvidenceMissing,
    CsrKey,
    CsrMalformed,
    CsrSignature,
)
from birthmark_server.ca.errors import ProfileViolation
from birthmark_server.domain import Assurance, CertificateProfile, DeviceState, RevocationReason
from birthmark_server.errors import BirthmarkError
from birthmark_server.renewal import (
    EvidenceUnwanted,
    NamesChanged,
    NotASoftwareDevice,
)
from birthmark_server.store.errors import (
    DeviceNotActive,
    EpochChanged,
    KeyUsedBefore,
    NonceUnknown,
    TooManyCertificates,
    UnknownDevice,
)
from birthmark_wire.errors import DecodeError
from support.core import Core
from support.server import Identity
from support.software_tpm import SoftwareKey


def software_csr(
    device_id: str, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, *, like: x509.Certificate | None = None
) -> bytes:
    """A request as openssl would make it: no evidence."""
    builder = x509.CertificateSigningRequestBuilder()
    builder = builder.subject_name(
        like.subject if like else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, device_id)])
    )
    if like:
        alt_name = like.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        builder = builder.add_extension(alt_name, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def identity(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Identity:
    return Identity((certificate.public_bytes(Encoding.DER),), key)


# -- with a TPM


def test_the_birth_certificate_fetches_the_first_operational_one(core: Core) -> None:
    tpm, device_id = core.listed()
    ldevid = core.first_ldevid(tpm, core.enroll(tpm), device_id)
    found = core.store.certificate_by_sha256(ldevid.certificate.fingerprint(hashes.SHA256()).hex())
    assert found is not None
    assert found[0].profile is CertificateProfile.LDEVID
    assert ldevid.certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == device_id
    assert ldevid.certificate.not_valid_after_utc <= core.clock() + timedelta(days=30)


def test_a_living_operational_certificate_renews_itself_and_stays_valid(core: Core) -> None:
    tpm, device_id = core.listed()
    first = core.first_ldevid(tpm, core.enroll(tpm), device_id)
    second = core.renew(tpm, first, device_id)
    assert second.certificate.subject == first.certificate.subject
    assert second.certificate.public_key() != first.certificate.public_key()
    assert core.caller(first).certificate.revoked_at is None  # type: ignore[union-attr]


def test_evidence_and_nonce_are_kept(core: Core) -> None:
    tpm, device_id = core.listed()
    core.first_ldevid(tpm, core.enroll(tpm), device_id)
    kinds = [evidence.kind for _, evidence in core.store.device_evidence(device_id)]
    assert sorted(kinds) == ["activation", "renewal"]


def test_a_nonce_is_used_once(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    _, csr = core.request(tpm, idevid, device_id)
    core.services.renewal.enroll(csr, core.caller(idevid))
    with pytest.raises((AttestBinding, NonceUnknown)):
        core.services.renewal.enroll(csr, core.caller(idevid))


def test_a_nonce_expires(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    _, csr = core.request(tpm, idevid, device_id)
    core.clock.forward(minutes=5, seconds=1)
    with pytest.raises((AttestBinding, NonceUnknown)):
        core.services.renewal.enroll(csr, core.caller(idevid))


def test_a_nonce_is_bound_to_the_device_that_asked_for_it(core: Core) -> None:
    (mine, my_id), (theirs, _) = core.listed(), core.listed()
    my_idevid, their_idevid = core.enroll(mine), core.enroll(theirs)
    nonce = core.services.renewal.nonce(core.caller(their_idevid)).nonce
    csr = mine.renewal_csr(
        mine.new_operational_key(),
        core.names(my_id),
        nonce=nonce,
        device_id=my_id,
        client_certificate=my_idevid.der,
    )
    with pytest.raises(AttestBinding):
        core.services.renewal.enroll(csr, core.caller(my_idevid))


def test_any_of_several_living_nonces_will_do(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    requests = [core.request(tpm, idevid, device_id)[1] for _ in range(3)]
    for csr in reversed(requests):
        core.services.renewal.enroll(csr, core.caller(idevid))


def test_evidence_made_for_one_certificate_is_worth_nothing_with_another(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    ldevid = core.first_ldevid(tpm, idevid, device_id)
    _, csr = core.request(tpm, idevid, device_id, ldevid.names)
    with pytest.raises(AttestBinding):
        core.services.renewal.reenroll(csr, core.caller(ldevid))


def test_a_key_outside_the_tpm_is_refused(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    with pytest.raises(CsrEvidenceMissing):
        core.services.renewal.enroll(
            build_request(tpm.new_operational_key(), core.names(device_id)), core.caller(idevid)
        )


def test_a_key_is_certified_once_even_if_its_certificate_was_revoked(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)

    def ask(key: SoftwareKey) -> x509.Certificate:
        caller = core.caller(idevid)
        nonce = core.services.renewal.nonce(caller).nonce
        csr = tpm.renewal_csr(
            key, core.names(device_id), nonce=nonce, device_id=device_id, client_certificate=idevid.der
        )
        return core.services.renewal.enroll(csr, caller)

    key = tpm.new_operational_key()
    first = ask(key)
    for _ in range(2):
        with pytest.raises(KeyUsedBefore):
            ask(key)
        sha256 = first.fingerprint(hashes.SHA256()).hex()
        core.store.revoke_certificate(sha256, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice")
    with pytest.raises(KeyUsedBefore):
        ask(tpm.birth_key)
    assert core.refusals("key-used-before")[0].device_id == device_id
    ask(tpm.new_operational_key())


def test_another_tpms_ak_is_refused(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    _, csr = core.request(tpm.reset(), idevid, device_id)
    with pytest.raises((AttestSignature, BirthmarkError)):
        core.services.renewal.enroll(csr, core.caller(idevid))


def test_a_csr_for_another_key_than_the_certified_one_is_refused(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    nonce = core.services.renewal.nonce(core.caller(idevid)).nonce
    certified, outside = tpm.new_operational_key(), tpm.new_operational_key()
    names = core.names(device_id)
    honest = tpm.renewal_csr(certified, names, nonce=nonce, device_id=device_id, client_certificate=idevid.der)
    assert honest
    lying = replace(outside, public=certified.public)  # evidence about one key, possession of another
    csr = tpm.renewal_csr(lying, names, nonce=nonce, device_id=device_id, client_certificate=idevid.der)
    with pytest.raises(CsrKey):
        core.services.renewal.enroll(csr, core.caller(idevid))


@pytest.mark.parametrize(
    "names",
    [
        device_names("dev-other"),
        device_names("dev-other", "spiffe://fleet.example/device/dev-other"),
        Names(device_names("x").subject, b""),
    ],
)
def test_other_names_than_the_devices_are_refused(core: Core, names: Names) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    _, csr = core.request(tpm, idevid, device_id, names)
    with pytest.raises(NamesChanged):
        core.services.renewal.enroll(csr, core.caller(idevid))


def test_anothers_uri_is_refused(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    stolen = device_names(device_id, "spiffe://fleet.example/device/dev-other")
    _, csr = core.request(tpm, idevid, device_id, stolen)
    with pytest.raises(NamesChanged):
        core.services.renewal.enroll(csr, core.caller(idevid))


def test_a_first_request_may_leave_its_names_to_the_server(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    _, csr = core.request(tpm, idevid, device_id, device_names(device_id))
    issued = core.services.renewal.enroll(csr, core.caller(idevid))
    uris = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert uris.get_values_for_type(x509.UniformResourceIdentifier) == [f"spiffe://fleet.example/device/{device_id}"]


def test_a_renewal_repeats_the_names_of_its_certificate(core: Core) -> None:
    tpm, device_id = core.listed()
    ldevid = core.first_ldevid(tpm, core.enroll(tpm), device_id)
    for names in (device_names(device_id), Names(ldevid.names.subject, b""), core.names(device_id)):
        _, csr = core.request(tpm, ldevid, device_id, names)
        with pytest.raises(NamesChanged):
            core.services.renewal.reenroll(csr, core.caller(ldevid))


def test_an_expired_operational_certificate_is_healed_by_the_birth_certificate(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    core.first_ldevid(tpm, idevid, device_id)
    core.clock.forward(days=730)
    healed = core.first_ldevid(tpm, idevid, device_id)
    assert healed.certificate.not_valid_before_utc <= core.clock() <= healed.certificate.not_valid_after_utc


def test_a_revocation_wins_over_a_renewal_that_has_begun(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    caller = core.caller(idevid)
    _, csr = core.request(tpm, idevid, device_id)
    core.store.revoke_device(device_id, reason=RevocationReason.KEY_COMPROMISE, at=core.clock(), by="alice")
    with pytest.raises(DeviceNotActive):
        core.services.renewal.enroll(csr, caller)
    core.store.readmit_device(device_id, at=core.clock(), by="alice")
    with pytest.raises((EpochChanged, AttestBinding, NonceUnknown)):
        core.services.renewal.enroll(csr, caller)


def test_a_renewal_that_loops_is_stopped_and_may_go_on_the_next_day(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    with core.site.services(core.clock, extra="[est]\nmost_per_day = 3") as services:
        strict = replace(core, services=services)
        for _ in range(2):  # the birth certificate counts as well
            strict.first_ldevid(tpm, idevid, device_id)
        with pytest.raises(TooManyCertificates) as caught:
            strict.first_ldevid(tpm, idevid, device_id)
        assert caught.value.retry_after_s > 0
        core.clock.forward(days=1, seconds=1)
        strict.first_ldevid(tpm, idevid, device_id)


def test_a_refused_renewal_is_in_the_book(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    csr = build_request(tpm.new_operational_key(), core.names(device_id))
    with pytest.raises(CsrEvidenceMissing) as caught:
        core.services.renewal.enroll(csr, core.caller(idevid))
    (refusal,) = [r for r in core.refusals(caught.value.code) if r.device_id == device_id]
    assert (refusal.door, refusal.evidence, refusal.ek_sha256) == ("simpleenroll", csr, tpm.ek_sha256)


@pytest.mark.parametrize("body", [b"", b"rubbish", b"\x30\x00", bytes(300)])
def test_what_is_no_request_is_malformed(core: Core, body: bytes) -> None:
    tpm, _ = core.listed()
    idevid = core.enroll(tpm)
    with pytest.raises(CsrMalformed):
        core.services.renewal.enroll(body, core.caller(idevid))


def test_a_request_that_its_key_did_not_sign_is_refused(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    _, csr = core.request(tpm, idevid, device_id)
    broken = csr[:-4] + bytes(4)
    with pytest.raises((CsrSignature, CsrMalformed)):
        core.services.renewal.enroll(broken, core.caller(idevid))


# -- without a TPM


def test_an_operator_puts_a_software_device_on_record_and_it_renews_itself(core: Core) -> None:
    key, next_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP384R1())
    first = core.services.renewal.certify_software_device(
        "sw-gateway", software_csr("sw-gateway", key), operator="alice"
    )
    mine = identity(first, key)
    device = core.store.get_device("sw-gateway")
    assert (device.assurance, device.state) == (Assurance.NONE, DeviceState.ACTIVE)
    renewed = core.services.renewal.reenroll(software_csr("sw-gateway", next_key, like=first), core.caller(mine))
    policies = renewed.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert not any(p.policy_identifier.dotted_string.startswith("2.23.133") for p in policies)  # no TPM residency
    again = core.caller(identity(renewed, next_key)).certificate
    assert again is not None
    assert again.profile is CertificateProfile.LDEVID_SOFTWARE


def test_an_operator_heals_a_software_device_that_let_its_certificate_expire(core: Core) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    csr = software_csr("sw-sleeper", key)
    core.services.renewal.certify_software_device("sw-sleeper", csr, operator="alice")
    core.clock.forward(days=100)
    with pytest.raises(KeyUsedBefore):
        core.services.renewal.certify_software_device("sw-sleeper", csr, operator="alice")
    csr = software_csr("sw-sleeper", ec.generate_private_key(ec.SECP256R1()))
    healed = core.services.renewal.certify_software_device("sw-sleeper", csr, operator="alice")
    assert healed.not_valid_after_utc > core.clock()


def test_a_software_device_brings_no_evidence(core: Core) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    first = core.services.renewal.certify_software_device("sw-proud", software_csr("sw-proud", key), operator="alice")
    mine = identity(first, key)
    tpm = core.site.tpm()
    csr = tpm.renewal_csr(
        tpm.new_operational_key(), mine.names, nonce=bytes(32), device_id="sw-proud", client_certificate=mine.der
    )
    with pytest.raises(EvidenceUnwanted):
        core.services.renewal.reenroll(csr, core.caller(mine))


def test_a_device_once_attested_never_becomes_a_software_device(core: Core) -> None:
    tpm, device_id = core.listed()
    idevid = core.enroll(tpm)
    ldevid = core.first_ldevid(tpm, idevid, device_id)
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(NotASoftwareDevice):
        core.services.renewal.certify_software_device(device_id, software_csr(device_id, key), operator="alice")
    caller = core.caller(ldevid)
    assert caller.certificate is not None
    with pytest.raises(CsrEvidenceMissing):
        core.services.renewal.reenroll(software_csr(device_id, key, like=ldevid.certificate), caller)
    pretends = replace(caller, certificate=replace(caller.certificate, profile=CertificateProfile.LDEVID_SOFTWARE))
    with pytest.raises(NotASoftwareDevice):
        core.services.renewal.reenroll(software_csr(device_id, key, like=ldevid.certificate), pretends)


def test_a_software_id_is_never_listed_for_a_tpm(core: Core) -> None:
    with pytest.raises(DecodeError):
        core.services.renewal.certify_software_device("SW-X", b"", operator="alice")


def test_an_rsa_key_is_refused_with_a_reason(core: Core) -> None:
    key = rsa.generate_private_key(65537, 2048)
    with pytest.raises(ProfileViolation, match="P-256"):
        core.services.renewal.certify_software_device("sw-rsa", software_csr("sw-rsa", key), operator="alice")
    with pytest.raises(UnknownDevice):
        core.store.get_device("sw-rsa")
