"""The endorsement key: its certificate's oddities, the path to a vendor's root, and keys that only a manifest names."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from attestation.enrolling import MODEL, NO_EKS, NOW, SERVER
from attestation.roca import roca_modulus
from birthmark_server.attestation import errors
from birthmark_server.attestation.ek import ProvenEndorsement, shown_ek_hashes, strip_nv, verify_endorsement
from birthmark_server.attestation.roots import INTERMEDIATES, TrustStore
from birthmark_server.domain import Assurance, DeviceModel
from birthmark_server.errors import BirthmarkError
from birthmark_server.tpm.errors import TpmDecodeError
from birthmark_wire.enrollment import EnrollRequest
from support.software_tpm import (
    EK_PURPOSE,
    MANUFACTURER,
    Ca,
    SoftwareTpm,
    VendorCa,
    build_ca,
    ek_extensions,
    key_usage,
    new_key,
    tpm_san,
)

VENDOR = VendorCa.create()
ROOTS = VENDOR.trust_store()
EK_KEY = ec.generate_private_key(ec.SECP256R1())
Extensions = list[tuple[x509.ExtensionType, bool]]


def judge(
    request: EnrollRequest,
    *,
    roots: TrustStore = ROOTS,
    model: DeviceModel = MODEL,
    listed_ek: frozenset[str] = NO_EKS,
    now: datetime = NOW,
) -> ProvenEndorsement:
    """Let the verifier judge the endorsement key of a request."""
    return verify_endorsement(request, model=model, roots=roots, listed_ek=listed_ek, now=now)


def showing(*certificates: bytes, chain: Sequence[bytes] = VENDOR.chain) -> EnrollRequest:
    """Return the request of a device that shows these EK certificates and no public area."""
    request = SoftwareTpm.create(VENDOR, ek_key=EK_KEY).enroll_request(server_name=SERVER)
    return replace(request, ek_certificates=certificates, ek_chain=tuple(chain), ek_public=None)


# -- the certificate itself


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
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")

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
    proven = judge(showing(certificate))
    assert proven.assurance is Assurance.VENDOR_CERTIFICATE
    assert proven.manufacturer == MANUFACTURER
    assert proven.roots_version == ROOTS.version


@pytest.mark.parametrize("case", BAD_CERTIFICATES)
def test_a_certificate_that_is_no_ek_certificate_is_refused(case: str) -> None:
    extensions, wanted = BAD_CERTIFICATES[case]
    with pytest.raises(wanted) as caught:
        judge(showing(VENDOR.issue_ek(EK_KEY.public_key(), extensions=extensions)))
    assert type(caught.value) is wanted


def test_an_rsa_ek_needs_key_encipherment() -> None:
    key = new_key("rsa2048").public_key()
    model = replace(MODEL, ek_template="rsa2048")
    judge(showing(VENDOR.issue_ek(key)), model=model)
    kept = [(e, c) for e, c in ek_extensions(key) if e.oid != USAGE]
    with pytest.raises(errors.EkKeyUsage):
        judge(showing(VENDOR.issue_ek(key, extensions=[*kept, (key_usage("key_agreement"), True)])), model=model)


def test_an_rsa_ek_with_the_roca_structure_is_refused() -> None:
    key = rsa.RSAPublicNumbers(65537, roca_modulus()).public_key()
    with pytest.raises(errors.RocaKey):
        judge(showing(VENDOR.issue_ek(key)), model=replace(MODEL, ek_template="rsa2048"))


def test_a_vendor_s_entry_may_require_the_extended_key_usage() -> None:
    strict = replace(VENDOR, vendor=replace(VENDOR.vendor, require_eku=True))
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), extensions=changed(PURPOSE, None))
    with pytest.raises(errors.EkPurpose):
        judge(showing(certificate), roots=strict.trust_store())


def test_an_expired_ek_certificate_counts_unless_the_vendor_s_entry_says_otherwise() -> None:
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), not_after=datetime(2024, 1, 1, tzinfo=UTC))
    judge(showing(certificate))
    strict = replace(VENDOR, vendor=replace(VENDOR.vendor, enforce_ek_expiry=True))
    with pytest.raises(errors.EkExpired):
        judge(showing(certificate), roots=strict.trust_store())


def test_allowing_expiry_does_not_allow_a_certificate_of_the_future() -> None:
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), not_before=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(errors.EkNotYetValid):
        judge(showing(certificate))


def test_a_model_may_take_fewer_manufacturers_than_the_root_vouches_for() -> None:
    certificate = VENDOR.issue_ek(EK_KEY.public_key())
    judge(showing(certificate), model=replace(MODEL, manufacturers=(MANUFACTURER,)))
    with pytest.raises(errors.EkManufacturer):
        judge(showing(certificate), model=replace(MODEL, manufacturers=("id:49465800",)))


# -- how it is stored


def test_header_and_padding_of_the_nv_index_are_dropped() -> None:
    der = VENDOR.issue_ek(EK_KEY.public_key())
    header = b"\x10\x01\x00" + len(der).to_bytes(2, "big")
    for stored in (der, header + der, der + bytes(100), der + b"\xff" * 100, header + der + b"\xff" * 9):
        assert strip_nv(stored) == der
        judge(showing(stored))


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
        judge(showing(NOT_STORED[case](VENDOR.issue_ek(EK_KEY.public_key()))))


# -- the path


@dataclass(frozen=True)
class Path:
    """An EK certificate, what comes with it, and the refusal; None where the path holds."""

    certificate: bytes
    chain: tuple[bytes, ...]
    wanted: type[BirthmarkError] | None


def below(*cas: Ca, wanted: type[BirthmarkError] | None = None, shown: int | None = None) -> Path:
    """Issue an EK certificate by the last of these CAs; show them all, or the last `shown` of them."""
    certificate = VENDOR.issue_ek(EK_KEY.public_key(), issuer=cas[-1])
    chain = tuple(ca.der for ca in cas)
    return Path(certificate, chain if shown is None else chain[len(chain) - shown :], wanted)


def child(issuer: Ca = VENDOR.root, **options: object) -> Ca:
    """Make an intermediate below the vendor's root, oddly."""
    return build_ca("Odd CA", issuer=issuer, **options)  # type: ignore[arg-type]  # the table names the options


