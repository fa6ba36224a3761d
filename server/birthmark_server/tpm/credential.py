"""MakeCredential: a secret that only the TPM with one endorsement key opens, and only for one attestation key.

The outer wrap (a seed) goes to the EK by RSA-OAEP or by one-pass ECDH; from the seed come the AES-CFB key and the HMAC
key that protect the secret, and the HMAC covers the AK's Name. Source: TPM 2.0 Library Part 1 §24 "Credential
Protection", §11.4.10 (KDFa, KDFe), annexes B.10.4 and C.6.4 (the labels "IDENTITY", "STORAGE", "INTEGRITY").
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

from birthmark_server.tpm.algorithms import HASHES
from birthmark_server.tpm.errors import UnsupportedKey
from birthmark_server.tpm.public import TpmPublic
from birthmark_server.tpm.wire import sized, u32

MIN_SECRET_BYTES: Final = 16
MAX_SECRET_BYTES: Final = 32

_IDENTITY: Final = b"IDENTITY\0"


@dataclass(frozen=True, slots=True)
class EncryptedCredential:
    """id_object: TPMS_ID_OBJECT (TPM2B integrity, encrypted identity). encrypted_secret: content of the
    TPM2B_ENCRYPTED_SECRET: RSA ciphertext, or a marshalled TPMS_ECC_POINT. Both without their 2-byte sizes."""

    id_object: bytes
    encrypted_secret: bytes


def make_credential(
    ek: TpmPublic, ak_name: bytes, secret: bytes, *, random: Callable[[int], bytes] = os.urandom
) -> EncryptedCredential:
    """Encrypt `secret` so that only the TPM holding `ek` recovers it, for the key named `ak_name`.

    ak_name: nameAlg (2 bytes) and digest, 34 bytes for SHA-256. secret: 16..32 bytes. random: source of the seed of an
    RSA EK; the ephemeral key for an ECC EK and the OAEP salt are always the operating system's.
    Raises UnsupportedKey if the EK has no AES-CFB cipher, or a key or hash that we do not accept.
    Does not prove that `ek` is genuine: see attestation.ek.
    """
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(f"want a secret of {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes, got {len(secret)}")
    algorithm = HASHES.get(ek.name_alg)
    if algorithm is None or ek.symmetric is None or ek.symmetric.key_bits not in (128, 256):
        raise UnsupportedKey("want an EK with AES-128 or AES-256 in CFB mode and a SHA-2 nameAlg")
    seed, encrypted_secret = _share_seed(ek, algorithm, random)
    return EncryptedCredential(
        protect(seed, ak_name, secret, algorithm=algorithm, aes_bits=ek.symmetric.key_bits), encrypted_secret
    )


def protect(seed: bytes, name: bytes, secret: bytes, *, algorithm: hashes.HashAlgorithm, aes_bits: int) -> bytes:
    """Return the TPMS_ID_OBJECT: TPM2B_DIGEST outer HMAC, then the encrypted TPM2B_DIGEST `secret`."""
    aes_key = kdfa(algorithm, seed, b"STORAGE\0", name, b"", aes_bits)
    # CFB with an IV of zero is the TPM's; the key is used once.
    encryptor = Cipher(algorithms.AES(aes_key), CFB(bytes(16))).encryptor()
    encrypted = encryptor.update(sized(secret)) + encryptor.finalize()
    hmac_key = kdfa(algorithm, seed, b"INTEGRITY\0", b"", b"", algorithm.digest_size * 8)
    return sized(_hmac(algorithm, hmac_key, encrypted + name)) + encrypted


def kdfa(
    algorithm: hashes.HashAlgorithm, key: bytes, label: bytes, context_u: bytes, context_v: bytes, bits: int
) -> bytes:
    """Return `bits` (a multiple of 8, at most one digest) of SP 800-108 counter mode with HMAC.

    label: with its terminating zero byte. Source: Part 1 §11.4.10.2.
    """
    if bits > algorithm.digest_size * 8:
        raise ValueError(f"want at most one digest, got {bits} bits")
    return _hmac(algorithm, key, u32(1) + label + context_u + context_v + u32(bits))[: bits // 8]


def kdfe(algorithm: hashes.HashAlgorithm, z: bytes, label: bytes, party_u: bytes, party_v: bytes, bits: int) -> bytes:
    """Return `bits` (a multiple of 8, at most one digest) of the SP 800-56A concatenation KDF.

    z, party_u, party_v: x coordinates, each as long as the curve's field. Source: Part 1 §11.4.10.3.
    """
    if bits > algorithm.digest_size * 8:
        raise ValueError(f"want at most one digest, got {bits} bits")
    digest = hashes.Hash(algorithm)
    digest.update(u32(1) + z + label + party_u + party_v)
    return digest.finalize()[: bits // 8]


def _share_seed(ek: TpmPublic, algorithm: hashes.HashAlgorithm, random: Callable[[int], bytes]) -> tuple[bytes, bytes]:
    key = ek.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        seed = random(algorithm.digest_size)
        return seed, key.encrypt(seed, padding.OAEP(padding.MGF1(algorithm), algorithm, _IDENTITY))
    ephemeral = ec.generate_private_key(key.curve)
    z = ephemeral.exchange(ec.ECDH(), key)
    width = (key.curve.key_size + 7) // 8
    ours, theirs = ephemeral.public_key().public_numbers(), key.public_numbers()
    x, y = ours.x.to_bytes(width, "big"), ours.y.to_bytes(width, "big")
    seed = kdfe(algorithm, z, _IDENTITY, x, theirs.x.to_bytes(width, "big"), algorithm.digest_size * 8)
    return seed, sized(x) + sized(y)


def _hmac(algorithm: hashes.HashAlgorithm, key: bytes, message: bytes) -> bytes:
    mac = hmac.HMAC(key, algorithm)
    mac.update(message)
    return mac.finalize()
