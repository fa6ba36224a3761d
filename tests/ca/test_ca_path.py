"""Policies along a path: our answer and OpenSSL's are the same."""

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.ca import oids
from birthmark_server.ca.errors import PolicyMissing, UntrustedCertificate
from birthmark_server.ca.path import valid_policies, verify_policy
from birthmark_server.ca.profile import PROFILES
from birthmark_server.domain import CertificateProfile
from support.leaves import leaf_of
from support.openssl import verify
from support.pki import Pki

POLICIES = [
    oids.TCG_VERIFIED_TPM_RESIDENCY,
    oids.TCG_VERIFIED_TPM_FIXED,
    oids.CP_IDEVID,
    oids.CP_LDEVID,
    oids.CP_LDEVID_SOFTWARE,
    oids.CP_INFRASTRUCTURE,
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.dotted_string)
@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_our_judgement_of_a_policy_is_openssls(
    pki: Pki, tmp_path: Path, profile: CertificateProfile, policy: x509.ObjectIdentifier
) -> None:
    leaf = leaf_of(pki, profile)
    issuer = pki.authority.verify_leaf(leaf.der, now=pki.now).issuer
    path = [leaf.certificate, issuer.certificate]
    said = verify(
        tmp_path,
        leaf.certificate,
        root=pki.authority.root.certificate,
        untrusted=path[1:],
        at=pki.now,
        options=["-policy_check", "-explicit_policy", "-policy", policy.dotted_string],
    )
    if policy in PROFILES[profile].policies:
        assert said.endswith(": OK")
        assert verify_policy(path, required=policy) == frozenset(PROFILES[profile].policies)
    else:
        assert "no explicit policy" in said
        with pytest.raises(PolicyMissing, match=policy.dotted_string):
            verify_policy(path, required=policy)


def test_a_leaf_has_no_policy_that_its_ca_does_not_assert(pki: Pki) -> None:
    birth = leaf_of(pki, CertificateProfile.IDEVID).certificate
    assert valid_policies([birth, pki.authority.infra.certificate]) == frozenset()


def test_an_empty_path_is_valid_under_nothing() -> None:
    assert valid_policies([]) == frozenset()


@pytest.mark.parametrize(
    "extension",
    [
        x509.CertificatePolicies([x509.PolicyInformation(x509.ObjectIdentifier("2.5.29.32.0"), None)]),
        x509.InhibitAnyPolicy(0),
        x509.PolicyConstraints(0, None),
    ],
    ids=["anyPolicy", "inhibitAnyPolicy", "policyConstraints"],
)
def test_policy_processing_that_we_lack_is_refused(pki: Pki, extension: x509.ExtensionType) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .issuer_name(pki.authority.root.certificate.subject)
        .subject_name(pki.authority.root.certificate.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(pki.now)
        .not_valid_after(pki.now + timedelta(days=1))
        .add_extension(extension, critical=True)
        .sign(key, hashes.SHA256())
    )
    with pytest.raises(UntrustedCertificate):
        valid_policies([certificate])
