"""MakeCredential, by its inverse, and the key derivations by their definitions."""

import hashlib
import hmac
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes

from birthmark_server.tpm.algorithms import ALG_SHA1
from birthmark_server.tpm.credential import kdfa, kdfe, make_credential
from birthmark_server.tpm.errors import UnsupportedKey
from birthmark_server.tpm.public import Symmetric, parse_public
from birthmark_wire.tpm_templates import EK_TEMPLATES
from support.software_tpm import SoftwareKey, SoftwareTpm
from support.tpm_vendor import VendorCa

VENDOR = VendorCa.create()
NAME_BYTES = 34
SIZES = {"rsa2048": (2 + 32 + 2 + 32, 256), "p256": (2 + 32 + 2 + 32, 68), "p384": (2 + 48 + 2 + 32, 100)}


@pytest.mark.parametrize("ek", EK_TEMPLATES)
def test_only_the_ek_and_only_for_the_ak_opens_a_credential(ek: str) -> None:
    tpm = SoftwareTpm.create(VENDOR, ek=ek)
    secret = bytes(range(32))
    made = make_credential(tpm.ek_public, tpm.ak.public.name(), secret)
    assert (len(made.id_object), len(made.encrypted_secret)) == SIZES[ek]
    assert tpm.activate(made.id_object, made.encrypted_secret) == secret
    with pytest.raises(ValueError, match="INTEGRITY"):
        tpm.reset().activate(made.id_object, made.encrypted_secret)
    for offset in range(2, len(made.id_object), 7):
        damaged = bytearray(made.id_object)
        damaged[offset] ^= 1
        with pytest.raises(ValueError, match="INTEGRITY"):
            tpm.activate(bytes(damaged), made.encrypted_secret)


@pytest.mark.parametrize("length", [0, 15, 33])
def test_a_secret_is_16_to_32_bytes(length: int) -> None:
    tpm = SoftwareTpm.create(VENDOR)
    with pytest.raises(ValueError, match="16 to 32"):
        make_credential(tpm.ek_public, tpm.ak.public.name(), bytes(length))


def test_an_ek_without_the_cipher_or_hash_that_we_know_is_refused() -> None:
    ek = SoftwareTpm.create(VENDOR).ek_public
    for odd in (replace(ek, symmetric=None), replace(ek, symmetric=Symmetric(192)), replace(ek, name_alg=ALG_SHA1)):
        with pytest.raises(UnsupportedKey):
            make_credential(odd, bytes(NAME_BYTES), bytes(32))


def test_the_seed_of_an_rsa_ek_comes_from_the_given_source() -> None:
    tpm = SoftwareTpm.create(VENDOR, ek="rsa2048")
    one, two = (
        make_credential(tpm.ek_public, tpm.ak.public.name(), bytes(32), random=lambda size: b"s" * size)
        for _ in range(2)
    )
    assert one.id_object == two.id_object
    assert one.encrypted_secret != two.encrypted_secret


def test_kdfa_is_sp800_108_in_counter_mode() -> None:
    message = b"\0\0\0\x01STORAGE\0" + b"u" + b"v" + b"\0\0\0\x80"
    assert kdfa(hashes.SHA256(), b"k", b"STORAGE\0", b"u", b"v", 128) == hmac.digest(b"k", message, "sha256")[:16]


def test_kdfe_is_the_concatenation_kdf_of_sp800_56a() -> None:
    digest = hashlib.sha384(b"\0\0\0\x01" + b"z" + b"IDENTITY\0" + b"u" + b"v").digest()
    assert kdfe(hashes.SHA384(), b"z", b"IDENTITY\0", b"u", b"v", 384) == digest


def test_no_more_than_one_digest_is_derived() -> None:
    with pytest.raises(ValueError, match="one digest"):
        kdfa(hashes.SHA256(), b"k", b"STORAGE\0", b"", b"", 264)
    with pytest.raises(ValueError, match="one digest"):
        kdfe(hashes.SHA256(), b"z", b"IDENTITY\0", b"", b"", 264)


def test_software_keys_are_made_of_their_templates() -> None:
    for template in EK_TEMPLATES.values():
        assert parse_public(template).encode() == template
    key = SoftwareKey.create(EK_TEMPLATES["p256"])
    assert key.public.spki() == key.spki
