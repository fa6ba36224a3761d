"""The few lines of DER (X.690) that `cryptography` has no public function for."""

from datetime import datetime
from functools import lru_cache
from typing import Final

_UTC_TIME_ENDS: Final = 2050
"""From this year on a time is a GeneralizedTime (RFC 5280 §4.1.2.5)."""


def tlv(tag: int, *contents: bytes) -> bytes:
    """Return one element: identifier octet, length in its shortest form, contents."""
    content = b"".join(contents)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def sequence(*contents: bytes) -> bytes:
    """Return a SEQUENCE of elements that are DER already."""
    return tlv(0x30, *contents)


def bit_string(octets: bytes) -> bytes:
    """Return a BIT STRING without unused bits."""
    return tlv(0x03, b"\0", octets)


def octet_string(octets: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(0x04, octets)


def boolean(value: bool) -> bytes:
    """Return a BOOLEAN."""
    return b"\x01\x01\xff" if value else b"\x01\x01\x00"


def integer(value: int) -> bytes:
    """Return an INTEGER of zero or more."""
    return tlv(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def time(value: datetime) -> bytes:
    """Return a Time of RFC 5280: UTCTime until 2049, GeneralizedTime after. value: aware UTC, to the second."""
    if value.year < _UTC_TIME_ENDS:
        return tlv(0x17, value.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(0x18, value.strftime("%Y%m%d%H%M%SZ").encode())


@lru_cache(maxsize=64)  # a few dozen name everything in our certificates
def object_identifier(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray()
    for arc in (first * 40 + second, *rest):
        septets = [arc & 0x7F]
        while arc := arc >> 7:
            septets.append(0x80 | (arc & 0x7F))
        content += bytes(reversed(septets))
    return tlv(0x06, bytes(content))
