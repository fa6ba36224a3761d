"""Certificates as vendors really write them, and bytes that are none: the signature counts over the original bytes."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from attestation.enrolling import EK_KEY, VENDOR, prove_ek, showing
from birthmark_server.attestation import der
from birthmark_server.attestation.certificate import describe_name, parse_certificate
from birthmark_server.attestation.errors import CertificateMalformed, ChainAlgorithm, ChainSignature, WeakKey
from birthmark_server.attestation.roots import TrustStore
from support.odd_der import replacing, rewritten, swap_attributes, tlv, unsorted_root
from support.tpm_vendor import VendorCa, build_ca, new_key


def test_a_root_with_an_unsorted_set_vouches_for_its_eks() -> None:
    ca = unsorted_root()
    assert isinstance(ca.key, ec.EllipticCurvePrivateKey)
    name = ca.certificate.subject.public_bytes()
    odd_name = swap_attributes(name)
    odd_root = rewritten(ca.der, replacing(name, odd_name), ca.key)
    odd_ek = rewritten(VENDOR.issue_ek(EK_KEY.public_key(), issuer=ca), replacing(name, odd_name), ca.key)
    with pytest.raises(ValueError, match="InvalidSetOrdering"):
        _ = x509.load_der_x509_certificate(odd_root).subject
    files = {name: odd_root if name.endswith("root.der") else data for name, data in VENDOR.files().items()}
    prove_ek(showing(odd_ek, chain=()), roots=TrustStore.from_files(files))


def test_a_signature_over_a_tidied_copy_does_not_count() -> None:
    ca = unsorted_root()
    assert isinstance(ca.key, ec.EllipticCurvePrivateKey)
    name = ca.certificate.subject.public_bytes()
    ek = VENDOR.issue_ek(EK_KEY.public_key(), issuer=ca)
    odd_root = rewritten(ca.der, replacing(name, swap_attributes(name)), ca.key)
    files = {path: odd_root if path.endswith("root.der") else data for path, data in VENDOR.files().items()}
    moved = ek.replace(name, swap_attributes(name))  # signed as sorted, shown as unsorted
    with pytest.raises(ChainSignature):
        prove_ek(showing(moved, chain=()), roots=TrustStore.from_files(files))


def test_a_critical_flag_spelled_out_as_false_changes_nothing() -> None:
    assert isinstance(VENDOR.intermediate.key, ec.EllipticCurvePrivateKey)
    purpose = bytes.fromhex("0603551d25")
    usual = VENDOR.issue_ek(EK_KEY.public_key())
    extension = next(e for e in parse_certificate(usual).extensions if e.oid == "2.5.29.37")
    short = tlv(der.SEQUENCE, purpose, tlv(der.OCTET_STRING, extension.value))
    spelled = tlv(der.SEQUENCE, purpose, b"\x01\x01\x00", tlv(der.OCTET_STRING, extension.value))

    def change(tbs: bytes) -> bytes:
        members = der.read_all(tbs)
        (listed,) = der.read_all(members[-1].value)
        extensions = listed.value.replace(short, spelled)
        assert extensions != listed.value
        head = b"".join(member.encoded for member in members[:-1])
        return head + tlv(0xA3, tlv(der.SEQUENCE, extensions))

    prove_ek(showing(rewritten(usual, change, VENDOR.intermediate.key)))


def with_extension(tbs: bytes, oid: str, value: bytes, extra: bytes = b"") -> bytes:
    """Return the signed part's members with the value of one extension replaced, after one more member."""
    members = der.read_all(tbs)
    (listed,) = der.read_all(members[-1].value)
    old = next(e.value for e in parse_certificate(USUAL).extensions if e.oid == oid)
    extensions = b"".join(
        tlv(der.SEQUENCE, extension.value.replace(tlv(der.OCTET_STRING, old), extra + tlv(der.OCTET_STRING, value)))
        for extension in der.members_of(listed)
    )
    return b"".join(member.encoded for member in members[:-1]) + tlv(0xA3, tlv(der.SEQUENCE, extensions))


