"""Serial numbers of a work order: from a place to its serial number and back. Pure.

    SN-{:06}-{c}@1000     place 0 is SN-001000-U, place 1 is SN-001001-S, ...

`{:06}` stands for the number, in so many digits; `{c}`, behind it, for a check character; `@1000` for the number of
place 0 (without it 0). The rest stands for itself: capital letters, digits and ` .:/+-`, but for what would make paths
or options where a serial number becomes a file's name or a command's word. The check character is that of ISO/IEC 7064,
MOD 37,36, over the other letters and digits in their order: one of 0-9 and A-Z, and wrong whenever one character was
misread. A pattern without `{c}` has none.
"""

import re
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from birthmark_server.errors import Malformed, Refused
from birthmark_server.factory.errors import FactoryError
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_TEXT: Final = r"[A-Z0-9 .:/+-]*"
_PATTERN: Final = re.compile(
    rf"(?P<head>{_TEXT})\{{:0(?P<digits>[1-9][0-9]?)\}}(?P<middle>{_TEXT})(?P<check>\{{c\}})?(?P<tail>{_TEXT})"
    r"(@(?P<first>0|[1-9][0-9]{0,15}))?",
    re.ASCII,
)
MOST_DIGITS: Final = 15
_ODD: Final = ("..", "//", "/.", " -", "  ")


class BadSerialPattern(FactoryError, Malformed):
    """The pattern of a serial pool can't be read."""

    code = "bad-serial-pattern"
    next_step: ClassVar[str] = "Write it as SN-{:06}-{c}: {:06} is the number, {c} its check character."


class BadSerial(FactoryError, Refused):
    """The serial number is none of this pool's, or was misread."""

    code = "bad-serial"
    fails = True
    next_step: ClassVar[str] = "Read the serial number again, and see that it is of this work order."


class PoolExhausted(FactoryError, Refused):
    """The pool has fewer serial numbers than are asked for."""

    code = "serial-pool-exhausted"
    next_step: ClassVar[str] = "Make the work order smaller, or give its pattern more digits."


def check_character(text: str) -> str:
    """Return the check character of the letters and digits in `text` (ISO/IEC 7064, MOD 37,36)."""
    product = 36
    for character in text:
        if character in _ALPHABET:
            total = (product + _ALPHABET.index(character)) % 36 or 36
            product = total * 2 % 37
    return _ALPHABET[(37 - product) % 36]


