"""prepare -> issue: what is refused, what is built, and that a token is worth one certificate."""

import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from birthmark_server.ca import issuer as issuer_module
from birthmark_server.ca.errors import LintFailed, ProfileViolation, TokenSpent, UntrustedCertificate
from birthmark_server.ca.issuer import IssuanceToken, Issuer, to_der
from birthmark_server.ca.profile import BACKDATED, NEVER, PROFILES
from birthmark_server.ca.requests import IDevIdRequest, InfraRequest, LDevIdRequest, LeafRequest
from birthmark_server.domain import CertificateProfile
from support.leaves import leaf_of
from support.pki import Pki

KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
EK_SHA256 = "ab" * 32


def issuer_of(pki: Pki, request: LeafRequest) -> Issuer:
    match request:
        case IDevIdRequest():
            return pki.authority.birth
        case LDevIdRequest():
            return pki.authority.fleet
        case InfraRequest():
            return pki.authority.infra


def refused(pki: Pki, request: LeafRequest, *, lifetime: timedelta | None = None, now: datetime | None = None) -> str:
    with pytest.raises(ProfileViolation) as refusal:
        issuer_of(pki, request).prepare(request, now=now or pki.now, lifetime=lifetime)
    return str(refusal.value)


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_a_certificate_of_every_profile_is_recognised_as_such(pki: Pki, profile: CertificateProfile) -> None:
    leaf = leaf_of(pki, profile)
    verified = pki.authority.verify_leaf(leaf.der, now=pki.now)
    assert verified.profile is profile
    assert verified.sha256 == leaf.record.sha256
    assert verified.serial_number == leaf.record.serial_number
    assert verified.issuer.sha256 == leaf.record.issuer_sha256


def test_a_token_is_redeemed_once(pki: Pki) -> None:
    token = pki.authority.fleet.prepare(LDevIdRequest(KEY, "device-1", True), now=pki.now)
    pki.authority.fleet.issue(token)
    with pytest.raises(TokenSpent, match="redeemed before"):
        pki.authority.fleet.issue(token)


def test_a_token_is_redeemed_once_by_many_threads_at_a_time(pki: Pki) -> None:
    token = pki.authority.fleet.prepare(LDevIdRequest(KEY, "device-1", True), now=pki.now)
    issued: list[x509.Certificate] = []
    spent: list[TokenSpent] = []
    start = threading.Barrier(8)

    def redeem() -> None:
        start.wait()
        try:
            issued.append(pki.authority.fleet.issue(token))
        except TokenSpent as error:
            spent.append(error)

    threads = [threading.Thread(target=redeem) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(issued), len(spent)) == (1, 7)


def test_a_token_is_worth_nothing_at_another_issuer(pki: Pki) -> None:
    token = pki.authority.fleet.prepare(LDevIdRequest(KEY, "device-1", True), now=pki.now)
    with pytest.raises(TokenSpent, match="another issuer"):
        pki.authority.birth.issue(token)
    pki.authority.fleet.issue(token)


def test_nobody_else_makes_a_token(pki: Pki) -> None:
    with pytest.raises(TypeError, match=r"only Issuer\.prepare"):
        IssuanceToken(
            object(),
            issuer=pki.authority.fleet,
            profile=CertificateProfile.LDEVID,
            serial_number="1",
            not_before=pki.now,
            not_after=pki.now,
            tbs=b"",
        )


def test_what_is_signed_are_the_very_bytes_that_were_linted(pki: Pki) -> None:
    token = pki.authority.fleet.prepare(LDevIdRequest(KEY, "device-1", True), now=pki.now)
    certificate = pki.authority.fleet.issue(token)
    assert certificate.tbs_certificate_bytes == token.tbs
    certificate.verify_directly_issued_by(pki.authority.fleet.certificate)
    assert f"{certificate.serial_number:x}" == token.serial_number
    assert (certificate.not_valid_before_utc, certificate.not_valid_after_utc) == (token.not_before, token.not_after)


def test_nothing_is_signed_that_fails_the_lint(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issuer_module, "random_serial_number", lambda _: 1)
    with pytest.raises(LintFailed, match="serial number"):
        pki.authority.fleet.prepare(LDevIdRequest(KEY, "device-1", True), now=pki.now)


def test_serial_numbers_are_16_positive_octets_and_never_repeat(pki: Pki) -> None:
    fleet = pki.authority.fleet
    tokens = [fleet.prepare(LDevIdRequest(KEY, "device-1", True), now=pki.now) for _ in range(200)]
    numbers = {int(token.serial_number, 16) for token in tokens}
    assert len(numbers) == 200
    assert {number.bit_length() for number in numbers} == {127}


def test_an_idevid_has_no_end_and_an_ldevid_thirty_days(pki: Pki) -> None:
    birth, operational = leaf_of(pki, CertificateProfile.IDEVID), leaf_of(pki, CertificateProfile.LDEVID)
    assert b"\x18\x0f99991231235959Z" in birth.der
    assert birth.certificate.not_valid_after_utc == NEVER
    assert operational.certificate.not_valid_before_utc == pki.now - BACKDATED
    assert operational.certificate.not_valid_after_utc == pki.now + timedelta(days=30)


def test_a_certificate_never_begins_before_its_issuer_nor_outlives_it(pki: Pki) -> None:
    fleet, request = pki.authority.fleet, LDevIdRequest(KEY, "device-1", True)
    begins, ends = fleet.certificate.not_valid_before_utc, fleet.certificate.not_valid_after_utc
    assert fleet.prepare(request, now=begins).not_before == begins
    assert fleet.prepare(request, now=ends - timedelta(days=1)).not_after == ends
    refused(pki, request, now=begins - timedelta(seconds=1))
    refused(pki, request, now=ends)