CA_BITS = (key_usage("key_cert_sign"), True)
CA_TRUE = (x509.BasicConstraints(True, None), True)
DEEP_ROOT = build_ca("Deep Root")
DEEP_ROOTS = replace(VENDOR, root=DEEP_ROOT).trust_store()


def tower(height: int) -> tuple[Ca, ...]:
    """Make a chain of CAs below DEEP_ROOT."""
    cas: list[Ca] = []
    for floor in range(height):
        cas.append(build_ca(f"Floor {floor}", issuer=cas[-1] if cas else DEEP_ROOT))
    return tuple(cas)


FOREIGN = VendorCa.create("Foreign")
IMPOSTOR = build_ca("Test TPM Vendor Root CA")
FORGED = build_ca("Test TPM Vendor EK CA 1", issuer=IMPOSTOR)

PATHS: dict[str, Path] = {
    "intermediate shown": below(VENDOR.intermediate),
    "issued by the root itself": below(VENDOR.root, shown=0),
    "the root shown too": below(VENDOR.root, VENDOR.intermediate),
    "intermediate missing": below(VENDOR.intermediate, shown=0, wanted=errors.EkUntrusted),
    "a foreign vendor": below(FOREIGN.root, FOREIGN.intermediate, wanted=errors.EkUntrusted),
    "a foreign intermediate alone": below(FOREIGN.intermediate, wanted=errors.EkUntrusted),
    "an intermediate by a root of the same name": below(FORGED, wanted=errors.ChainSignature),
    "a root of the same name": below(IMPOSTOR, shown=0, wanted=errors.ChainSignature),
    "an impostor beside the true intermediate": Path(
        VENDOR.issue_ek(EK_KEY.public_key()), (FORGED.der, *VENDOR.chain), None
    ),
    "path length 0 exceeded": below(VENDOR.intermediate, child(VENDOR.intermediate), wanted=errors.ChainPathLength),
    "an issuer that is no CA": below(
        child(extensions=[(x509.BasicConstraints(False, None), True), CA_BITS]), wanted=errors.ChainNotCa
    ),
    "an issuer without basicConstraints": below(child(extensions=[CA_BITS]), wanted=errors.ChainNotCa),
    "an issuer that may not sign certificates": below(
        child(extensions=[CA_TRUE, (key_usage("crl_sign"), True)]), wanted=errors.ChainNotCa
    ),
    "an issuer for servers": below(
        child(extensions=[CA_TRUE, CA_BITS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)]),
        wanted=errors.ChainNotCa,
    ),
    "an issuer for EKs": below(child(extensions=[CA_TRUE, CA_BITS, (x509.ExtendedKeyUsage([EK_PURPOSE]), True)])),
    "an issuer for anything": below(
        child(
            extensions=[CA_TRUE, CA_BITS, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]), False)]
        )
    ),
    "name constraints": below(
        child(
            extensions=[
                CA_TRUE,
                CA_BITS,
                (x509.NameConstraints([x509.DirectoryName(x509.Name([]))], None), True),
            ]
        ),
        wanted=errors.ChainNameConstraints,
    ),
    "name constraints that are not critical": below(
        child(extensions=[CA_TRUE, CA_BITS, (x509.NameConstraints(None, [x509.DNSName("example")]), False)]),
        wanted=errors.ChainNameConstraints,
    ),
    "an unknown critical extension": below(
        child(extensions=[CA_TRUE, CA_BITS, (UNKNOWN, True)]), wanted=errors.CriticalExtension
    ),
    "critical policies": below(
        child(
            extensions=[
                CA_TRUE,
                CA_BITS,
                (x509.CertificatePolicies([x509.PolicyInformation(ObjectIdentifier("2.5.29.32.0"), None)]), True),
            ]
        )
    ),
    "an expired issuer": below(child(not_after=datetime(2024, 1, 1, tzinfo=UTC)), wanted=errors.ChainDates),
    "an issuer of the future": below(child(not_before=datetime(2030, 1, 1, tzinfo=UTC)), wanted=errors.ChainDates),
    "a weak issuer": below(child(key=rsa.generate_private_key(65537, 1024)), wanted=errors.WeakKey),
    "an issuer on P-224": below(child(key=ec.generate_private_key(ec.SECP224R1())), wanted=errors.WeakKey),
}


