"""The few lines of DER (X.690) that `cryptography` has no public function for."""

from datetime import datetime
from functools import lru_cache
from typing import Final

_UTC_TIME_ENDS: Final = 2050
"""From this year on a time is a GeneralizedTime (RFC 5280 §4.1.2.5)."""


def tlv(tag: int, *contents: bytes) -> bytes:
    """Return one element: identifier octet, length in its shortest form, contents."""
    return b"".join((header(tag, sum(map(len, contents))), *contents))


def sequence(*contents: bytes) -> bytes:
    """Return a SEQUENCE of elements that are DER already."""
    return tlv(0x30, *contents)


def bit_string(octets: bytes) -> bytes:
    """Return a BIT STRING without unused bits."""
    return tlv(0x03, b"\0", octets)


def octet_string(octets: bytes) -> bytes:
    """Return an OCTET STRING."""
    return tlv(0x04, octets)


def header(tag: int, size: int) -> bytes:
    """Return identifier octet and length, in its shortest form, of an element whose contents have `size` octets."""
    if size < 0x80:
        return bytes((tag, size))
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length


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
    return generalized_time(value)


def generalized_time(value: datetime) -> bytes:
    """Return a GeneralizedTime to the second, as OCSP has all its times. value: aware UTC."""
    return tlv(0x18, value.strftime("%Y%m%d%H%M%SZ").encode())


def extension(oid: str, value: bytes, *, critical: bool = False) -> bytes:
    """Return one Extension (RFC 5280 §4.1); `critical` is left out where it is FALSE, as DER wants a default."""
    return sequence(object_identifier(oid), boolean(True) if critical else b"", octet_string(value))


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
