"""TPM and TSS response codes into the agent's errors.

Sources: TPM 2.0 Library Part 2 §6.6 (TPM_RC); TSS 2.0 Overview and Common Structures §4 (the layer in bits 16-23).
A resource manager answers with TPM codes under a layer of its own, so the TPM's part is looked at for both.
"""

from typing import Final

from birthmark_agent.errors import (
    HierarchyOwned,
    KeyNotOfThisTpm,
    TpmBusy,
    TpmError,
    TpmFull,
    TpmLockout,
    TpmUnavailable,
)

RC_HANDLE: Final = 0x08B
RC_NV_DEFINED: Final = 0x14C
RC_NV_UNINITIALIZED: Final = 0x14A

_LAYER_TPM: Final = 0
_LAYER_TCTI: Final = 10
_LAYER_RESOURCE_MANAGER_TPM: Final = 11
_FORMAT_ONE: Final = 0x080

_BY_CODE: Final[dict[int, type[TpmError]]] = {
    0x08E: HierarchyOwned,  # TPM_RC_AUTH_FAIL
    0x0A2: HierarchyOwned,  # TPM_RC_BAD_AUTH
    0x100: TpmUnavailable,  # TPM_RC_INITIALIZE: nobody sent TPM2_Startup
    0x101: TpmUnavailable,  # TPM_RC_FAILURE: failure mode, until it is reset
    0x130: TpmUnavailable,  # TPM_RC_REBOOT
    0x14B: TpmFull,  # TPM_RC_NV_SPACE
    0x902: TpmFull,  # TPM_RC_OBJECT_MEMORY
    0x903: TpmFull,  # TPM_RC_SESSION_MEMORY
    0x904: TpmFull,  # TPM_RC_MEMORY
    0x905: TpmFull,  # TPM_RC_SESSION_HANDLES
    0x906: TpmFull,  # TPM_RC_OBJECT_HANDLES
    0x908: TpmBusy,  # TPM_RC_YIELDED
    0x90A: TpmBusy,  # TPM_RC_TESTING
    0x920: TpmBusy,  # TPM_RC_NV_RATE
    0x921: TpmLockout,  # TPM_RC_LOCKOUT
    0x922: TpmBusy,  # TPM_RC_RETRY
    0x923: TpmBusy,  # TPM_RC_NV_UNAVAILABLE
}


def tpm_code(rc: int) -> int:
    """Return the TPM's own code without the handle, parameter or session that it complains of; 0 if not a TPM's."""
    if (rc >> 16) & 0xFF not in (_LAYER_TPM, _LAYER_RESOURCE_MANAGER_TPM):
        return 0
    return _FORMAT_ONE | rc & 0x3F if rc & _FORMAT_ONE else rc & 0xFFF


def to_error(command: str, rc: int, text: str) -> TpmError:
    """Return the exception for a response code. command: as `TPM2_Load`; text: the TSS's own words for the code."""
    message = f"{command}: {text} (0x{rc:x})"
    if (rc >> 16) & 0xFF == _LAYER_TCTI:
        return TpmUnavailable(message, rc=rc)
    code = tpm_code(rc)
    kind = _BY_CODE.get(code)
    if kind is None and command == "TPM2_Load" and code & _FORMAT_ONE:
        kind = KeyNotOfThisTpm  # integrity, size, type, binding: whatever is wrong, it is the blob
    return (kind or TpmError)(message, rc=rc)