USUAL = VENDOR.issue_ek(EK_KEY.public_key())
BASIC_CONSTRAINTS, SUBJECT_ALT_NAME = "2.5.29.19", "2.5.29.17"
BAD_TEXT = tlv(
    der.SEQUENCE,
    tlv(0xA4, tlv(der.SEQUENCE, tlv(der.SET, tlv(der.SEQUENCE, bytes.fromhex("0603550403"), tlv(0x0C, b"\xff"))))),
)

NO_CERTIFICATES: dict[str, Callable[[bytes], bytes]] = {
    "version 1": replacing(bytes.fromhex("a003020102"), bytes.fromhex("a003020100")),
    "another algorithm inside": lambda tbs: tbs.replace(
        bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d040303"), 1
    ),
    "a month of 13": replacing(b"200101000000Z", b"201301000000Z"),
    "a time with a zone": replacing(b"200101000000Z", b"2001010000+01"),
    "a member too many": lambda tbs: tbs + tlv(0xA4, b""),
    "an extension twice": lambda tbs: tbs.replace(bytes.fromhex("0603551d25"), bytes.fromhex("0603551d11")),
    "a BOOLEAN of 1": replacing(bytes.fromhex("0603551d0f0101ff"), bytes.fromhex("0603551d0f010101")),
    "no extensions": lambda tbs: b"".join(member.encoded for member in der.read_all(tbs)[:-1]),
    "an extension of four members": lambda tbs: with_extension(tbs, BASIC_CONSTRAINTS, b"\x30\x00", extra=b"\x05\x00"),
    "a GeneralizedTime of two-digit years": replacing(b"\x17\x0d200101000000Z", b"\x18\x0d200101000000Z"),
    "basicConstraints of three members": lambda tbs: with_extension(
        tbs, BASIC_CONSTRAINTS, bytes.fromhex("30090101ff020100020100")
    ),
    "a path length below zero": lambda tbs: with_extension(tbs, BASIC_CONSTRAINTS, bytes.fromhex("30060101ff0201ff")),
    "an INTEGER without a value": lambda tbs: with_extension(tbs, BASIC_CONSTRAINTS, bytes.fromhex("30050101ff0200")),
    "a name that is no UTF-8": lambda tbs: with_extension(tbs, SUBJECT_ALT_NAME, BAD_TEXT),
    "a name that is no string": lambda tbs: with_extension(
        tbs, SUBJECT_ALT_NAME, BAD_TEXT.replace(b"\x0c\x01\xff", b"\x04\x01\xff")
    ),
    "a BIT STRING with wrong unused bits": replacing(bytes.fromhex("03020308"), bytes.fromhex("03020408")),
}


@pytest.mark.parametrize("case", NO_CERTIFICATES)
def test_what_is_no_certificate_is_malformed(case: str) -> None:
    assert isinstance(VENDOR.intermediate.key, ec.EllipticCurvePrivateKey)
    usual = VENDOR.issue_ek(EK_KEY.public_key())
    odd = rewritten(usual, NO_CERTIFICATES[case], VENDOR.intermediate.key)
    assert odd != usual
    with pytest.raises(CertificateMalformed):
        parse_certificate(odd)


def test_a_certificate_for_another_kind_of_key_is_weak() -> None:
    key = ed25519.Ed25519PrivateKey.generate().public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    usual = VENDOR.issue_ek(EK_KEY.public_key())
    theirs = EK_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert isinstance(VENDOR.intermediate.key, ec.EllipticCurvePrivateKey)
    with pytest.raises(WeakKey):
        parse_certificate(rewritten(usual, lambda tbs: tbs.replace(theirs, spki), VENDOR.intermediate.key))


SAMPLE = VendorCa.create("Sample").issue_ek(EK_KEY.public_key())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_certificate_or_malformed(data: bytes) -> None:
    with pytest.raises(CertificateMalformed):
        parse_certificate(data)