@dataclass(frozen=True, slots=True)
class SerialPool:
    """One pattern, read. head, middle, tail: around the number and the check character. first: number of place 0."""

    head: str
    digits: int
    middle: str
    checked: bool
    tail: str
    first: int = 0

    @classmethod
    def parse(cls, text: str) -> "SerialPool":
        """Read a pattern; raise BadSerialPattern."""
        pattern = text.partition("@")[0]
        if any(odd in pattern for odd in _ODD) or pattern.strip(" /") != pattern:
            raise BadSerialPattern(
                f"want a pattern without {', '.join(map(repr, _ODD))}, and no space or slash at its ends: serial "
                f"numbers become names of files and words of commands; got {text[:80]!r}"
            )
        found = _PATTERN.fullmatch(text)
        if found is None or int(found["digits"]) > MOST_DIGITS:
            raise BadSerialPattern(
                f"want capital letters, digits and ' .:/+-' around one {{:0N}} (N up to {MOST_DIGITS}) and at most one "
                f"{{c}} behind it, then perhaps @FIRST; got {text[:80]!r}"
            )
        digits, first = int(found["digits"]), int(found["first"] or 0)
        pool = cls(found["head"], digits, found["middle"], found["check"] is not None, found["tail"], first)
        if pool.capacity < 1:
            raise BadSerialPattern(f"{text}: the first number, {first}, has more than {digits} digits")
        try:
            ids.printable_name(pool.serial(0), field="serials")
        except DecodeError as error:
            raise BadSerialPattern(f"{text}: its serial numbers can't be any: {error}") from None
        return pool

    @property
    def pattern(self) -> str:
        """The pattern without its first number: pools that share it have serial numbers in common."""
        return f"{self.head}{{:0{self.digits}}}{self.middle}{'{c}' if self.checked else ''}{self.tail}"

    @property
    def text(self) -> str:
        """The pattern with its first number, as parse() reads it."""
        return f"{self.pattern}@{self.first}"

    @property
    def capacity(self) -> int:
        """How many places there are."""
        return int(10**self.digits - self.first)

    def beginning(self, first: int) -> "SerialPool":
        """Return the pool of the same pattern whose place 0 has the number `first`."""
        return replace(self, first=first)

    def require(self, quantity: int) -> None:
        """Raise PoolExhausted unless there are so many places."""
        if quantity > self.capacity:
            raise PoolExhausted(
                f"{self.text} has {max(self.capacity, 0)} serial numbers, and {quantity} are wanted: "
                f"its numbers end at {10**self.digits - 1}"
            )

    def serial(self, place: int) -> str:
        """Return the serial number of a place; raise PoolExhausted behind the last one."""
        if place < 0:
            raise ValueError(f"places begin with 0, got {place}")
        self.require(place + 1)
        before, after = f"{self.head}{self.first + place:0{self.digits}}{self.middle}", self.tail
        return f"{before}{check_character(before + after) if self.checked else ''}{after}"

    def place(self, serial: str) -> int:
        """Return the place of a serial number; raise BadSerial."""
        pattern = (
            rf"{re.escape(self.head)}([0-9]{{{self.digits}}}){re.escape(self.middle)}"
            rf"{'[0-9A-Z]' if self.checked else ''}{re.escape(self.tail)}"
        )
        found = re.fullmatch(pattern, serial, re.ASCII)
        if found is None:
            raise BadSerial(f"want a serial number like {self.serial(0)}, got {serial[:80]!r}")
        place = int(found[1]) - self.first
        if place < 0:
            raise BadSerial(f"serial number {serial} is before the first of {self.text}, {self.serial(0)}")
        if (wanted := self.serial(place)) != serial:
            raise BadSerial(f"serial number {serial} has the wrong check character: want {wanted}")
        return place


def next_pool(pool: SerialPool, taken: list[tuple[SerialPool, int]]) -> SerialPool:
    """Return the pool of the same pattern that begins behind all of those taken, each with its quantity."""
    ends = [other.first + quantity for other, quantity in taken if other.pattern == pool.pattern]
    return pool.beginning(max([pool.first, *ends]))


def overlapping(pool: SerialPool, quantity: int, taken: list[tuple[SerialPool, int]]) -> tuple[SerialPool, int] | None:
    """Return the first of those taken that shares a number with `quantity` places of `pool`; None if none does."""
    for other, count in taken:
        if _share(pool, quantity, other, count):
            return other, count
    return None


def _share(pool: SerialPool, quantity: int, other: SerialPool, count: int) -> bool:
    """Tell whether so many places of the one, and of the other, have a serial number in common."""
    if other.pattern == pool.pattern:
        return other.first < pool.first + quantity and pool.first < other.first + count
    heads, tails = sorted((pool.head, other.head), key=len), sorted((pool.tail, other.tail), key=len)
    if len(pool.serial(0)) != len(other.serial(0)) or not heads[1].startswith(heads[0]):
        return False
    if not tails[1].endswith(tails[0]):
        return False
    # Two ways to write one shape, as SN-{:06} and SN-0{:05}: seldom, so each number is tried.
    (fewer, tries), (more, most) = sorted(((pool, quantity), (other, count)), key=lambda each: each[1])
    return any(_has(more, most, fewer.serial(place)) for place in range(tries))


def _has(pool: SerialPool, quantity: int, serial: str) -> bool:
    try:
        return pool.place(serial) < quantity
    except (BadSerial, PoolExhausted):
        return False
