"""Our own lint: one thing wrong at a time, in certificates that are right otherwise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtensionOID, NameOID

from birthmark_server.ca.errors import KeyUnusable, LintFailed
from birthmark_server.ca.lint import Template, lint
from birthmark_server.ca.profile import NEVER
from birthmark_server.ca.signer import BuilderKey
from birthmark_server.domain import CertificateProfile
from support.leaves import leaf_of
from support.pki import Leaf, Pki

Extensions = dict[x509.ObjectIdentifier, tuple[x509.ExtensionType, bool]]


@dataclass
class Draft:
    """A certificate's fields, taken from a good one; a test changes one."""

    issuer: x509.Name
    subject: x509.Name
    serial_number: int
    begins: datetime
    ends: datetime
    extensions: Extensions = field(default_factory=dict)
    algorithm: hashes.SHA256 | hashes.SHA384 = field(default_factory=hashes.SHA256)

    @classmethod
    def of(cls, leaf: Leaf) -> "Draft":
        certificate = leaf.certificate
        return cls(
            certificate.issuer,
            certificate.subject,
            certificate.serial_number,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
            {each.oid: (each.value, each.critical) for each in certificate.extensions},
        )

    def build(self, leaf: Leaf) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .issuer_name(self.issuer)
            .subject_name(self.subject)
            .public_key(leaf.key.public_key())
            .serial_number(self.serial_number)
            .not_valid_before(self.begins)
            .not_valid_after(self.ends)
        )
        for value, critical in self.extensions.values():
            builder = builder.add_extension(value, critical=critical)
        return builder.sign(ec.generate_private_key(ec.SECP256R1()), self.algorithm)


def template_of(pki: Pki, profile: CertificateProfile) -> Template:
    for issuer in reversed(pki.authority.issuers):  # the Infra CA first: who signs OCSP answers has three
        if profile in issuer._templates:
            return issuer._templates[profile]
    raise LookupError(profile)


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


O, CN = NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME  # noqa: E741


def put(value: x509.ExtensionType, *, critical: bool = False) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.extensions[value.oid] = (value, critical)

    return change


def drop(oid: x509.ObjectIdentifier) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        del draft.extensions[oid]

    return change


def subject(*attributes: tuple[x509.ObjectIdentifier, str]) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.subject = name(*attributes)

    return change


def move(*, begins: timedelta = timedelta(0), ends: timedelta = timedelta(0)) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.begins += begins
        draft.ends += ends

    return change


def number(value: int) -> Callable[[Draft], None]:
    def change(draft: Draft) -> None:
        draft.serial_number = value

    return change


def issued_by_others(draft: Draft) -> None:
    draft.issuer = name((O, "Others"))


def signed_with_sha384(draft: Draft) -> None:
    draft.algorithm = hashes.SHA384()


