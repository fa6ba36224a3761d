"""The time, signed: how a device without a clock learns it.

    TimeQuestion (a nonce) -> TimeAnswer (the time, who says so, and the signature over both and the nonce)

The signer's certificate comes with the answer and need not be the one of the TLS connection: a TLS front has a key of
its own (docs/adr/0065). The signature is ECDSA with SHA-256, DER, over `time_binding`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from birthmark_wire import PROTOCOL
from birthmark_wire.encoding import b64, read_json, write_json
from birthmark_wire.errors import DecodeError

TIME_LABEL: Final = b"birthmark time"
TIME_PATH: Final = "/v1/time"
NONCE_BYTES: Final = 32
MAX_SIGNER_CHAIN: Final = 4
MAX_SIGNATURE_BYTES: Final = 256

SERVER_PURPOSE: Final = "1.2.840.113556.1.8000.2554.54930.25185.41001.16636.36913.12256681.987429.1.1"
"""kp-server: the key purpose of enrollment servers' certificates, and of no others (docs/adr/0010)."""

_FORM: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class TimeQuestion:
    """What time is it? nonce: NONCE_BYTES, random, used once."""

    nonce: bytes

    def encode(self) -> bytes:
        """Return the JSON body."""
        return write_json({"nonce": b64(self.nonce)})

    @classmethod
    def decode(cls, data: bytes) -> "TimeQuestion":
        """Read the JSON body or raise DecodeError."""
        message = read_json(data)
        question = cls(message.octets("nonce", low=NONCE_BYTES, high=NONCE_BYTES))
        message.done()
        return question


@dataclass(frozen=True, slots=True)
class TimeAnswer:
    """at: whole seconds, UTC. chain: the signer's certificate, then its CAs without the root, DER."""

    at: datetime
    chain: tuple[bytes, ...]
    signature: bytes

    def encode(self) -> bytes:
        """Return the JSON body."""
        chain = [b64(certificate) for certificate in self.chain]
        return write_json({"time": write_time(self.at), "chain": chain, "signature": b64(self.signature)})

    @classmethod
    def decode(cls, data: bytes) -> "TimeAnswer":
        """Read the JSON body or raise DecodeError."""
        message = read_json(data)
        answer = cls(
            at=read_time(message.text("time")),
            chain=message.octets_list("chain", most=MAX_SIGNER_CHAIN),
            signature=message.octets("signature", high=MAX_SIGNATURE_BYTES),
        )
        message.done()
        if not answer.chain:
            raise DecodeError("want at least the signer's certificate", field="chain")
        return answer


def time_binding(*, nonce: bytes, signer_sha256: bytes, at: datetime) -> bytes:
    """Return the bytes that the server signs: each field after its length (4 bytes). signer_sha256: of its certificate,
    DER."""
    fields = (TIME_LABEL, PROTOCOL.encode(), nonce, signer_sha256, write_time(at).encode())
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
