"""The little DER (X.690) that the agent writes and reads itself.

Writing: what a PKCS #10 request with evidence needs, which `cryptography`'s builder can't carry (csr.py). Reading: the
certificates of a certs-only PKCS #7, and what certificate.py wants to know.
"""

from collections.abc import Iterator
from typing import Final

from birthmark_wire.errors import DecodeError

SEQUENCE: Final = 0x30
SET: Final = 0x31
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
PRINTABLE_STRING: Final = 0x13
CONTEXT_0: Final = 0xA0

_SIGNED_DATA: Final = "1.2.840.113549.1.7.2"


def tlv(tag: int, value: bytes) -> bytes:
    """Return tag, definite length in its shortest form, and value (X.690 §8.1.3, §10.1)."""
    size = len(value)
    if size < 0x80:
        return bytes((tag, size)) + value
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + value


def sequence(*parts: bytes) -> bytes:
    """Return a SEQUENCE of encoded parts."""
    return tlv(SEQUENCE, b"".join(parts))


def oid(dotted: str) -> bytes:
    """Return an OBJECT IDENTIFIER (X.690 §8.19)."""
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return tlv(OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (first * 40 + second, *rest)))


def certificates_in(pkcs7: bytes) -> tuple[bytes, ...]:
    """Return the certificates, DER, of a certs-only PKCS #7 (RFC 5652 §5.1, RFC 5272 §4.1). Raise DecodeError.

    Only what leads to them is read: a certs-only message is not signed, so nothing else in it means anything.
    """
    content_type, content = exactly(elements(inside(pkcs7, SEQUENCE)), 2)
    if content_type != oid(_SIGNED_DATA):
        raise DecodeError("want PKCS #7 signedData")
    signed_data = elements(inside(inside(content, CONTEXT_0), SEQUENCE))
    sets = [element for element in signed_data if element[0] == CONTEXT_0]
    if len(sets) != 1:
        raise DecodeError(f"want one set of certificates, got {len(sets)}")
    return tuple(elements(inside(sets[0], CONTEXT_0)))


def _base128(arc: int) -> bytes:
    septets = [arc & 0x7F]
    while arc := arc >> 7:
        septets.append(0x80 | arc & 0x7F)
    return bytes(reversed(septets))


def elements(data: bytes) -> Iterator[bytes]:
    """Split what is inside a constructed value into its elements, tag and length included. Raise DecodeError."""
    position = 0
    while position < len(data):
        size = _size(data, position)
        yield data[position : position + size]
        position += size


def inside(element: bytes, tag: int) -> bytes:
    """Return the inside of `element`, which must be all there is, and of that tag; else raise DecodeError."""
    if not element or element[0] != tag or _size(element, 0) != len(element):
        raise DecodeError(f"want one element of tag 0x{tag:02x}, got {element[:8].hex()}...")
    return element[_header(element, 0) :]


def exactly(parts: Iterator[bytes], count: int) -> tuple[bytes, ...]:
    """Return all of `parts`, which must be `count`; else raise DecodeError."""
    found = tuple(parts)
    if len(found) != count:
        raise DecodeError(f"want {count} elements, got {len(found)}")
    return found


def _header(data: bytes, position: int) -> int:
    return 2 + (data[position + 1] & 0x7F if data[position + 1] & 0x80 else 0)


def _size(data: bytes, position: int) -> int:
    """Return how long the element at `position` is, header included."""
    if position + 2 > len(data):
        raise DecodeError("the DER is cut short")
    first = data[position + 1]
    header = _header(data, position)
    if first == 0x80 or header > 6 or position + header > len(data):
        raise DecodeError("want definite lengths of at most four octets")
    size = int.from_bytes(data[position + 2 : position + header], "big") if first & 0x80 else first
    if position + header + size > len(data):
        raise DecodeError("the DER is cut short")
    return header + size
