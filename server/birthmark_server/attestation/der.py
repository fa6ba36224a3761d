"""A reader for DER as TPM vendors write it.

Strict where it matters: definite lengths in their shortest form, no byte left over, no indefinite or high-tag forms.
Tolerant in one point: a SET need not be sorted, since genuine vendor certificates (Nuvoton) are not, and
`cryptography` refuses them. Elements keep their original bytes, so signatures and names are compared over what was
signed, never over something that we encoded again. Source: X.690 §8, §10.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NamedTuple

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
OBJECT_IDENTIFIER: Final = 0x06
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18
SEQUENCE: Final = 0x30
SET: Final = 0x31

_TEXT_ENCODINGS: Final = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}


class DerError(ValueError):
    """The bytes are not DER, or not the element that was wanted."""


class Element(NamedTuple):
    """One element. encoded: tag, length and value; value: the value alone."""

    tag: int
    value: bytes
    encoded: bytes


def read_first(data: bytes, offset: int = 0) -> tuple[Element, int]:
    """Return the element at `offset` and the offset behind it."""
    end = len(data)
    if end - offset < 2:
        raise DerError(f"want an element at offset {offset}, got {end - offset} bytes")
    tag, length, start = data[offset], data[offset + 1], offset + 2
    if tag & 0x1F == 0x1F:
        raise DerError(f"multi-byte tag at offset {offset}")
    if length >= 0x80:
        size = length & 0x7F
        if not 1 <= size <= 4 or end - start < size:
            raise DerError(f"want a length of 1 to 4 bytes at offset {offset}")
        length = int.from_bytes(data[start : start + size], "big")
        if length < 0x80 or length >> 8 * (size - 1) == 0:
            raise DerError(f"the length at offset {offset} is not in its shortest form")
        start += size
    stop = start + length
    if stop > end:
        raise DerError(f"want {length} bytes at offset {start}, got {end - start}")
    return Element(tag, data[start:stop], data[offset:stop]), stop


def read_one(data: bytes, tag: int) -> Element:
    """Return the one element that `data` is, of that tag."""
    element, stop = read_first(data)
    if stop != len(data):
        raise DerError(f"{len(data) - stop} bytes too many")
    if element.tag != tag:
        raise DerError(f"want tag {tag:#04x}, got {element.tag:#04x}")
    return element


def read_all(value: bytes) -> list[Element]:
    """Return the elements that `value` is made of."""
    elements, offset, end = [], 0, len(value)
    while offset < end:
        element, offset = read_first(value, offset)
        elements.append(element)
    return elements


def sequence(data: bytes) -> list[Element]:
    """Return the members of the one SEQUENCE that `data` is."""
    return read_all(read_one(data, SEQUENCE).value)


def value_of(element: Element, tag: int) -> bytes:
    """Return the element's value if it has that tag."""
    if element.tag != tag:
        raise DerError(f"want tag {tag:#04x}, got {element.tag:#04x}")
    return element.value


def members_of(element: Element, tag: int = SEQUENCE) -> list[Element]:
    """Return the members of a constructed element of that tag."""
    return read_all(value_of(element, tag))


def oid(element: Element) -> str:
    """Return an OBJECT IDENTIFIER in dotted form."""
    return _dotted(value_of(element, OBJECT_IDENTIFIER))


@lru_cache(maxsize=256)
def _dotted(value: bytes) -> str:
    if not value or value[-1] & 0x80:
        raise DerError("truncated OBJECT IDENTIFIER")
    arcs, arc = [], 0
    for byte in value:
        if arc == 0 and byte == 0x80:
            raise DerError("OBJECT IDENTIFIER with a padded arc")
        arc = arc << 7 | byte & 0x7F
        if not byte & 0x80:
            arcs.append(arc)
            arc = 0
    top = min(arcs[0] // 40, 2)
    return ".".join(map(str, (top, arcs[0] - 40 * top, *arcs[1:])))


def boolean(element: Element) -> bool:
    """Return a BOOLEAN."""
    value = value_of(element, BOOLEAN)
    if value not in (b"\x00", b"\xff"):
        raise DerError(f"want a BOOLEAN 00 or FF, got {value.hex()}")
    return value == b"\xff"


def integer(element: Element) -> int:
    """Return an INTEGER."""
    value = value_of(element, INTEGER)
    if not value:
        raise DerError("INTEGER without a value")
    return int.from_bytes(value, "big", signed=True)


def bits(element: Element) -> bytes:
    """Return the octets of a BIT STRING; its unused bits must be zero."""
    value = value_of(element, BIT_STRING)
    if not value or value[0] > 7 or (value[0] and (len(value) == 1 or value[-1] & (1 << value[0]) - 1)):
        raise DerError("BIT STRING with a wrong count of unused bits")
    return value[1:]


def text(element: Element) -> str:
    """Return a string of any of the types that a Name may hold."""
    encoding = _TEXT_ENCODINGS.get(element.tag)
    if encoding is None:
        raise DerError(f"want a string, got tag {element.tag:#04x}")
    try:
        return element.value.decode(encoding)
    except UnicodeDecodeError as error:
        raise DerError(f"string in a wrong encoding: {error}") from None


def time(element: Element) -> datetime:
    """Return a UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 has them: to the second, in UTC."""
    digits = element.value[:-1]
    if element.value[-1:] != b"Z" or not digits.isdigit():
        raise DerError("want a time in UTC, to the second")
    if element.tag == UTC_TIME and len(digits) == 12:
        digits = (b"20" if digits < b"50" else b"19") + digits
    elif element.tag != GENERALIZED_TIME or len(digits) != 14:
        raise DerError("want a UTCTime of 13 or a GeneralizedTime of 15 characters")
    fields = (int(digits[0:4]), *(int(digits[i : i + 2]) for i in range(4, 14, 2)))
    try:
        return datetime(*fields, tzinfo=UTC)  # type: ignore[arg-type,misc]  # six integers; the seventh has a default
    except ValueError as error:
        raise DerError(f"no such time: {error}") from None
