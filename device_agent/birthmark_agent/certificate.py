"""What the agent wants to know of its own certificates, read from their DER: whose, since when, until when.

`cryptography` would keep 9 MB resident for it. Nothing is proven here: a certificate is believed because its chain was
verified when it came (chain.py), and is judged by the peer at each handshake. Source: RFC 5280 §4.1.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from birthmark_agent.der import CONTEXT_0, INTEGER, SEQUENCE, SET, elements, exactly, inside, oid
from birthmark_wire.errors import DecodeError

CERTIFICATE: Final = re.compile(r"-----BEGIN CERTIFICATE-----\n.*?-----END CERTIFICATE-----\n", re.DOTALL)
"""One certificate in PEM, as `ssl.DER_cert_to_PEM_cert` writes it."""

_UTC_TIME: Final = 0x17
_GENERALIZED_TIME: Final = 0x18
_COMMON_NAME: Final = oid("2.5.4.3")
_STRINGS: Final = (0x0C, 0x13)  # UTF8String, PrintableString


@dataclass(frozen=True, slots=True)
class Reading:
    """What a certificate says of itself. serial_number: hex. common_names: in their order. spki: DER. Times in UTC."""

    serial_number: str
    not_before: datetime
    not_after: datetime
    common_names: tuple[str, ...]
    spki: bytes


def read_certificate(der: bytes) -> Reading:
    """Read a certificate of version 3, DER. Raise DecodeError."""
    to_be_signed, _algorithm, _signature = exactly(elements(inside(der, SEQUENCE)), 3)
    version, serial, _algorithm, _issuer, validity, subject, spki, *_ = _fields(to_be_signed)
    inside(version, CONTEXT_0)
    not_before, not_after = exactly(elements(inside(validity, SEQUENCE)), 2)
    return Reading(
        serial_number=f"{int.from_bytes(inside(serial, INTEGER), 'big'):x}",
        not_before=_time(not_before),
        not_after=_time(not_after),
        common_names=_common_names(subject),
        spki=spki,
    )


def _fields(to_be_signed: bytes) -> tuple[bytes, ...]:
    fields = tuple(elements(inside(to_be_signed, SEQUENCE)))
    if len(fields) < 7:
        raise DecodeError(f"want a certificate of version 3, got {len(fields)} fields")
    return fields


def _time(element: bytes) -> datetime:
    """Read a Time (RFC 5280 §4.1.2.5): UTCTime until 2049, GeneralizedTime from then on, both in seconds and Z."""
    tag = element[0]
    text = inside(element, _UTC_TIME if tag == _UTC_TIME else _GENERALIZED_TIME).decode("ascii", "replace")
    if tag == _UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    try:
        if len(text) != 15:
            raise ValueError
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise DecodeError(f"want a time as RFC 5280 has it, got {text[:40]!r}") from None


def _common_names(subject: bytes) -> tuple[str, ...]:
    found = []
    for relative in elements(inside(subject, SEQUENCE)):
        for attribute in elements(inside(relative, SET)):
            kind, value = exactly(elements(inside(attribute, SEQUENCE)), 2)
            if kind == _COMMON_NAME:
                found.append(_string(value))
    return tuple(found)


def _string(element: bytes) -> str:
    if element[0] not in _STRINGS:
        raise DecodeError(f"want a UTF8String or PrintableString, got tag 0x{element[0]:02x}")
    try:
        return inside(element, element[0]).decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("want UTF-8") from None
