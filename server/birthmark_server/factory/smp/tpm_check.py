"""Is a board's TPM one that can be worked with? Asked before any program that would say it in a hundred lines."""

import struct
from typing import Final

from birthmark_server.factory.smp.errors import TpmFailed, TpmLockedOut
from birthmark_server.factory.smp.group import TPM_HEADER, Enrollment

# TPM 2.0 Library Part 3 §30.2 (TPM2_GetCapability), Part 2 §6.13 (TPM_PT) and §8.6 (TPMA_PERMANENT).
_GET_PERMANENT: Final = bytes.fromhex("8001000000160000017a000000060000020000000001")
_ANSWER: Final = struct.Struct(">BIIII")
_PROPERTIES: Final = 6
_PERMANENT: Final = 0x200
_IN_LOCKOUT: Final = 1 << 9

GET_RANDOM: Final = bytes.fromhex("80010000000c0000017b0001")
"""One byte: the least that a TPM can be asked for."""


def check_tpm(enrollment: Enrollment) -> None:
    """Return if the TPM answers, and answers as one; raise TpmFailed or TpmLockedOut."""
    response = enrollment.tpm(_GET_PERMANENT)
    _tag, _size, code = TPM_HEADER.unpack_from(response)
    if code != 0:
        raise TpmFailed(f"the TPM answers TPM2_GetCapability with the error {code:#x}")
    if len(response) != TPM_HEADER.size + _ANSWER.size:
        raise TpmFailed(f"the TPM answers TPM2_GetCapability with {len(response)} bytes, want 27")
    _more, capability, count, name, value = _ANSWER.unpack_from(response, TPM_HEADER.size)
    if (capability, count, name) != (_PROPERTIES, 1, _PERMANENT):
        raise TpmFailed(f"the TPM answers TPM2_GetCapability with what was not asked: {response.hex()}")
    if value & _IN_LOCKOUT:
        raise TpmLockedOut("the TPM is in dictionary-attack lockout, on a board that nobody has used yet")
