"""TPMS_ATTEST: what a TPM states about a key (certify) or about its PCRs (quote).

A statement proves nothing until its signature is checked with a key that signs only what the TPM made itself:
attestation/ak.py. Source: TPM 2.0 Library Part 2 §10.12.
"""

from dataclasses import dataclass
from typing import Final

from birthmark_server.tpm.errors import NotTpmGenerated, TpmDecodeError
from birthmark_server.tpm.wire import Reader, sized, u16, u32

TPM_GENERATED: Final = 0xFF544347
ST_ATTEST_CERTIFY: Final = 0x8017
ST_ATTEST_QUOTE: Final = 0x8018

_MAX_NAME_BYTES: Final = 66
_MAX_EXTRA_BYTES: Final = 66
_MAX_DIGEST_BYTES: Final = 64
_MAX_PCR_BANKS: Final = 16
_PCR_SELECT_BYTES: Final = range(1, 33)


@dataclass(frozen=True, slots=True)
class Clock:
    """TPMS_CLOCK_INFO. clock_ms: powered time since the last TPM2_Clear; safe: no value was ever reported before."""

    clock_ms: int
    reset_count: int
    restart_count: int
    safe: int


@dataclass(frozen=True, slots=True)
class CertifyInfo:
    """TPMS_CERTIFY_INFO: the Name and Qualified Name of the certified object."""

    name: bytes
    qualified_name: bytes


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """TPMS_PCR_SELECTION: one bank and a bit for each PCR, least significant bit of the first byte for PCR 0."""

    hash_alg: int
    bitmap: bytes

    def pcrs(self) -> tuple[int, ...]:
        """Return the selected PCR numbers, rising."""
        bits = int.from_bytes(self.bitmap, "little")
        return tuple(pcr for pcr in range(8 * len(self.bitmap)) if bits >> pcr & 1)


@dataclass(frozen=True, slots=True)
class QuoteInfo:
    """TPMS_QUOTE_INFO: which PCRs, and the digest over their values by the signing scheme's hash."""

    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class Attest:
    """One TPMS_ATTEST of type certify or quote.

    qualified_signer: Qualified Name of the key that signed. extra_data: the caller's qualifyingData. firmware_version:
    the vendor's 64 bits, blinded by the TPM if the key that signed is outside the endorsement and platform hierarchies.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    firmware_version: int
    attested: CertifyInfo | QuoteInfo

    def encode(self) -> bytes:
        """Return the marshalled TPMS_ATTEST: exactly what `parse_attest` reads."""
        kind = ST_ATTEST_CERTIFY if isinstance(self.attested, CertifyInfo) else ST_ATTEST_QUOTE
        clock = self.clock
        return (
            u32(TPM_GENERATED)
            + u16(kind)
            + sized(self.qualified_signer)
            + sized(self.extra_data)
            + clock.clock_ms.to_bytes(8, "big")
            + u32(clock.reset_count)
            + u32(clock.restart_count)
            + bytes((clock.safe,))
            + self.firmware_version.to_bytes(8, "big")
            + _write_attested(self.attested)
        )


def parse_attest(data: bytes) -> Attest:
    """Read a TPMS_ATTEST of type certify or quote, every byte of it.

    Raises NotTpmGenerated if it does not begin with TPM_GENERATED_VALUE, TpmDecodeError if it is anything else.
    """
    reader = Reader(data, "TPMS_ATTEST")
    magic = reader.u32()
    if magic != TPM_GENERATED:
        raise NotTpmGenerated(f"TPMS_ATTEST: want magic {TPM_GENERATED:#010x}, got {magic:#010x}")
    kind = reader.u16()
    signer, extra = reader.sized(high=_MAX_NAME_BYTES), reader.sized(high=_MAX_EXTRA_BYTES)
    clock = Clock(reader.u64(), reader.u32(), reader.u32(), _read_bool(reader))
    firmware_version = reader.u64()
    attested: CertifyInfo | QuoteInfo
    if kind == ST_ATTEST_CERTIFY:
        attested = CertifyInfo(reader.sized(high=_MAX_NAME_BYTES), reader.sized(high=_MAX_NAME_BYTES))
    elif kind == ST_ATTEST_QUOTE:
        attested = QuoteInfo(_read_selections(reader), reader.sized(high=_MAX_DIGEST_BYTES))
    else:
        raise TpmDecodeError(f"TPMS_ATTEST: want type certify (0x8017) or quote (0x8018), got {kind:#06x}")
    reader.done()
    return Attest(signer, extra, clock, firmware_version, attested)


def _read_bool(reader: Reader) -> int:
    value = reader.u8()
    if value > 1:
        raise TpmDecodeError(f"TPMS_ATTEST: want TPMI_YES_NO 0 or 1, got {value}")
    return value


def _read_selections(reader: Reader) -> tuple[PcrSelection, ...]:
    count = reader.u32()
    if count > _MAX_PCR_BANKS:
        raise TpmDecodeError(f"TPMS_ATTEST: want at most {_MAX_PCR_BANKS} PCR banks, got {count}")
    return tuple(_read_selection(reader) for _ in range(count))


def _read_selection(reader: Reader) -> PcrSelection:
    hash_alg, size = reader.u16(), reader.u8()
    if size not in _PCR_SELECT_BYTES:
        raise TpmDecodeError(f"TPMS_ATTEST: want a PCR bitmap of 1 to 32 bytes, got {size}")
    return PcrSelection(hash_alg, reader.take(size))


def _write_attested(attested: CertifyInfo | QuoteInfo) -> bytes:
    if isinstance(attested, CertifyInfo):
        return sized(attested.name) + sized(attested.qualified_name)
    selections = (u16(bank.hash_alg) + bytes((len(bank.bitmap),)) + bank.bitmap for bank in attested.selections)
    return u32(len(attested.selections)) + b"".join(selections) + sized(attested.pcr_digest)
