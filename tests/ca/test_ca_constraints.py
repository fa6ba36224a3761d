"""What OpenSSL makes of our paths: valid ones pass strictly, mis-issued ones are refused because the CA is bound.

The mis-issued certificates here are signed with the CA's real key, past its own checks: what remains is the constraint.
"""

from collections.abc import Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from birthmark_server.ca import oids
from birthmark_server.ca.issuer import Issuer
from birthmark_server.ca.profile import PROFILES
from birthmark_server.ca.signer import BuilderKey
from birthmark_server.domain import CertificateProfile
from support.leaves import leaf_of
from support.openssl import verify
from support.pki import ORGANIZATION, Leaf, Pki

DEVICE_URI = x509.UniformResourceIdentifier("spiffe://fleet.example/device/device-1")


def check(folder: Path, pki: Pki, leaf: x509.Certificate, issuer: Issuer, options: Sequence[str] = ()) -> str:
    return verify(
        folder, leaf, root=pki.authority.root.certificate, untrusted=[issuer.certificate], at=pki.now, options=options
    )


def issuer_of(pki: Pki, leaf: Leaf) -> Issuer:
    return pki.authority.verify_leaf(leaf.der, now=pki.now).issuer


def misissue(
    issuer: Issuer,
    pki: Pki,
    *,
    names: Sequence[x509.GeneralName] = (),
    organization: str = ORGANIZATION,
    common_name: str = "device-1",
    ca: bool = False,
) -> x509.Certificate:
    """Sign with the CA's key what the CA's own checks would never let through."""
    return sign_leaf(
        BuilderKey.over(issuer.signer),
        issuer.certificate,
        key=ec.generate_private_key(ec.SECP256R1()).public_key(),
        names=names,
        organization=organization,
        common_name=common_name,
        ca=ca,
        pki=pki,
    )


