"""CRLs, read back by `cryptography` and obeyed by OpenSSL."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.issuer import Issuer
from birthmark_server.ca.profile import BACKDATED
from birthmark_server.domain import CertificateProfile, CertificateRecord, RevocationReason
from support.leaves import entry_of, leaf_of
from support.openssl import verify
from support.pki import Leaf, Pki


def issuer_of(pki: Pki, leaf: Leaf) -> Issuer:
    return pki.authority.verify_leaf(leaf.der, now=pki.now).issuer


def make(pki: Pki, issuer: Issuer, revoked: Iterable[CertificateRecord]) -> x509.CertificateRevocationList:
    der = build_crl(issuer, map(entry_of, revoked), number=7, now=pki.now, next_update=pki.now + timedelta(days=7))
    return x509.load_der_x509_crl(der)


def judge(folder: Path, pki: Pki, leaf: Leaf, crl: x509.CertificateRevocationList, *, days: int = 0) -> str:
    """What openssl says with the CRLs of the issuing CA and of the root, all of the path checked."""
    root_crl = x509.load_der_x509_crl(pki.authority.root.crl.der)
    (folder / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM) + root_crl.public_bytes(Encoding.PEM))
    return verify(
        folder,
        leaf.certificate,
        root=pki.authority.root.certificate,
        untrusted=[issuer_of(pki, leaf).certificate],
        at=pki.now + timedelta(days=days),
        options=["-crl_check_all", "-CRLfile", str(folder / "crl.pem")],
    )


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_a_revoked_certificate_is_refused_and_its_neighbour_is_not(
    pki: Pki, tmp_path: Path, profile: CertificateProfile
) -> None:
    revoked, neighbour = leaf_of(pki, profile), leaf_of(pki, profile)
    record = replace(revoked.record, revoked_at=pki.now, reason=RevocationReason.KEY_COMPROMISE)
    crl = make(pki, issuer_of(pki, revoked), [record])
    assert "certificate revoked" in judge(tmp_path, pki, revoked, crl)
    assert judge(tmp_path, pki, neighbour, crl).endswith(": OK")


def test_an_empty_crl_lets_everybody_in_until_its_next_update(pki: Pki, tmp_path: Path) -> None:
    leaf = leaf_of(pki, CertificateProfile.LDEVID)
    crl = make(pki, issuer_of(pki, leaf), [])
    assert judge(tmp_path, pki, leaf, crl).endswith(": OK")
    assert "CRL has expired" in judge(tmp_path, pki, leaf, crl, days=8)


def test_a_crl_says_which_it_is(pki: Pki) -> None:
    fleet = pki.authority.fleet
    crl = make(pki, fleet, [])
    assert crl.is_signature_valid(fleet.signer.public_key())
    assert crl.issuer == fleet.certificate.subject
    assert crl.last_update_utc == pki.now - BACKDATED
    assert crl.next_update_utc == pki.now + timedelta(days=7)
    number = crl.extensions.get_extension_for_class(x509.CRLNumber)
    key_id = crl.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier)
    scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
    assert (number.value.crl_number, number.critical) == (7, False)
    assert key_id.value.key_identifier == fleet.key_id
    assert (scope.critical, scope.value.only_contains_user_certs, scope.value.full_name) == (True, True, None)


def test_the_roots_crl_is_for_cas_only(pki: Pki) -> None:
    crl = x509.load_der_x509_crl(pki.authority.root.crl.der)
    scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint).value
    assert (scope.only_contains_ca_certs, scope.only_contains_user_certs) == (True, False)
    assert len(crl) == 0


@pytest.mark.parametrize("reason", list(RevocationReason))
def test_a_reason_is_said_unless_there_is_none(pki: Pki, reason: RevocationReason) -> None:
    record = replace(pki.device().record, revoked_at=pki.now, reason=reason)
    (entry,) = make(pki, pki.authority.fleet, [record])
    said = [extension.value for extension in entry.extensions]
    assert f"{entry.serial_number:x}" == record.serial_number
    assert entry.revocation_date_utc == pki.now
    if reason is RevocationReason.UNSPECIFIED:
        assert said == []
    else:
        assert said == [x509.CRLReason(x509.ReasonFlags(reason.value))]
