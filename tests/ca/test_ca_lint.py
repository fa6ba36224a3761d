"""Judges that nobody here wrote: pkilint on every profile and CRL, and the SPIFFE library on the LDevID.

`JUSTIFIED` lists the findings that stay, each with its reason in docs/certificates.md; any other fails the test.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from pkilint import loader, pkix  # type: ignore[import-untyped]
from pkilint.pkix import certificate, crl, extension, name  # type: ignore[import-untyped]
from pkilint.validation import ValidationFindingSeverity, ValidationResult  # type: ignore[import-untyped]
from spiffe import SpiffeId, X509Svid

from birthmark_server.ca.ca_certificate import read_certificate
from birthmark_server.ca.crl import build_crl
from birthmark_server.domain import CertificateProfile, RevocationReason
from support.leaves import entry_of, leaf_of
from support.pki import Pki
from support.two_roots import NEW, make_two_roots

JUSTIFIED = {
    # pkilint takes its list of URI schemes from a web form's; RFC 3986 §3.1 leaves schemes open, and SPIFFE has one.
    ("pkix.invalid_uri_syntax", 'Invalid URI syntax: "spiffe://fleet.example/device/device-1"'),
    ("pkix.invalid_uri_syntax", 'Invalid URI syntax: "spiffe://fleet.example/device/sw-1"'),
}


def findings(results: list[ValidationResult]) -> set[tuple[str, str]]:
    """Every finding of a warning or worse."""
    return {
        (description.finding.code, description.message or "")
        for result in results
        for description in result.finding_descriptions
        if description.finding.severity <= ValidationFindingSeverity.WARNING
    }


def lint_certificate(der: bytes) -> set[tuple[str, str]]:
    """What `lint_pkix_cert lint -s WARNING` does."""
    validator = certificate.create_pkix_certificate_validator_container(
        certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
        [
            certificate.create_issuer_validator_container([]),
            certificate.create_validity_validator_container(),
            certificate.create_subject_validator_container([]),
            certificate.create_extensions_validator_container([]),
            certificate.create_spki_validator_container([]),
        ],
    )
    return findings(
        validator.validate(loader.RFC5280CertificateDocumentLoader().load_der_document(der, "certificate").root)
    )


def lint_crl(der: bytes) -> set[tuple[str, str]]:
    """What `lint_crl lint -t CRL -p PKIX -s WARNING` does."""
    validator = crl.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            crl.create_issuer_validator_container([]),
            crl.create_validity_validator_container([]),
            crl.create_extensions_validator_container([]),
        ],
    )
    return findings(
        validator.validate(loader.RFC5280CertificateListDocumentLoader().load_der_document(der, "crl").root)
    )


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_pkilint_finds_nothing_in_a_leaf_that_the_documents_do_not_justify(
    pki: Pki, profile: CertificateProfile
) -> None:
    assert lint_certificate(leaf_of(pki, profile).der) <= JUSTIFIED


def test_pkilint_finds_nothing_in_the_cas(pki: Pki) -> None:
    paths = sorted(path for path in pki.folder.glob("*.pem"))
    assert len(paths) == 4
    for path in paths:
        assert lint_certificate(read_certificate(path).public_bytes(Encoding.DER)) <= JUSTIFIED, path.name


def test_pkilint_finds_nothing_in_a_new_root_and_the_links(tmp_path: Path) -> None:
    two = make_two_roots(tmp_path / "ca", public_url="http://pki.fleet.example")
    paths = [two.folder / name for name in (f"{NEW}.pem", f"{NEW}.by.root.pem", f"root.by.{NEW}.pem")]
    for path in paths:
        assert lint_certificate(read_certificate(path).public_bytes(Encoding.DER)) == set(), path.name


def test_pkilint_finds_nothing_in_the_crls(pki: Pki) -> None:
    next_update = pki.now + timedelta(days=7)
    revoked = [
        entry_of(replace(pki.device(f"device-{n}").record, revoked_at=pki.now, reason=reason))
        for n, reason in enumerate(RevocationReason)
    ]
    assert lint_crl(pki.authority.root.crl.der) == set()
    for issuer in pki.authority.issuers:
        for entries in ([], revoked):
            assert lint_crl(build_crl(issuer, entries, number=3, now=pki.now, next_update=next_update)) == set()


@pytest.mark.parametrize("device", ["device-1", "sw-1"])
def test_an_operational_certificate_is_an_x509_svid(pki: Pki, device: str) -> None:
    leaf = pki.device(device, tpm_backed=not device.startswith("sw-"))
    svid = X509Svid.parse(leaf.chain_pem, leaf.key_pem)
    assert svid.spiffe_id == SpiffeId(f"spiffe://fleet.example/device/{device}")
    assert len(svid.cert_chain) == 2