@pytest.mark.parametrize("case", PATHS)
def test_the_path_to_a_root(case: str) -> None:
    path = PATHS[case]
    request = showing(path.certificate, chain=path.chain)
    if path.wanted is None:
        assert judge(request).assurance is Assurance.VENDOR_CERTIFICATE
        return
    with pytest.raises(path.wanted) as caught:
        judge(request)
    assert type(caught.value) is path.wanted


def test_an_endorsement_key_certifies_no_other() -> None:
    first = VENDOR.issue_ek(EK_KEY.public_key(), issuer=DEEP_ROOT)
    as_ca = Ca(x509.load_der_x509_certificate(first), EK_KEY)
    second = VENDOR.issue_ek(new_key("p256").public_key(), issuer=as_ca)
    with pytest.raises(errors.ChainNotCa):
        judge(showing(second, chain=(first,)), roots=DEEP_ROOTS)


def test_a_path_has_at_most_four_intermediates() -> None:
    four = below(*tower(4))
    judge(showing(four.certificate, chain=four.chain), roots=DEEP_ROOTS)
    five = below(*tower(5))
    with pytest.raises(errors.EkUntrusted):
        judge(showing(five.certificate, chain=five.chain), roots=DEEP_ROOTS)


def test_an_intermediate_in_the_trust_store_is_no_end_of_a_path() -> None:
    files = VENDOR.files() | {f"test-vendor/{INTERMEDIATES}/foreign.der": FOREIGN.intermediate.der}
    certificate = FOREIGN.issue_ek(EK_KEY.public_key())
    with pytest.raises(errors.EkUntrusted):
        judge(showing(certificate, chain=()), roots=TrustStore.from_files(files))


def test_two_intermediates_of_one_name_that_name_each_other_end_in_a_refusal() -> None:
    one, two = build_ca("Loop A"), build_ca("Loop B")
    a = build_ca("Loop A", issuer=two, key=one.key)
    b = build_ca("Loop B", issuer=one, key=two.key)
    with pytest.raises(errors.EkUntrusted):
        judge(showing(VENDOR.issue_ek(EK_KEY.public_key(), issuer=a), chain=(a.der, b.der) * 8))


def test_one_changed_byte_of_the_signed_part_is_refused() -> None:
    der = bytearray(VENDOR.issue_ek(EK_KEY.public_key()))
    der[der.index(b"SW1")] ^= 1
    with pytest.raises(errors.ChainSignature):
        judge(showing(bytes(der)))