def sign_leaf(
    signing_key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate,
    *,
    key: ec.EllipticCurvePublicKey,
    names: Sequence[x509.GeneralName],
    organization: str,
    common_name: str,
    ca: bool,
    pki: Pki,
) -> x509.Certificate:
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    builder = (
        x509.CertificateBuilder()
        .issuer_name(issuer.subject)
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(pki.now)
        .not_valid_after(pki.now + timedelta(days=1))
        .add_extension(x509.AuthorityKeyIdentifier(issuer_id, None, None), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
    return builder.sign(signing_key, hashes.SHA256())


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_every_profile_is_a_valid_path_under_strict_rules(
    pki: Pki, tmp_path: Path, profile: CertificateProfile
) -> None:
    leaf = leaf_of(pki, profile)
    assert check(tmp_path, pki, leaf.certificate, issuer_of(pki, leaf)).endswith(": OK")


def test_an_issuing_ca_alone_is_no_chain(pki: Pki, tmp_path: Path) -> None:
    leaf = leaf_of(pki, CertificateProfile.LDEVID).certificate
    said = verify(tmp_path, leaf, root=pki.authority.fleet.certificate, at=pki.now)
    assert "unable to get issuer certificate" in said


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_every_profile_is_valid_under_its_policies_when_one_is_required(
    pki: Pki, tmp_path: Path, profile: CertificateProfile
) -> None:
    leaf = leaf_of(pki, profile)
    for policy in PROFILES[profile].policies:
        options = ["-explicit_policy", "-policy", policy.dotted_string, "-policy_check"]
        assert check(tmp_path, pki, leaf.certificate, issuer_of(pki, leaf), options).endswith(": OK")


@pytest.mark.parametrize(
    "profile", [CertificateProfile.LDEVID_SOFTWARE, CertificateProfile.SERVER, CertificateProfile.OPERATOR]
)
def test_a_key_without_tpm_evidence_is_never_valid_under_the_residency_policy(
    pki: Pki, tmp_path: Path, profile: CertificateProfile
) -> None:
    leaf = leaf_of(pki, profile)
    options = ["-explicit_policy", "-policy", oids.TCG_VERIFIED_TPM_RESIDENCY.dotted_string, "-policy_check"]
    assert "no explicit policy" in check(tmp_path, pki, leaf.certificate, issuer_of(pki, leaf), options)


@pytest.mark.parametrize(
    ("profile", "purpose", "valid"),
    [
        (CertificateProfile.IDEVID, "sslclient", True),
        (CertificateProfile.IDEVID, "sslserver", False),
        (CertificateProfile.LDEVID, "sslclient", True),
        (CertificateProfile.LDEVID, "sslserver", False),  # by the Fleet CA's key purposes: the leaf has none
        (CertificateProfile.LDEVID_SOFTWARE, "sslserver", False),
        (CertificateProfile.SERVER, "sslserver", True),
        (CertificateProfile.SERVER, "sslclient", False),
        (CertificateProfile.BROKER, "sslserver", True),
        (CertificateProfile.BROKER, "sslclient", False),
        (CertificateProfile.CONTROL, "sslclient", True),
        (CertificateProfile.CONTROL, "sslserver", False),
        (CertificateProfile.COMMAND, "sslclient", False),
        (CertificateProfile.COMMAND, "sslserver", False),
        (CertificateProfile.STATION, "sslclient", True),
        (CertificateProfile.OPERATOR, "sslclient", True),
        (CertificateProfile.OPERATOR, "sslserver", False),
    ],
)
def test_no_certificate_serves_where_it_should_only_call(
    pki: Pki, tmp_path: Path, profile: CertificateProfile, purpose: str, valid: bool
) -> None:
    leaf = leaf_of(pki, profile)
    said = check(tmp_path, pki, leaf.certificate, issuer_of(pki, leaf), ["-purpose", purpose])
    assert said.endswith(": OK") if valid else "unsuitable certificate purpose" in said


@pytest.mark.parametrize(
    "names",
    [
        [x509.UniformResourceIdentifier("spiffe://other.example/device/device-1")],
        [x509.UniformResourceIdentifier("spiffe://sub.fleet.example/device/device-1")],
        [x509.DNSName("broker.fleet.example")],
        [x509.IPAddress(ip_address("127.0.0.1"))],
        [x509.IPAddress(ip_address("::1"))],
        [x509.RFC822Name("root@fleet.example")],
        [x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Others")]))],
        [DEVICE_URI, x509.DNSName("broker.fleet.example")],
    ],
    ids=str,
)
def test_a_name_outside_the_fleet_cas_constraints_is_refused(
    pki: Pki, tmp_path: Path, names: list[x509.GeneralName]
) -> None:
    said = check(tmp_path, pki, misissue(pki.authority.fleet, pki, names=names), pki.authority.fleet)
    assert "permitted subtree violation" in said or "excluded subtree violation" in said


def test_the_fleet_ca_cannot_certify_another_organization(pki: Pki, tmp_path: Path) -> None:
    leaf = misissue(pki.authority.fleet, pki, names=[DEVICE_URI], organization="Others")
    assert "permitted subtree violation" in check(tmp_path, pki, leaf, pki.authority.fleet)


def test_the_fleet_ca_cannot_certify_a_host_by_its_common_name(pki: Pki, tmp_path: Path) -> None:
    leaf = misissue(pki.authority.fleet, pki, names=[DEVICE_URI], common_name="broker.fleet.example")
    assert "excluded subtree violation" in check(tmp_path, pki, leaf, pki.authority.fleet)


@pytest.mark.parametrize(
    "names",
    [
        [DEVICE_URI],
        [x509.DNSName("server.fleet.example")],
        [x509.IPAddress(ip_address("127.0.0.1"))],
        [x509.RFC822Name("root@fleet.example")],
    ],
    ids=str,
)
def test_the_birth_ca_certifies_no_operational_name(pki: Pki, tmp_path: Path, names: list[x509.GeneralName]) -> None:
    said = check(tmp_path, pki, misissue(pki.authority.birth, pki, names=names), pki.authority.birth)
    assert "permitted subtree violation" in said or "excluded subtree violation" in said


@pytest.mark.parametrize(
    "names",
    [
        [DEVICE_URI],
        [x509.DNSName("elsewhere.example")],
        [x509.DNSName("notfleet.example")],
        [x509.IPAddress(ip_address("10.0.0.1"))],
        [x509.RFC822Name("root@fleet.example")],
    ],
    ids=str,
)
def test_the_infra_ca_certifies_its_own_hosts_and_no_device(
    pki: Pki, tmp_path: Path, names: list[x509.GeneralName]
) -> None:
    said = check(tmp_path, pki, misissue(pki.authority.infra, pki, names=names), pki.authority.infra)
    assert "permitted subtree violation" in said


def test_no_issuing_ca_makes_another(pki: Pki, tmp_path: Path) -> None:
    for issuer in pki.authority.issuers:
        key = ec.generate_private_key(ec.SECP256R1())
        rogue = sign_leaf(
            BuilderKey.over(issuer.signer),
            issuer.certificate,
            key=key.public_key(),
            names=(),
            organization=ORGANIZATION,
            common_name="Rogue CA",
            ca=True,
            pki=pki,
        )
        leaf = sign_leaf(
            key,
            rogue,
            key=ec.generate_private_key(ec.SECP256R1()).public_key(),
            names=(),
            organization=ORGANIZATION,
            common_name="device-1",
            ca=False,
            pki=pki,
        )
        said = verify(
            tmp_path, leaf, root=pki.authority.root.certificate, untrusted=[issuer.certificate, rogue], at=pki.now
        )
        assert "path length constraint exceeded" in said