OURS = (O, "Example Devices")
URI = "spiffe://fleet.example/device/"
CHANGES: dict[str, tuple[Callable[[Draft], None], str]] = {
    "short serial number": (number(1 << 62), "serial number"),
    "foreign issuer": (issued_by_others, "issuer"),
    "other hash": (signed_with_sha384, "signature algorithm"),
    "ends after its issuer": (move(ends=timedelta(days=4000)), "not within"),
    "begins before its issuer": (move(begins=timedelta(days=-400)), "not within"),
    "too long": (move(ends=timedelta(days=340)), "want at most"),
    "another organization": (subject((O, "Others"), (CN, "device-1")), "want O="),
    "no organization": (subject((CN, "device-1")), "subject"),
    "two common names": (subject(OURS, (CN, "device-1"), (CN, "device-2")), "subject"),
    "order of the subject": (subject((CN, "device-1"), OURS), "subject"),
    "an id in capitals": (subject(OURS, (CN, "Device-1")), "device_id"),
    "an id of the infrastructure": (subject(OURS, (CN, "srv-1")), "reserved"),
    "an id without TPM evidence": (subject(OURS, (CN, "sw-1")), "TPM evidence"),
    "another id than the URI's": (subject(OURS, (CN, "device-2")), "subjectAltName"),
    "two URIs": (
        put(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URI + f"device-{n}") for n in (1, 2)])),
        "subjectAltName",
    ),
    "a DNS name": (put(x509.SubjectAlternativeName([x509.DNSName("device-1")])), "subjectAltName"),
    "no URI": (drop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME), "subjectAltName"),
    "no policies": (drop(ExtensionOID.CERTIFICATE_POLICIES), "lacks 2.5.29.32"),
    "no key usage": (drop(ExtensionOID.KEY_USAGE), "lacks 2.5.29.15"),
    "no CRL": (drop(ExtensionOID.CRL_DISTRIBUTION_POINTS), "lacks 2.5.29.31"),
    "no authority key": (drop(ExtensionOID.AUTHORITY_KEY_IDENTIFIER), "lacks 2.5.29.35"),
    "a CA": (put(x509.BasicConstraints(ca=True, path_length=None), critical=True), "2.5.29.19 differs"),
    "another key's identifier": (put(x509.SubjectKeyIdentifier(bytes(20))), "2.5.29.14 differs"),
    "key purposes": (put(x509.ExtendedKeyUsage([x509.OID_CLIENT_AUTH])), "2.5.29.37 differs"),
    "an unknown extension": (put(x509.PrecertPoison()), "unknown"),
    "the wrong criticality": (put(x509.BasicConstraints(ca=False, path_length=None)), "wrong criticality"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_one_thing_wrong_is_found(pki: Pki, change: str) -> None:
    leaf, (apply, why) = leaf_of(pki, CertificateProfile.LDEVID), CHANGES[change]
    draft = Draft.of(leaf)
    apply(draft)
    with pytest.raises(LintFailed, match=why):
        lint(draft.build(leaf), template_of(pki, CertificateProfile.LDEVID))


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_a_certificate_as_it_was_issued_passes(pki: Pki, profile: CertificateProfile) -> None:
    leaf = leaf_of(pki, profile)
    lint(Draft.of(leaf).build(leaf), template_of(pki, profile))


@pytest.mark.parametrize("profile", list(CertificateProfile))
def test_no_profile_passes_for_another(pki: Pki, profile: CertificateProfile) -> None:
    leaf = leaf_of(pki, profile)
    for other in CertificateProfile:
        if other is not profile:
            with pytest.raises(LintFailed):
                lint(leaf.certificate, template_of(pki, other))


def test_an_idevid_with_an_end_is_found(pki: Pki) -> None:
    leaf = leaf_of(pki, CertificateProfile.IDEVID)
    draft = Draft.of(leaf)
    draft.ends = NEVER - timedelta(days=1)
    with pytest.raises(LintFailed, match="99991231235959Z"):
        lint(draft.build(leaf), template_of(pki, CertificateProfile.IDEVID))


@pytest.mark.parametrize(
    "names",
    [
        [],
        [x509.UniformResourceIdentifier("spiffe://fleet.example/device/device-1")],
        [x509.OtherName(x509.ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x01a")],
    ],
)
def test_an_idevid_without_its_hardware_module_name_is_found(pki: Pki, names: Sequence[x509.GeneralName]) -> None:
    leaf = leaf_of(pki, CertificateProfile.IDEVID)
    draft = Draft.of(leaf)
    del draft.extensions[ExtensionOID.SUBJECT_ALTERNATIVE_NAME]
    if names:
        put(x509.SubjectAlternativeName(list(names)))(draft)
    with pytest.raises(LintFailed, match="HardwareModuleName"):
        lint(draft.build(leaf), template_of(pki, CertificateProfile.IDEVID))


def test_the_builders_key_signs_and_does_nothing_else(pki: Pki) -> None:
    key = BuilderKey.over(pki.authority.fleet.signer)
    key.public_key().verify(key.sign(b"x", ec.ECDSA(hashes.SHA256())), b"x", ec.ECDSA(hashes.SHA256()))
    acts: list[Callable[[], object]] = [
        lambda: key.sign(b"x", ec.ECDSA(hashes.SHA384())),
        key.exchange,
        key.private_numbers,
        key.private_bytes,
    ]
    for act in acts:
        with pytest.raises(KeyUnusable):
            act()
