"""The EK certificate itself: what genuine ones look like, what is none, and how a TPM stores it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from attestation.enrolling import EK_KEY, MODEL, ROOTS, UNKNOWN, VENDOR, prove_ek, showing
from attestation.roca import roca_modulus
from birthmark_server.attestation import errors
from birthmark_server.attestation.ek import strip_nv
from birthmark_server.domain import Assurance
from birthmark_server.errors import BirthmarkError
from support.tpm_vendor import EK_PURPOSE, MANUFACTURER, ek_extensions, key_usage, new_key, tpm_san

Extensions = list[tuple[x509.ExtensionType, bool]]


def changed(oid: ObjectIdentifier, new: tuple[x509.ExtensionType, bool] | None) -> Extensions:
    """Return the usual extensions with the one of `oid` replaced, or left out."""
    usual = ek_extensions(EK_KEY.public_key())
    kept = [(extension, critical) for extension, critical in usual if extension.oid != oid]
    return kept if new is None else [*kept, new]


def named(*pairs: tuple[str, str]) -> Extensions:
    """Return the usual extensions with a DirectoryName of these attributes."""
    name = x509.Name([x509.NameAttribute(ObjectIdentifier(oid), value) for oid, value in pairs])
    return ek_extensions(EK_KEY.public_key(), x509.DirectoryName(name))


BASIC, USAGE = x509.BasicConstraints.oid, x509.KeyUsage.oid
PURPOSE, SAN = x509.ExtendedKeyUsage.oid, x509.SubjectAlternativeName.oid

GOOD_CERTIFICATES: dict[str, Extensions] = {
    "as the profile has it": ek_extensions(EK_KEY.public_key()),
    "without basicConstraints": changed(BASIC, None),
    "without extended key usage": changed(PURPOSE, None),
    "with one more purpose": changed(
        PURPOSE, (x509.ExtendedKeyUsage([EK_PURPOSE, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
    ),
    "with a SubjectAltName that is not critical": changed(SAN, (x509.SubjectAlternativeName([tpm_san()]), False)),
    "with one more name": changed(SAN, (x509.SubjectAlternativeName([x509.DNSName("tpm.example"), tpm_san()]), True)),
    "with a manufacturer in lower case": ek_extensions(EK_KEY.public_key(), tpm_san(MANUFACTURER.lower())),
    "with an unknown extension that is not critical": [*ek_extensions(EK_KEY.public_key()), (UNKNOWN, False)],
}

BAD_CERTIFICATES: dict[str, tuple[Extensions, type[BirthmarkError]]] = {
    "a CA": (changed(BASIC, (x509.BasicConstraints(True, None), True)), errors.EkIsCa),
    "may sign certificates": (changed(USAGE, (key_usage("key_agreement", "key_cert_sign"), True)), errors.EkIsCa),
    "keyEncipherment on an ECC key": (changed(USAGE, (key_usage("key_encipherment"), True)), errors.EkKeyUsage),
    "digitalSignature": (changed(USAGE, (key_usage("digital_signature"), True)), errors.EkKeyUsage),
    "no key usage": (changed(USAGE, None), errors.EkKeyUsage),
    "another purpose": (
        changed(PURPOSE, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)),
        errors.EkPurpose,
    ),
    "an unknown critical extension": ([*ek_extensions(EK_KEY.public_key()), (UNKNOWN, True)], errors.CriticalExtension),
    "critical name constraints": (
        [
            *ek_extensions(EK_KEY.public_key()),
            (x509.NameConstraints([x509.DNSName("example")], None), True),
        ],
        errors.CriticalExtension,
    ),
    "a critical SubjectAltName without a TPM": (
        changed(SAN, (x509.SubjectAlternativeName([x509.DNSName("tpm.example")]), True)),
        errors.EkTpmUnnamed,
    ),
    "no SubjectAltName": (changed(SAN, None), errors.EkTpmUnnamed),
    "no manufacturer": (named(("2.23.133.2.2", "SW1"), ("2.23.133.2.3", "id:1")), errors.EkTpmUnnamed),
    "no model": (named(("2.23.133.2.1", MANUFACTURER), ("2.23.133.2.3", "id:1")), errors.EkTpmUnnamed),
    "no version": (named(("2.23.133.2.1", MANUFACTURER), ("2.23.133.2.2", "SW1")), errors.EkTpmUnnamed),
    "two manufacturers": (
        named(
            ("2.23.133.2.1", MANUFACTURER),
            ("2.23.133.2.1", "id:49465800"),
            ("2.23.133.2.2", "SW1"),
            ("2.23.133.2.3", "id:1"),
        ),
        errors.EkTpmUnnamed,
    ),
    "a manufacturer that is no id": (ek_extensions(EK_KEY.public_key(), tpm_san("TEST")), errors.EkTpmUnnamed),
    "another vendor's manufacturer": (
        ek_extensions(EK_KEY.public_key(), tpm_san("id:49465800")),
        errors.EkManufacturer,
    ),
}


@pytest.mark.parametrize("case", GOOD_CERTIFICATES)
def test_a_genuine_certificate_is_taken(case: str) -> None:
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), extensions=GOOD_CERTIFICATES[case])
    proven = prove_ek(showing(certificate))
    assert proven.assurance is Assurance.VENDOR_CERTIFICATE
    assert proven.manufacturer == MANUFACTURER
    assert proven.roots_version == ROOTS.version


@pytest.mark.parametrize("case", BAD_CERTIFICATES)
def test_a_certificate_that_is_no_ek_certificate_is_refused(case: str) -> None:
    extensions, wanted = BAD_CERTIFICATES[case]
    with pytest.raises(wanted) as caught:
        prove_ek(showing(VENDOR.issue_ek(EK_KEY.public_key(), extensions=extensions)))
    assert type(caught.value) is wanted


def test_an_rsa_ek_needs_key_encipherment() -> None:
    key = new_key("rsa2048").public_key()
    model = replace(MODEL, ek_template="rsa2048")
    prove_ek(showing(VENDOR.issue_ek(key)), model=model)
    kept = [(e, c) for e, c in ek_extensions(key) if e.oid != USAGE]
    with pytest.raises(errors.EkKeyUsage):
        prove_ek(showing(VENDOR.issue_ek(key, extensions=[*kept, (key_usage("key_agreement"), True)])), model=model)


def test_an_rsa_ek_with_the_roca_structure_is_refused() -> None:
    key = rsa.RSAPublicNumbers(65537, roca_modulus()).public_key()
    with pytest.raises(errors.RocaKey):
        prove_ek(showing(VENDOR.issue_ek(key)), model=replace(MODEL, ek_template="rsa2048"))


def test_a_vendor_s_entry_may_require_the_extended_key_usage() -> None:
    strict = replace(VENDOR, vendor=replace(VENDOR.vendor, require_eku=True))
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), extensions=changed(PURPOSE, None))
    with pytest.raises(errors.EkPurpose):
        prove_ek(showing(certificate), roots=strict.trust_store())


def test_an_expired_ek_certificate_counts_unless_the_vendor_s_entry_says_otherwise() -> None:
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), not_after=datetime(2024, 1, 1, tzinfo=UTC))
    prove_ek(showing(certificate))
    strict = replace(VENDOR, vendor=replace(VENDOR.vendor, enforce_ek_expiry=True))
    with pytest.raises(errors.EkExpired):
        prove_ek(showing(certificate), roots=strict.trust_store())


def test_allowing_expiry_does_not_allow_a_certificate_of_the_future() -> None:
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), not_before=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(errors.EkNotYetValid):
        prove_ek(showing(certificate))


def test_a_model_may_take_fewer_manufacturers_than_the_root_vouches_for() -> None:
    certificate = VENDOR.issue_ek(EK_KEY.public_key())
    prove_ek(showing(certificate), model=replace(MODEL, manufacturers=(MANUFACTURER,)))
    with pytest.raises(errors.EkManufacturer):
        prove_ek(showing(certificate), model=replace(MODEL, manufacturers=("id:49465800",)))


# -- how it is stored


def test_header_and_padding_of_the_nv_index_are_dropped() -> None:
    der = VENDOR.issue_ek(EK_KEY.public_key())
    header = b"\x10\x01\x00" + len(der).to_bytes(2, "big")
    for stored in (der, header + der, der + bytes(100), der + b"\xff" * 100, header + der + b"\xff" * 9):
        assert strip_nv(stored) == der
        prove_ek(showing(stored))


NOT_STORED: dict[str, Callable[[bytes], bytes]] = {
    "something after it": lambda der: der + b"\x00\x01",
    "another certificate after it": lambda der: der + der,
    "mixed padding": lambda der: der + b"\x00\xff",
    "a header longer than the content": lambda der: b"\x10\x01\x00\xff\xff" + der,
    "a header alone": lambda der: b"\x10\x01\x00",
    "a truncated certificate": lambda der: der[:-1],
    "nothing": lambda der: b"",
    "no certificate": lambda der: b"\x30\x03\x02\x01\x00",
    "an indefinite length": lambda der: b"\x30\x80" + der[4:] + b"\x00\x00",
    "a length in four bytes": lambda der: b"\x30\x84\x00\x00" + der[2:],
}


@pytest.mark.parametrize("case", NOT_STORED)
def test_what_is_no_stored_certificate_is_malformed(case: str) -> None:
    with pytest.raises(errors.CertificateMalformed):
        prove_ek(showing(NOT_STORED[case](VENDOR.issue_ek(EK_KEY.public_key()))))