@given(st.integers(0, len(SAMPLE) - 1), st.binary(max_size=4))
def test_a_damaged_certificate_is_read_or_refused(offset: int, patch: bytes) -> None:
    damaged = SAMPLE[:offset] + patch + SAMPLE[offset + len(patch) :]
    try:
        parsed = parse_certificate(damaged)
    except (CertificateMalformed, WeakKey):
        return
    assert parsed.der == damaged
    assert parsed.tbs in damaged


@given(st.binary(max_size=60))
def test_der_elements_cover_all_bytes_or_are_refused(data: bytes) -> None:
    try:
        elements = der.read_all(data)
    except der.DerError:
        return
    assert b"".join(element.encoded for element in elements) == data


@pytest.mark.parametrize(
    ("encoded", "dotted"),
    [
        ("0603551d11", "2.5.29.17"),
        ("06082a864886f70d0205", "1.2.840.113549.2.5"),
        ("0606678105058101", "2.23.133.5.129"),
    ],
)
def test_object_identifiers_are_read(encoded: str, dotted: str) -> None:
    assert der.oid(der.read_one(bytes.fromhex(encoded), der.OBJECT_IDENTIFIER)) == dotted


@pytest.mark.parametrize("encoded", ["0600", "060180", "06028001", "0603551d91"])
def test_object_identifiers_that_are_none_are_refused(encoded: str) -> None:
    with pytest.raises(der.DerError):
        der.oid(der.read_one(bytes.fromhex(encoded), der.OBJECT_IDENTIFIER))


def test_elements_of_other_kinds_are_refused() -> None:
    with pytest.raises(der.DerError, match="multi-byte tag"):
        der.read_all(b"\x1f\x81\x01\x00")
    with pytest.raises(der.DerError, match="too many"):
        der.read_one(b"\x30\x00\x00", der.SEQUENCE)
    with pytest.raises(der.DerError, match="BOOLEAN"):
        der.boolean(der.read_one(b"\x01\x01\x01", der.BOOLEAN))


def test_a_name_that_can_not_be_read_is_described_in_hex() -> None:
    assert describe_name(b"\x30\x01") == "3001"


def test_a_signature_of_another_kind_than_the_issuer_s_key_or_by_another_algorithm_is_refused() -> None:
    rsa_root = build_ca("Test TPM Vendor EK CA 1", issuer=VENDOR.root, key=new_key("rsa2048"))
    with pytest.raises(ChainSignature, match="can't be by"):
        prove_ek(showing(USUAL, chain=(rsa_root.der,)))
    # ecdsa-with-SHA224, in both places
    old, new = bytes.fromhex("06082a8648ce3d040302"), bytes.fromhex("06082a8648ce3d040301")
    with pytest.raises(ChainAlgorithm, match=r"1\.2\.840\.10045\.4\.3\.1"):
        prove_ek(showing(USUAL.replace(old, new)))


def test_the_reader_agrees_with_cryptography_on_what_both_read() -> None:
    for encoded in (SAMPLE, VENDOR.root.der, VENDOR.intermediate.der, build_ca("Other", path_length=3).der):
        ours, theirs = parse_certificate(encoded), x509.load_der_x509_certificate(encoded)
        assert (ours.subject, ours.issuer) == (theirs.subject.public_bytes(), theirs.issuer.public_bytes())
        assert (ours.not_before, ours.not_after) == (theirs.not_valid_before_utc, theirs.not_valid_after_utc)
        assert (ours.tbs, ours.signature) == (theirs.tbs_certificate_bytes, theirs.signature)
        assert ours.signature_algorithm == theirs.signature_algorithm_oid.dotted_string
        assert [(e.oid, e.critical) for e in ours.extensions] == [
            (e.oid.dotted_string, e.critical) for e in theirs.extensions
        ]
        assert ours.key == theirs.public_key()
        assert replace(ours, signature=b"").der == encoded
