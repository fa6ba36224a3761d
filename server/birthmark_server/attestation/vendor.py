"""What the operator says of one TPM vendor: the entry `vendor.toml` in the trust store's folder."""

import json
import re
import tomllib
from dataclasses import dataclass
from typing import Final, TypeVar

from birthmark_server.errors import Misconfigured

MANUFACTURER: Final = re.compile(r"id:[0-9A-F]{8}")
_FIRMWARE: Final = re.compile(r"\d{1,5}(\.\d{1,5}){3}")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FirmwareRange:
    """Firmware that is refused: low <= TPMS_ATTEST.firmwareVersion <= high. why: the advisory, as `CVE-2019-16863`."""

    low: int
    high: int
    why: str


@dataclass(frozen=True, slots=True)
class Vendor:
    """One vendor's entry.

    manufacturers: the TPM manufacturer ids that its roots may vouch for, as `id:49465800`; never empty.
    require_eku: an EK certificate without an extended key usage is refused (older ones have none). allow_sha1: links
    of the chain may be signed with SHA-1. enforce_ek_expiry: an EK certificate past its notAfter is refused.
    """

    name: str
    manufacturers: frozenset[str]
    require_eku: bool = False
    allow_sha1: bool = False
    enforce_ek_expiry: bool = False
    refused_firmware: tuple[FirmwareRange, ...] = ()

    def refusal_of(self, firmware_version: int) -> FirmwareRange | None:
        """Return the range that refuses this firmware, if one does."""
        return next((r for r in self.refused_firmware if r.low <= firmware_version <= r.high), None)


def parse_vendor(data: bytes, *, source: str) -> Vendor:
    """Read a `vendor.toml`; raise Misconfigured, naming `source`, for what is missing, unknown or of a wrong type."""
    try:
        table = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{source}: {error}") from None
    manufacturers = table.pop("manufacturers", None)
    if not isinstance(manufacturers, list) or not manufacturers:
        raise Misconfigured(f"{source}: want manufacturers, a list of TPM manufacturer ids")
    vendor = Vendor(
        name=_typed(table, "name", str, source),
        manufacturers=frozenset(manufacturer_id(item, source=source) for item in manufacturers),
        require_eku=_typed(table, "require_eku", bool, source),
        allow_sha1=_typed(table, "allow_sha1", bool, source),
        enforce_ek_expiry=_typed(table, "enforce_ek_expiry", bool, source),
        refused_firmware=tuple(_firmware_range(item, source) for item in table.pop("refused_firmware", [])),
    )
    if table:
        raise Misconfigured(f"{source}: unknown key {sorted(table)[0]!r}")
    return vendor


def manufacturer_id(value: object, *, source: str) -> str:
    """Return a TPM manufacturer id as the EK certificate spells it; raise Misconfigured if it is none."""
    if not isinstance(value, str) or not MANUFACTURER.fullmatch(value):
        raise Misconfigured(f"{source}: want a TPM manufacturer id such as 'id:49465800', got {value!r}")
    return value


def write_vendor(vendor: Vendor) -> bytes:
    """Return the `vendor.toml` of an entry, with what each key means."""
    manufacturers = ", ".join(f'"{item}"' for item in sorted(vendor.manufacturers))
    lines = [
        "# What the roots in this folder may vouch for (docs/attestation.md).",
        f"name = {json.dumps(vendor.name)}",  # a JSON string is a TOML basic string
        "# TPM manufacturer ids that an EK certificate under these roots may name (TCG Vendor ID Registry).",
        f"manufacturers = [{manufacturers}]",
        "# Refuse EK certificates without the extended key usage 2.23.133.8.1; older ones have none.",
        f"require_eku = {str(vendor.require_eku).lower()}",
        "# Allow SHA-1 signatures below the root.",
        f"allow_sha1 = {str(vendor.allow_sha1).lower()}",
        "# Refuse EK certificates past their notAfter; many devices outlive them.",
        f"enforce_ek_expiry = {str(vendor.enforce_ek_expiry).lower()}",
    ]
    for item in vendor.refused_firmware:
        lines += [
            "",
            "[[refused_firmware]]",
            f'from = "{write_firmware(item.low)}"',
            f'to = "{write_firmware(item.high)}"',
        ]
        lines += [f"why = {json.dumps(item.why)}"]
    return ("\n".join(lines) + "\n").encode()


def write_firmware(version: int) -> str:
    """Return a firmwareVersion as four 16-bit numbers: `7.85.4555.0`."""
    return ".".join(str(version >> shift & 0xFFFF) for shift in (48, 32, 16, 0))


def _firmware_range(item: object, source: str) -> FirmwareRange:
    if not isinstance(item, dict) or set(item) != {"from", "to", "why"}:
        raise Misconfigured(f"{source}: want from, to and why in each refused_firmware")
    low, high = (_read_firmware(item[key], source) for key in ("from", "to"))
    if low > high or not isinstance(item["why"], str):
        raise Misconfigured(f"{source}: want from <= to and a text in why, in each refused_firmware")
    return FirmwareRange(low, high, item["why"])


def _read_firmware(value: object, source: str) -> int:
    numbers = [int(part) for part in value.split(".")] if isinstance(value, str) and _FIRMWARE.fullmatch(value) else []
    if not numbers or max(numbers) > 0xFFFF:
        raise Misconfigured(f"{source}: want a firmware version such as '7.85.4555.0', got {value!r}")
    return int.from_bytes(b"".join(number.to_bytes(2, "big") for number in numbers), "big")


def _typed(table: dict[str, object], key: str, kind: type[_T], source: str) -> _T:
    value = table.pop(key, None)
    if not isinstance(value, kind):
        raise Misconfigured(f"{source}: want {key}, of type {kind.__name__}, got {value!r}")
    return value
