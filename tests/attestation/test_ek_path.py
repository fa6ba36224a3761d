"""The path from an EK certificate to a vendor's root."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from attestation.enrolling import EK_KEY, FOREIGN, FORGED, IMPOSTOR, UNKNOWN, VENDOR, prove_ek, showing
from birthmark_server.attestation import errors
from birthmark_server.attestation.roots import INTERMEDIATES, TrustStore
from birthmark_server.domain import Assurance
from birthmark_server.errors import BirthmarkError
from support.tpm_vendor import EK_PURPOSE, Ca, build_ca, key_usage, new_key


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
        assert prove_ek(request).assurance is Assurance.VENDOR_CERTIFICATE
        return
    with pytest.raises(path.wanted) as caught:
        prove_ek(request)
    assert type(caught.value) is path.wanted


def test_an_endorsement_key_certifies_no_other() -> None:
    first = VENDOR.issue_ek(EK_KEY.public_key(), issuer=DEEP_ROOT)
    as_ca = Ca(x509.load_der_x509_certificate(first), EK_KEY)
    second = VENDOR.issue_ek(new_key("p256").public_key(), issuer=as_ca)
    with pytest.raises(errors.ChainNotCa):
        prove_ek(showing(second, chain=(first,)), roots=DEEP_ROOTS)


def test_a_path_has_at_most_four_intermediates() -> None:
    four = below(*tower(4))
    prove_ek(showing(four.certificate, chain=four.chain), roots=DEEP_ROOTS)
    five = below(*tower(5))
    with pytest.raises(errors.EkUntrusted):
        prove_ek(showing(five.certificate, chain=five.chain), roots=DEEP_ROOTS)


def test_an_intermediate_in_the_trust_store_is_no_end_of_a_path() -> None:
    files = VENDOR.files() | {f"test-vendor/{INTERMEDIATES}/foreign.der": FOREIGN.intermediate.der}
    certificate = FOREIGN.issue_ek(EK_KEY.public_key())
    with pytest.raises(errors.EkUntrusted):
        prove_ek(showing(certificate, chain=()), roots=TrustStore.from_files(files))


def test_two_intermediates_of_one_name_that_name_each_other_end_in_a_refusal() -> None:
    one, two = build_ca("Loop A"), build_ca("Loop B")
    a = build_ca("Loop A", issuer=two, key=one.key)
    b = build_ca("Loop B", issuer=one, key=two.key)
    with pytest.raises(errors.EkUntrusted):
        prove_ek(showing(VENDOR.issue_ek(EK_KEY.public_key(), issuer=a), chain=(a.der, b.der) * 8))


def test_a_device_that_shows_a_crowd_of_intermediates_costs_a_bounded_search() -> None:
    names = [f"Crowd {floor}" for floor in range(4)]
    crowd = [build_ca(name, issuer=build_ca(above)) for name, above in pairwise(names) for _ in range(4)]
    start = build_ca(names[0])
    with pytest.raises(errors.EkUntrusted):
        prove_ek(showing(VENDOR.issue_ek(EK_KEY.public_key(), issuer=start), chain=[ca.der for ca in crowd]))


def test_one_changed_byte_of_the_signed_part_is_refused() -> None:
    der = bytearray(VENDOR.issue_ek(EK_KEY.public_key()))
    der[der.index(b"SW1")] ^= 1
    with pytest.raises(errors.ChainSignature):
        prove_ek(showing(bytes(der)))


def test_sha1_is_allowed_where_the_vendor_s_entry_says_so() -> None:
    # `cryptography` signs no certificate with SHA-1: take one and sign its TBS again, as Infineon's old CA did.
    key = new_key("rsa2048")
    assert isinstance(key, rsa.RSAPrivateKey)
    vendor = replace(VENDOR, root=build_ca("Old Root", key=key))
    certificate = sha1_signed(vendor.issue_ek(EK_KEY.public_key(), issuer=vendor.root), key)
    with pytest.raises(errors.ChainAlgorithm):
        prove_ek(showing(certificate, chain=()), roots=vendor.trust_store())
    old = replace(vendor, vendor=replace(vendor.vendor, allow_sha1=True))
    prove_ek(showing(certificate, chain=()), roots=old.trust_store())


def sha1_signed(der: bytes, key: rsa.RSAPrivateKey) -> bytes:
    """Return the certificate with sha1WithRSAEncryption in the place of sha256WithRSAEncryption, signed anew."""
    tbs = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    sha256_with_rsa, sha1_with_rsa = bytes.fromhex("2a864886f70d01010b"), bytes.fromhex("2a864886f70d010105")
    signature = key.sign(tbs.replace(sha256_with_rsa, sha1_with_rsa), padding.PKCS1v15(), hashes.SHA1())
    return der.replace(sha256_with_rsa, sha1_with_rsa)[: -len(signature)] + signature