def test_sha1_is_allowed_where_the_vendor_s_entry_says_so() -> None:
    # `cryptography` signs no certificate with SHA-1: take one and sign its TBS again, as Infineon's old CA did.
    key = new_key("rsa2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    vendor = replace(VENDOR, root=build_ca("Old Root", key=key))
    certificate = sha1_signed(vendor.issue_ek(EK_KEY.public_key(), issuer=vendor.root), key)
    with pytest.raises(errors.ChainAlgorithm):
        judge(showing(certificate, chain=()), roots=vendor.trust_store())
    old = replace(vendor, vendor=replace(vendor.vendor, allow_sha1=True))
    judge(showing(certificate, chain=()), roots=old.trust_store())


def sha1_signed(der: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """Return the certificate with sha1WithRSAEncryption in the place of sha256WithRSAEncryption, signed anew."""
    tbs = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    sha256_with_rsa, sha1_with_rsa = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    signature = key.sign(tbs.replace(sha256_with_rsa, sha1_with_rsa), padding.PKCS1v15(), hashes.SHA1())
    return der.replace(sha256_with_rsa, sha1_with_rsa)[: -len(signature)] + signature


# -- which EK counts


def test_the_public_area_must_be_the_certificate_s_key() -> None:
    tpm, other = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR)
    request = tpm.enroll_request(server_name=SERVER)
    with pytest.raises(errors.EkKeyMismatch):
        judge(replace(request, ek_public=other.ek_public.encode()))


def test_the_public_area_must_be_the_template_s() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    for odd in (
        replace(tpm.ek_public, attributes=tpm.ek_public.attributes ^ 1 << 6),
        replace(tpm.ek_public, auth_policy=b""),
        replace(tpm.ek_public, symmetric=None),
    ):
        with pytest.raises(errors.EkTemplateMismatch):
            judge(replace(tpm.enroll_request(server_name=SERVER), ek_public=odd.encode()))


def test_the_credential_is_made_for_the_rebuilt_public_area() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    assert judge(showing(*tpm.ek_certificates)).public == tpm.ek_public


def test_the_model_fixes_the_template_and_the_other_eks_are_reported() -> None:
    p256, p384 = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR, ek="p384")
    request = showing(*p384.ek_certificates, *p256.ek_certificates)
    proven = judge(request)
    assert (proven.ek_sha256, proven.other_ek_sha256) == (p256.ek_sha256, (p384.ek_sha256,))
    assert shown_ek_hashes(request) == (p384.ek_sha256, p256.ek_sha256)
    with pytest.raises(errors.EkMissing):
        judge(showing(*p384.ek_certificates))


def test_the_public_area_of_another_ek_is_reported_too() -> None:
    p256, p384 = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR, ek="p384")
    request = replace(p256.enroll_request(server_name=SERVER), ek_public=p384.ek_public.encode())
    assert judge(request).other_ek_sha256 == (p384.ek_sha256,)


def test_two_eks_of_one_template_are_refused() -> None:
    one, two = SoftwareTpm.create(VENDOR), SoftwareTpm.create(VENDOR)
    with pytest.raises(errors.EkAmbiguous):
        judge(showing(*one.ek_certificates, *two.ek_certificates))


def test_one_ek_certified_twice_is_one_ek() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    again = VENDOR.issue_ek(tpm.ek.public_key())
    assert judge(showing(*tpm.ek_certificates, again)).ek_sha256 == tpm.ek_sha256


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
    proven = judge(bare_request(tpm), model=OPEN_MODEL, listed_ek=frozenset((tpm.ek_sha256,)))
    assert (proven.assurance, proven.manufacturer, proven.vendor) == (Assurance.LISTED_KEY, "", None)


def test_a_listed_key_is_not_enough_where_the_model_requires_a_certificate() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    with pytest.raises(errors.EkCertificateMissing):
        judge(bare_request(tpm), listed_ek=frozenset((tpm.ek_sha256,)))
    foreign = SoftwareTpm.create(FOREIGN)
    with pytest.raises(errors.EkUntrusted):
        judge(foreign.enroll_request(server_name=SERVER), listed_ek=frozenset((foreign.ek_sha256,)))


def test_an_unlisted_key_is_refused() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    with pytest.raises(errors.EkNotListed):
        judge(bare_request(tpm), model=OPEN_MODEL, listed_ek=frozenset(("00" * 32, "")))


def test_a_listed_key_may_have_an_unknown_certificate_but_not_a_false_one() -> None:
    tpm = SoftwareTpm.create(FOREIGN)
    request, listed = tpm.enroll_request(server_name=SERVER), frozenset((tpm.ek_sha256,))
    assert judge(request, model=OPEN_MODEL, listed_ek=listed).assurance is Assurance.LISTED_KEY
    forged = VENDOR.issue_ek(tpm.ek.public_key(), issuer=FORGED)
    false = replace(request, ek_certificates=(forged,), ek_chain=VENDOR.chain)
    with pytest.raises(errors.ChainSignature):
        judge(false, model=OPEN_MODEL, listed_ek=listed)


def test_a_public_area_that_can_not_be_read_is_malformed() -> None:
    tpm = SoftwareTpm.create(VENDOR)
    for odd in (b"", tpm.ek_public.encode() + b"\x00", tpm.ek_public.encode()[:-1]):
        with pytest.raises(TpmDecodeError):
            judge(replace(bare_request(tpm), ek_public=odd), model=OPEN_MODEL)
