"""The time, signed: how a device without a clock learns it.

The device sends a nonce; the server answers with its time and an ECDSA-SHA256 signature, by the key of the certificate
that it showed in that very TLS connection, over `time_binding`. A recorded answer is worth nothing: the nonce is new.
"""

from datetime import UTC, datetime
from typing import Final

from birthmark_wire import PROTOCOL
from birthmark_wire.errors import DecodeError

TIME_LABEL: Final = b"birthmark time"
TIME_PATH: Final = "/v1/time"
NONCE_BYTES: Final = 32
_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


def time_binding(*, nonce: bytes, at: str) -> bytes:
    """Return the bytes that the server signs: label, version, nonce and time, each after its length (4 bytes)."""
    fields = (TIME_LABEL, PROTOCOL.encode(), nonce, at.encode())
    return b"".join(len(field).to_bytes(4, "big") + field for field in fields)


def write_time(at: datetime) -> str:
    """Return a moment as it travels: RFC 3339, UTC, whole seconds."""
    return f"{at.astimezone(UTC):{_FORM}}"


def read_time(text: str, *, field: str = "time") -> datetime:
    """Read what write_time() wrote, and nothing else; raise DecodeError."""
    try:
        at = datetime.strptime(text, _FORM).replace(tzinfo=UTC)
    except ValueError:
        raise DecodeError(f"want a time as 2026-01-31T12:00:00Z, got {text[:80]!r}", field=field) from None
    if write_time(at) != text:
        raise DecodeError(f"want a time as 2026-01-31T12:00:00Z, got {text[:80]!r}", field=field)
    return at
