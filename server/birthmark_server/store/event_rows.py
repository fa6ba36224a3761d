"""Rows <-> domain values, of what happened: evidence and refusals. The rules are those of rows.py."""

from collections.abc import Sequence
from datetime import datetime

from birthmark_server.domain import Evidence, Refusal
from birthmark_server.store.rows import from_us, joined, split, to_us
from birthmark_server.store.statement import Row, Value


def evidence_values(evidence: Evidence, *, device_id: str, certificate_sha256: str, at: datetime) -> dict[str, Value]:
    return {
        "at_us": to_us(at),
        "kind": evidence.kind,
        "verifier_version": evidence.verifier_version,
        "roots_version": evidence.roots_version,
        "parts": pack_parts(evidence.parts),
        "device_id": device_id,
        "certificate_sha256": certificate_sha256,
    }


def evidence_from(row: Row) -> tuple[datetime, Evidence]:
    at, kind, verifier_version, roots_version, parts = row
    return from_us(at), Evidence(kind, verifier_version, roots_version, unpack_parts(parts))


def pack_parts(parts: Sequence[tuple[str, bytes]]) -> bytes:
    """Name and content of each part, each behind its length in four bytes (big-endian)."""
    pieces: list[bytes] = []
    for name, content in parts:
        label = name.encode()
        pieces += (len(label).to_bytes(4), label, len(content).to_bytes(4), content)
    return b"".join(pieces)


def unpack_parts(packed: bytes) -> tuple[tuple[str, bytes], ...]:
    """The inverse of pack_parts; raise ValueError for bytes that it did not make."""
    fields_: list[bytes] = []
    position = 0
    while position < len(packed):
        end = position + 4 + int.from_bytes(packed[position : position + 4])
        if position + 4 > len(packed) or end > len(packed):
            raise ValueError(f"evidence is cut off at byte {position} of {len(packed)}")
        fields_.append(packed[position + 4 : end])
        position = end
    if len(fields_) % 2:
        raise ValueError("evidence names a part and lacks its content")
    return tuple((fields_[i].decode(), fields_[i + 1]) for i in range(0, len(fields_), 2))


def refusal_values(refusal: Refusal) -> dict[str, Value]:
    """Text here may be a stranger's: what UTF-8 or PostgreSQL cannot hold is escaped, so that it is kept."""
    return {
        "at_us": to_us(refusal.at),
        "request_id": storable(refusal.request_id),
        "door": storable(refusal.door),
        "source": storable(refusal.source),
        "code": storable(refusal.code),
        "detail": storable(refusal.detail),
        "device_id": storable(refusal.device_id),
        "ek_sha256": storable(refusal.ek_sha256),
        "evidence": refusal.evidence,
        "other_ek_sha256": joined(refusal.other_ek_sha256),
    }


def refusal_from(row: Row) -> Refusal:
    at, request_id, door, source, code, detail, device_id, ek, evidence, others = row
    return Refusal(from_us(at), request_id, door, source, code, detail, device_id, ek, evidence, split(others))


def storable(text: str) -> str:
    """`text` with lone surrogates and NUL written as escapes."""
    return text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
