"""How the TPM is: who made it, what is left of it, whether it is in lockout."""

from dataclasses import dataclass
from typing import Final

from birthmark_agent.tpm.esapi import Esapi

# TPM_PT (TPM 2.0 Library Part 2 §6.13)
_FIXED: Final = 0x100
_VARIABLE: Final = 0x200
_REVISION: Final = 0x102
_MANUFACTURER: Final = 0x105
_VENDOR_STRING: Final = range(0x106, 0x10A)
_FIRMWARE: Final = (0x10B, 0x10C)
_PERMANENT: Final = 0x200
_LOADED_AVAILABLE: Final = 0x204
_TRANSIENT_AVAILABLE: Final = 0x207
_PERSISTENT_AVAILABLE: Final = 0x209
_LOCKOUT_COUNTER: Final = 0x20E
_MAX_AUTH_FAIL: Final = 0x20F
_LOCKOUT_INTERVAL: Final = 0x210
_LOCKOUT_RECOVERY: Final = 0x211

# TPMA_PERMANENT (Part 2 §8.6)
_OWNER_AUTH_SET: Final = 1 << 0
_ENDORSEMENT_AUTH_SET: Final = 1 << 1
_IN_LOCKOUT: Final = 1 << 9


@dataclass(frozen=True, slots=True)
class Lockout:
    """Dictionary-attack protection. interval_s: after so long one failure is forgiven; recovery_s: and the lockout."""

    active: bool
    failures: int
    most_failures: int
    interval_s: int
    recovery_s: int


@dataclass(frozen=True, slots=True)
class TpmHealth:
    """manufacturer: as `IBM`, `IFX`; vendor: its own string. firmware: as `8217.4131`. *_free: slots left."""

    manufacturer: str
    vendor: str
    firmware: str
    revision: str
    owner_password: bool
    endorsement_password: bool
    transient_free: int
    sessions_free: int
    persistent_free: int
    lockout: Lockout


def read_health(esapi: Esapi) -> TpmHealth:
    """Ask the TPM; changes nothing, and works in lockout."""
    fixed, variable = esapi.properties(_FIXED, 64), esapi.properties(_VARIABLE, 64)
    firmware = tuple(fixed.get(part, 0) for part in _FIRMWARE)
    permanent = variable.get(_PERMANENT, 0)
    revision = fixed.get(_REVISION, 0)
    return TpmHealth(
        manufacturer=_text(fixed.get(_MANUFACTURER, 0)).strip(),
        vendor=" ".join("".join(_text(fixed.get(part, 0)) for part in _VENDOR_STRING).split()),
        firmware=".".join(str(half) for part in firmware for half in (part >> 16, part & 0xFFFF)),
        revision=f"{revision // 100}.{revision % 100:02}",
        owner_password=bool(permanent & _OWNER_AUTH_SET),
        endorsement_password=bool(permanent & _ENDORSEMENT_AUTH_SET),
        transient_free=variable.get(_TRANSIENT_AVAILABLE, 0),
        sessions_free=variable.get(_LOADED_AVAILABLE, 0),
        persistent_free=variable.get(_PERSISTENT_AVAILABLE, 0),
        lockout=Lockout(
            active=bool(permanent & _IN_LOCKOUT),
            failures=variable.get(_LOCKOUT_COUNTER, 0),
            most_failures=variable.get(_MAX_AUTH_FAIL, 0),
            interval_s=variable.get(_LOCKOUT_INTERVAL, 0),
            recovery_s=variable.get(_LOCKOUT_RECOVERY, 0),
        ),
    )


def _text(value: int) -> str:
    """Read four characters; vendors pad with NUL or blank."""
    return value.to_bytes(4, "big").decode("ascii", "replace").replace("\0", "")
