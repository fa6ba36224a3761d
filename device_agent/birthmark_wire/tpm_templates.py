"""The fixed templates from which a device's TPM makes its keys, as marshalled TPMT_PUBLIC.

A primary made from a fixed template in the endorsement hierarchy is the same key every time, on the same TPM, after a
reflash and after TPM2_Clear alike. So a template is part of the contract: one bit changed is another key.

Sources: TPM 2.0 Library Part 2 §12.2.4 (TPMT_PUBLIC); TCG EK Credential Profile 2.5 annex B (EK templates L-1, L-2,
H-3); TCG TPM 2.0 Keys for Device Identity and Attestation §7.3 (the `unique` labels "IAK" and "IDEVID"). Unlike the
latter's, our keys are used by an empty authorization instead of a policy, and set noDA: a device must come up by itself
even while its TPM is in lockout.
"""

import struct
from typing import Final

ALG_RSA: Final = 0x0001
ALG_AES: Final = 0x0006
ALG_SHA256: Final = 0x000B
ALG_SHA384: Final = 0x000C
ALG_NULL: Final = 0x0010
ALG_ECDSA: Final = 0x0018
ALG_ECC: Final = 0x0023
ALG_CFB: Final = 0x0043
CURVE_P256: Final = 0x0003
CURVE_P384: Final = 0x0004

FIXED_TPM: Final = 1 << 1
FIXED_PARENT: Final = 1 << 4
SENSITIVE_DATA_ORIGIN: Final = 1 << 5
USER_WITH_AUTH: Final = 1 << 6
ADMIN_WITH_POLICY: Final = 1 << 7
NO_DA: Final = 1 << 10
RESTRICTED: Final = 1 << 16
DECRYPT: Final = 1 << 17
SIGN: Final = 1 << 18

_BORN_HERE = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN
_OURS = _BORN_HERE | USER_WITH_AUTH | NO_DA

# PolicySecret(TPM_RH_ENDORSEMENT) (EK Credential Profile, PolicyA_SHA256), and PolicyB_SHA384 of the high range.
_POLICY_A_SHA256 = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
_POLICY_B_SHA384 = bytes.fromhex(
    "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12"
)


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def _symmetric(key_bits: int) -> bytes:
    return struct.pack(">HHH", ALG_AES, key_bits, ALG_CFB) if key_bits else struct.pack(">H", ALG_NULL)


def _ecc(
    *,
    attributes: int,
    curve: int,
    name_alg: int,
    policy: bytes = b"",
    aes_bits: int = 0,
    ecdsa_hash: int = 0,
    unique: tuple[bytes, bytes] = (b"", b""),
) -> bytes:
    scheme = struct.pack(">HH", ALG_ECDSA, ecdsa_hash) if ecdsa_hash else struct.pack(">H", ALG_NULL)
    return (
        struct.pack(">HHI", ALG_ECC, name_alg, attributes)
        + _sized(policy)
        + _symmetric(aes_bits)
        + scheme
        + struct.pack(">HH", curve, ALG_NULL)
        + _sized(unique[0])
        + _sized(unique[1])
    )


EK_RSA2048: Final = (
    struct.pack(">HHI", ALG_RSA, ALG_SHA256, _BORN_HERE | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT)
    + _sized(_POLICY_A_SHA256)
    + _symmetric(128)
    + struct.pack(">HHI", ALG_NULL, 2048, 0)
    + _sized(bytes(256))
)
"""EK template L-1: RSA 2048, AES-128-CFB, SHA-256."""

EK_P256: Final = _ecc(
    attributes=_BORN_HERE | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT,
    curve=CURVE_P256,
    name_alg=ALG_SHA256,
    policy=_POLICY_A_SHA256,
    aes_bits=128,
    unique=(bytes(32), bytes(32)),
)
"""EK template L-2: P-256, AES-128-CFB, SHA-256."""

EK_P384: Final = _ecc(
    attributes=_BORN_HERE | USER_WITH_AUTH | ADMIN_WITH_POLICY | RESTRICTED | DECRYPT,
    curve=CURVE_P384,
    name_alg=ALG_SHA384,
    policy=_POLICY_B_SHA384,
    aes_bits=256,
)
"""EK template H-3: P-384, AES-256-CFB, SHA-384."""

EK_TEMPLATES: Final = {"rsa2048": EK_RSA2048, "p256": EK_P256, "p384": EK_P384}

EK_CERTIFICATE_NV: Final = {"rsa2048": 0x01C00002, "p256": 0x01C0000A, "p384": 0x01C00016}
"""NV index of each template's EK certificate (EK Credential Profile §2.2.1.4 and annex B)."""

EK_CHAIN_NV: Final = range(0x01C00100, 0x01C00200)
"""NV indices where a TPM with an on-die CA keeps its intermediate certificates."""

AK: Final = _ecc(
    attributes=_OURS | RESTRICTED | SIGN,
    curve=CURVE_P256,
    name_alg=ALG_SHA256,
    ecdsa_hash=ALG_SHA256,
    unique=(b"IAK", b""),
)
"""Attestation key: a primary of the endorsement hierarchy; signs only what the TPM itself made."""

BIRTH_KEY: Final = _ecc(attributes=_OURS | SIGN, curve=CURVE_P256, name_alg=ALG_SHA256, unique=(b"IDEVID", b""))
"""Birth key: a primary of the endorsement hierarchy; the key of the IDevID."""

STORAGE_KEY: Final = _ecc(
    attributes=_OURS | RESTRICTED | DECRYPT,
    curve=CURVE_P256,
    name_alg=ALG_SHA256,
    aes_bits=128,
    unique=(bytes(32), bytes(32)),
)
"""Storage root key: a primary of the owner hierarchy (TCG TPM v2.0 Provisioning Guidance §7.5.1), persisted at
STORAGE_KEY_HANDLE."""

STORAGE_KEY_HANDLE: Final = 0x81000001

OPERATIONAL_KEY: Final = _ecc(attributes=_OURS | SIGN, curve=CURVE_P256, name_alg=ALG_SHA256)
"""Operational key: made under the storage root key, a new one at each rotation; the key of the LDevID."""
