"""Which of a TPM's endorsement keys counts, and keys that only a manifest names."""

import hashlib
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from attestation.enrolling import FOREIGN, FORGED, MODEL, SERVER, VENDOR, prove_ek, showing
from birthmark_server.attestation import errors
from birthmark_server.attestation.ek import shown_ek_hashes
from birthmark_server.domain import Assurance
from birthmark_server.tpm.errors import TpmDecodeError
from birthmark_wire.enrollment import EnrollRequest
from support.software_tpm import SoftwareTpm


def test_the_public_area_must_be_the_certificate_s_key() -> None:
    tpm, other = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR)
    request = tpm.enroll_request(server_name=SERVER)
    with pytest.raises(errors.EkKeyMismatch):
        prove_ek(replace(request, ek_public=other.ek_public.encode()))


def test_the_public_area_must_be_the_template_s() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    for odd in (
        replace(tpm.ek_public, attributes=tpm.ek_public.attributes ^ 1 << 6),
        replace(tpm.ek_public, auth_policy=b""),
        replace(tpm.ek_public, symmetric=None),
    ):
        with pytest.raises(errors.EkTemplateMismatch):
            prove_ek(replace(tpm.enroll_request(server_name=SERVER), ek_public=odd.encode()))


def test_the_credential_is_made_for_the_rebuilt_public_area() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    assert prove_ek(showing(*tpm.ek_certificates)).public == tpm.ek_public


def test_the_model_fixes_the_template_and_the_other_eks_are_reported() -> None:
    p256, p384 = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR, ek="p384")
    request = showing(*p384.ek_certificates, *p256.ek_certificates)
    proven = prove_ek(request)
    assert (proven.ek_sha256, proven.other_ek_sha256) == (p256.ek_sha256, (p384.ek_sha256,))
    assert shown_ek_hashes(request) == (p384.ek_sha256, p256.ek_sha256)
    with pytest.raises(errors.EkMissing):
        prove_ek(showing(*p384.ek_certificates))


def test_the_public_area_of_another_ek_is_reported_too() -> None:
    p256, p384 = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR, ek="p384")
    request = replace(p256.enroll_request(server_name=SERVER), ek_public=p384.ek_public.encode())
    assert prove_ek(request).other_ek_sha256 == (p384.ek_sha256,)


def test_two_eks_of_one_template_are_refused() -> None:
    one, two = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR)
    with pytest.raises(errors.EkAmbiguous):
        prove_ek(showing(*one.ek_certificates, *two.ek_certificates))


def test_one_ek_certified_twice_is_one_ek() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    again = VENDOR.issue_ek(tpm.ek.public_key())
    assert prove_ek(showing(*tpm.ek_certificates, again)).ek_sha256 == tpm.ek_sha256


def test_the_hash_of_an_ek_is_what_openssl_pkey_prints() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    certificate = x509.load_der_x509_certificate(tpm.ek_certificates[0])
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert shown_ek_hashes(showing(*tpm.ek_certificates)) == (hashlib.sha256(spki).hexdigest(),)


# -- keys that only a manifest names

OPEN_MODEL = replace(MODEL, require_ek_certificate=False)


def bare_request(tpm: SoftwareTpm) -> EnrollRequest:
    """Return the request of a device without EK certificates."""
    return replace(tpm.enroll_request(server_name=SERVER), ek_certificates=(), ek_chain=())


def test_a_listed_key_stands_in_for_a_certificate_and_the_assurance_says_so() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    proven = prove_ek(bare_request(tpm), model=OPEN_MODEL, listed_ek=frozenset((tpm.ek_sha256,)))
    assert (proven.assurance, proven.manufacturer, proven.vendor) == (Assurance.LISTED_KEY, "", None)


def test_a_listed_key_is_not_enough_where_the_model_requires_a_certificate() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    with pytest.raises(errors.EkCertificateMissing):
        prove_ek(bare_request(tpm), listed_ek=frozenset((tpm.ek_sha256,)))
    foreign = SoftwareTpm.create(FOREIGN)
    with pytest.raises(errors.EkUntrusted):
        prove_ek(foreign.enroll_request(server_name=SERVER), listed_ek=frozenset((foreign.ek_sha256,)))


def test_an_unlisted_key_is_refused() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    with pytest.raises(errors.EkNotListed):
        prove_ek(bare_request(tpm), model=OPEN_MODEL, listed_ek=frozenset(("00" * 32, "")))


def test_a_listed_key_may_have_an_unknown_certificate_but_not_a_false_one() -> None:
    tpm = SoftwareTpm.create(FOREIGN)
    request, listed = tpm.enroll_request(server_name=SERVER), frozenset((tpm.ek_sha256,))
    assert prove_ek(request, model=OPEN_MODEL, listed_ek=listed).assurance is Assurance.LISTED_KEY
    forged = VENDOR.issue_ek(tpm.ek.public_key(), issuer=FORGED)
    false = replace(request, ek_certificates=(forged,), ek_chain=VENDOR.chain)
    with pytest.raises(errors.ChainSignature):
        prove_ek(false, model=OPEN_MODEL, listed_ek=listed)


def test_a_public_area_that_can_not_be_read_is_malformed() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    for odd in (b"", tpm.ek_public.encode() + b"\x00", tpm.ek_public.encode()[:-1]):
        with pytest.raises(TpmDecodeError):
            prove_ek(replace(bare_request(tpm), ek_public=odd), model=OPEN_MODEL)
