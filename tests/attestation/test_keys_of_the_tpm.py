"""Public areas of attestation and device keys that are no such keys, and keys below the floor."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from attestation.enrolling import MODEL, NO_EKS, NOW, SERVER
from attestation.roca import roca_modulus
from birthmark_server.attestation import errors
from birthmark_server.attestation.ak import AttestationKey, check_ak
from birthmark_server.attestation.device_key import check_device_public
from birthmark_server.attestation.ek import ProvenEndorsement, verify_endorsement
from birthmark_server.attestation.keys import check_device_key
from birthmark_server.attestation.quote import VerifiedQuote
from birthmark_server.attestation.verify import VerifiedDevice, VerifiedKey, open_challenge
from birthmark_server.errors import BirthmarkError
from birthmark_server.tpm.algorithms import ALG_ECDAA, ALG_RSAES, ALG_RSAPSS, ALG_RSASSA, ALG_SHA1
from birthmark_server.tpm.errors import TpmDecodeError, UnsupportedKey
from birthmark_server.tpm.public import EccKey, RsaKey, Scheme, TpmPublic, parse_public
from birthmark_wire.tpm_templates import (
    AK,
    ALG_ECDSA,
    ALG_SHA256,
    BIRTH_KEY,
    DECRYPT,
    FIXED_PARENT,
    FIXED_TPM,
    RESTRICTED,
    SENSITIVE_DATA_ORIGIN,
    SIGN,
)
from support.software_tpm import SoftwareKey, SoftwareTpm
from support.tpm_vendor import VendorCa

Change = Callable[[TpmPublic], TpmPublic]


def without(bits: int) -> Change:
    """Clear attribute bits."""
    return lambda public: replace(public, attributes=public.attributes & ~bits)


def with_bits(bits: int) -> Change:
    """Set attribute bits."""
    return lambda public: replace(public, attributes=public.attributes | bits)


def scheme(alg: int, hash_alg: int | None = None, count: int | None = None) -> Change:
    """Fix another scheme."""
    return lambda public: replace(public, scheme=Scheme(alg, hash_alg, count))


def point(**numbers: Any) -> Change:
    """Change curve or coordinates."""

    def change(public: TpmPublic) -> TpmPublic:
        assert isinstance(public.key, EccKey)
        return replace(public, key=replace(public.key, **numbers))

    return change


def rsa_key(bits: int, *, exponent: int = 0, alg: int = ALG_RSASSA, modulus: int | None = None) -> Change:
    """Be an RSA key with a modulus of that many bits; any odd number will do for what is judged here."""
    number = (1 << bits - 1) + 12345 if modulus is None else modulus
    key = RsaKey(bits, exponent, number.to_bytes((bits + 7) // 8, "big"))
    return lambda public: replace(public, key=key, scheme=Scheme(alg, ALG_SHA256))


ROCA = roca_modulus()

COMMON: dict[str, tuple[Change, type[BirthmarkError]]] = {
    "P-224": (point(curve=0x0002), UnsupportedKey),
    "P-521, which no template has": (point(curve=0x0005), UnsupportedKey),
    "BN P-256": (point(curve=0x0010), UnsupportedKey),
    "a point off the curve": (point(y=b"\x01" * 32), UnsupportedKey),
    "the point at infinity": (point(x=b"", y=b""), UnsupportedKey),
    "coordinates beyond the field": (point(x=b"\xff" * 48), UnsupportedKey),
    "RSA 1024": (rsa_key(1024), errors.WeakKey),
    "RSA exponent 3": (rsa_key(2048, exponent=3), errors.WeakKey),
    "RSA of fewer bits than said": (rsa_key(2048, modulus=(1 << 1024) + 1), UnsupportedKey),
    "RSA with an even exponent": (rsa_key(2048, exponent=65538), UnsupportedKey),
    "ROCA": (rsa_key(2048, modulus=ROCA), errors.RocaKey),
    "Name of SHA-1": (lambda public: replace(public, name_alg=ALG_SHA1), errors.WeakKey),
    "Name of no hash": (lambda public: replace(public, name_alg=0x0010), errors.WeakKey),
}

NO_AK: dict[str, tuple[Change, type[BirthmarkError]]] = {
    "unrestricted": (without(RESTRICTED), errors.AkUnrestricted),
    "may decrypt": (with_bits(DECRYPT), errors.AkDecrypts),
    "may not sign": (without(SIGN), errors.AkCannotSign),
    "not fixedTPM": (without(FIXED_TPM), errors.AkNotFixed),
    "not fixedParent": (without(FIXED_PARENT), errors.AkNotFixed),
    "imported": (without(SENSITIVE_DATA_ORIGIN), errors.AkNotFixed),
    "without a scheme": (lambda public: replace(public, scheme=None), errors.AkScheme),
    "ECDSA with SHA-1": (scheme(ALG_ECDSA, ALG_SHA1), errors.WeakKey),
    "ECDAA": (scheme(ALG_ECDAA, ALG_SHA256, 1), errors.AkScheme),
    "RSAES": (rsa_key(2048, alg=ALG_RSAES), errors.AkScheme),
    **COMMON,
}

NO_DEVICE_KEY: dict[str, tuple[Change, type[BirthmarkError]]] = {
    "restricted": (with_bits(RESTRICTED), errors.KeyRestricted),
    "may decrypt": (with_bits(DECRYPT), errors.KeyDecrypts),
    "may not sign": (without(SIGN), errors.KeyCannotSign),
    "not fixedTPM": (without(FIXED_TPM), errors.KeyNotFixed),
    "not fixedParent": (without(FIXED_PARENT), errors.KeyNotFixed),
    "imported": (without(SENSITIVE_DATA_ORIGIN), errors.KeyNotFixed),
    "ECDSA with SHA-1": (scheme(ALG_ECDSA, ALG_SHA1), errors.KeyScheme),
    "ECDAA": (scheme(ALG_ECDAA, ALG_SHA256, 1), errors.KeyScheme),
    **COMMON,
}


def encode(public: TpmPublic) -> bytes:
    """Write a public area; RSAES has no hash."""
    if public.scheme is not None and public.scheme.alg == ALG_RSAES:
        public = replace(public, scheme=Scheme(ALG_RSAES))
    return public.encode()


@pytest.mark.parametrize("case", NO_AK)
def test_what_is_no_attestation_key_is_refused(case: str) -> None:
    change, wanted = NO_AK[case]
    with pytest.raises(wanted) as caught:
        check_ak(encode(change(SoftwareKey.create(AK).public)))
    assert type(caught.value) is wanted


@pytest.mark.parametrize("case", NO_DEVICE_KEY)
def test_what_is_no_device_key_is_refused(case: str) -> None:
    change, wanted = NO_DEVICE_KEY[case]
    with pytest.raises(wanted) as caught:
        check_device_public(encode(change(SoftwareKey.create(BIRTH_KEY).public)))
    assert type(caught.value) is wanted


@pytest.mark.parametrize("judge", [check_ak, check_device_public])
@pytest.mark.parametrize("tail", [b"\x00", b"\xff" * 40])
def test_a_byte_after_the_public_area_is_refused(judge: Callable[[bytes], object], tail: bytes) -> None:
    with pytest.raises(TpmDecodeError, match="too many"):
        judge(SoftwareKey.create(AK).public.encode() + tail)


@pytest.mark.parametrize("alg", [ALG_RSASSA, ALG_RSAPSS])
def test_a_strong_rsa_ak_is_taken(alg: int) -> None:
    key = rsa.generate_private_key(65537, 2048).public_key()
    change = rsa_key(2048, alg=alg, modulus=key.public_numbers().n)
    assert check_ak(encode(change(SoftwareKey.create(AK).public))).key == key


def test_names_are_computed_here_with_the_key_s_own_hash() -> None:
    public = SoftwareKey.create(AK).public
    assert check_ak(public.encode()).name == public.name()
    assert replace(public, attributes=public.attributes ^ 1 << 10).name() != public.name()


def test_roca_is_found_in_what_the_broken_library_makes_and_nowhere_else() -> None:
    with pytest.raises(errors.RocaKey):
        check_device_key(rsa.RSAPublicNumbers(65537, ROCA).public_key(), "key")
    for _ in range(3):
        check_device_key(rsa.generate_private_key(65537, 2048).public_key(), "key")


def test_one_key_in_two_roles_is_refused() -> None:
    vendor = VendorCa.create()
    tpm = SoftwareTpm.create(vendor)
    assert isinstance(tpm.ek, ec.EllipticCurvePrivateKey)
    ek_as_ak = SoftwareKey(tpm.ek, parse_public(AK).with_key(tpm.ek.public_key()))
    ak_as_birth_key = SoftwareKey(tpm.ak.private, parse_public(BIRTH_KEY).with_key(tpm.ak.private.public_key()))
    for double in (replace(tpm, ak=ek_as_ak), replace(tpm, birth_key=ak_as_birth_key)):
        request = double.enroll_request(server_name=SERVER)
        endorsement = verify_endorsement(request, model=MODEL, roots=vendor.trust_store(), listed_ek=NO_EKS, now=NOW)
        with pytest.raises(errors.KeysNotDistinct):
            open_challenge(request, endorsement=endorsement, secret=bytes(32))


@pytest.mark.parametrize("proof", [AttestationKey, ProvenEndorsement, VerifiedDevice, VerifiedKey, VerifiedQuote])
def test_nobody_but_its_verifier_builds_a_proof(proof: Any) -> None:
    fields = dict.fromkeys(proof.__dataclass_fields__)
    with pytest.raises(TypeError, match="only"):
        proof(**fields)


def test_a_proof_can_not_be_changed_into_another() -> None:
    ak: Any = check_ak(SoftwareKey.create(AK).public.encode())
    with pytest.raises((TypeError, ValueError), match="seal"):
        replace(ak, name=b"other")