@pytest.mark.parametrize("seconds", [0, -1, 366 * 86400])
def test_a_lifetime_outside_the_profile_is_refused(pki: Pki, seconds: int) -> None:
    assert "lifetime" in refused(pki, LDevIdRequest(KEY, "device-1", True), lifetime=timedelta(seconds=seconds))


def test_an_idevid_takes_no_lifetime(pki: Pki) -> None:
    assert "no end" in refused(pki, IDevIdRequest(KEY, "SN-1", EK_SHA256), lifetime=timedelta(days=1))


@pytest.mark.parametrize("device_id", ["", "Device", "a_b", "a.b", "a" * 65, "srv-1", "sw-1", "dévice", "a\n", "a/b"])
def test_a_device_id_that_does_not_fit_is_refused(pki: Pki, device_id: str) -> None:
    refused(pki, LDevIdRequest(KEY, device_id, tpm_backed=True))


def test_the_two_id_namespaces_never_meet(pki: Pki) -> None:
    assert "sw-" in refused(pki, LDevIdRequest(KEY, "sw-1", tpm_backed=True))
    assert "sw-" in refused(pki, LDevIdRequest(KEY, "device-1", tpm_backed=False))


@pytest.mark.parametrize("serial", ["", "SN_1", "SN*1", "S" * 65, " SN", "S\x00N", "Ünit"])
def test_a_serial_number_that_no_printable_string_holds_is_refused(pki: Pki, serial: str) -> None:
    refused(pki, IDevIdRequest(KEY, serial, EK_SHA256))


def test_a_hash_that_is_none_is_refused(pki: Pki) -> None:
    refused(pki, IDevIdRequest(KEY, "SN-1", "not hexadecimal"))


def test_keys_that_no_profile_allows_are_refused(pki: Pki) -> None:
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    p521 = ec.generate_private_key(ec.SECP521R1()).public_key()
    for key in (rsa_key, p521):
        assert "P-256 or P-384" in refused(pki, LDevIdRequest(key, "device-1", True))


def test_a_ca_never_certifies_its_own_key(pki: Pki) -> None:
    fleet = pki.authority.fleet
    with pytest.raises(LintFailed, match="own key"):
        fleet.prepare(LDevIdRequest(fleet.signer.public_key(), "device-1", True), now=pki.now)


@pytest.mark.parametrize(
    "request_",
    [
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a"),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("elsewhere.example",)),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("notfleet.example",)),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("*.fleet.example", "bücher.example")),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("elsewhere.example\0.fleet.example",)),  # C ends there
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("elsewhere.example .fleet.example",)),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("a@b.fleet.example",)),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("..fleet.example",)),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", ("a" * 64 + ".fleet.example",)),
        InfraRequest(CertificateProfile.SERVER, KEY, "srv-a", (), (ip_address("10.0.0.1"),)),
        InfraRequest(CertificateProfile.SERVER, KEY, "server", ("fleet.example",)),
        InfraRequest(CertificateProfile.OPERATOR, KEY, "srv-alice"),
        InfraRequest(CertificateProfile.OPERATOR, KEY, "alice.example"),
        InfraRequest(CertificateProfile.OPERATOR, KEY, "alice", ("fleet.example",)),
        InfraRequest(CertificateProfile.LDEVID, KEY, "device-1"),
    ],
)
def test_an_infrastructure_request_that_does_not_fit_is_refused(pki: Pki, request_: InfraRequest) -> None:
    refused(pki, request_)


def test_each_profile_has_one_issuer(pki: Pki) -> None:
    requests: list[LeafRequest] = [
        IDevIdRequest(KEY, "SN-1", EK_SHA256),
        LDevIdRequest(KEY, "device-1", True),
        InfraRequest(CertificateProfile.OPERATOR, KEY, "alice"),
    ]
    for request in requests:
        for issuer in pki.authority.issuers:
            if issuer is not issuer_of(pki, request):
                with pytest.raises(ProfileViolation, match="want the"):
                    issuer.prepare(request, now=pki.now)


def test_an_ldevid_cannot_be_had_as_an_infrastructure_certificate(pki: Pki) -> None:
    with pytest.raises(ProfileViolation):
        pki.authority.fleet.prepare(InfraRequest(CertificateProfile.LDEVID, KEY, "device-1"), now=pki.now)


def test_a_foreign_issuers_certificate_is_not_ours(pki: Pki) -> None:
    with pytest.raises(UntrustedCertificate, match="not signed by"):
        pki.authority.birth.read_leaf(leaf_of(pki, CertificateProfile.LDEVID).certificate)


def test_the_subject_is_the_organization_and_one_attribute(pki: Pki) -> None:
    for profile in CertificateProfile:
        subject = leaf_of(pki, profile).certificate.subject
        assert [attribute.oid for attribute in subject] == [
            x509.oid.NameOID.ORGANIZATION_NAME,
            PROFILES[profile].subject,
        ]


def test_the_record_says_what_the_certificate_says(pki: Pki) -> None:
    leaf = leaf_of(pki, CertificateProfile.LDEVID)
    record = leaf.record
    assert record.der == to_der(leaf.certificate) == leaf.der
    assert record.subject == "CN=device-1,O=Example Devices"
    assert record.not_after.tzinfo is UTC
    assert (record.device_id, record.profile) == ("device-1", CertificateProfile.LDEVID)
