"""TPM_ALG_ID and TPM_ECC_CURVE values beyond those of our templates, and what `cryptography` calls them.

Only what may stand in a key that we would accept has an entry in the tables: a hash or curve that is missing there is
refused by whoever looks it up. Source: TCG Algorithm Registry; TPM 2.0 Library Part 2 §6.3, §6.4, §7.4.
"""

from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_wire.tpm_templates import ALG_SHA256, ALG_SHA384, CURVE_P256, CURVE_P384

ALG_SHA1: Final = 0x0004
ALG_SHA512: Final = 0x000D
ALG_RSASSA: Final = 0x0014
ALG_RSAES: Final = 0x0015
ALG_RSAPSS: Final = 0x0016
ALG_OAEP: Final = 0x0017
ALG_ECDAA: Final = 0x001A
ALG_ECDH: Final = 0x0019
ALG_SM2: Final = 0x001B
ALG_ECSCHNORR: Final = 0x001C
ALG_ECMQV: Final = 0x001D

RH_ENDORSEMENT: Final = 0x4000000B
"""Handle of the endorsement hierarchy, which is also its Qualified Name."""

HASHES: Final[dict[int, hashes.HashAlgorithm]] = {
    ALG_SHA256: hashes.SHA256(),
    ALG_SHA384: hashes.SHA384(),
    ALG_SHA512: hashes.SHA512(),
}
"""The hashes that we accept, in a Name or under a signature. SHA-1 is not among them."""

CURVES: Final[dict[int, ec.EllipticCurve]] = {CURVE_P256: ec.SECP256R1(), CURVE_P384: ec.SECP384R1()}
"""The curves that we accept."""
