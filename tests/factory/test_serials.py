"""Serial numbers: from a place to its number and back, and what is refused."""

import contextlib

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from birthmark_server.factory.errors import FactoryError
from birthmark_server.factory.serials import (
    BadSerial,
    BadSerialPattern,
    PoolExhausted,
    SerialPool,
    check_character,
    next_pool,
    overlapping,
)
from birthmark_wire import ids

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
TEXT = st.text(ALPHABET + " .:/+-", max_size=8)
"""Joined, some of it is refused: see test_no_pattern_makes_paths_or_options."""


@st.composite
def pools(draw: st.DrawFn) -> SerialPool:
    digits = draw(st.integers(1, 12))
    first = draw(st.integers(0, 10**digits - 1))
    check = draw(st.sampled_from(["", "{c}"]))
    text = f"S{draw(TEXT)}{{:0{digits}}}{draw(TEXT)}{check}{draw(TEXT)}"
    assume(text.strip(" /") == text and not any(odd in text for odd in ("..", "//", "/.", " -", "  ")))
    return SerialPool.parse(f"{text}@{first}")


def test_the_check_character_is_the_standards() -> None:
    """The Global Release Identifier's own example, whose last character is ISO 7064 MOD 37,36 (GRid standard 2.1)."""
    assert check_character("A12425GABC1234002") == "M"
    assert check_character("A1-2425G-ABC1234002-") == "M"


def test_a_pattern_counts_from_its_first_number() -> None:
    pool = SerialPool.parse("SN-{:06}-{c}@1000")
    assert [pool.serial(place) for place in (0, 1)] == ["SN-001000-U", "SN-001001-S"]
    assert SerialPool.parse("SN-{:06}-{c}").serial(7) == f"SN-000007-{check_character('SN000007')}"
    assert SerialPool.parse("{:03}").serial(12) == "012"


@given(pools(), st.data())
def test_place_and_serial_number_lead_to_each_other(pool: SerialPool, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, pool.capacity - 1))
    serial = pool.serial(place)
    assert pool.place(serial) == place
    assert ids.printable_name(serial, field="serial") == serial
    assert SerialPool.parse(pool.text) == pool


@given(st.integers(0, 999_999), st.data())
def test_any_one_character_misread_is_noticed(number: int, data: st.DataObject) -> None:
    pool = SerialPool.parse("EDGE-{:06}-{c}")
    serial = pool.serial(number)
    at = data.draw(st.sampled_from([place for place, character in enumerate(serial) if character in ALPHABET]))
    other = data.draw(st.sampled_from([character for character in ALPHABET if character != serial[at]]))
    with pytest.raises(BadSerial):
        pool.place(serial[:at] + other + serial[at + 1 :])


@given(st.text(max_size=30))
def test_any_text_is_a_place_or_refused(text: str) -> None:
    with contextlib.suppress(BadSerial):
        assert SerialPool.parse("S{:02}{c}").place(text) < 100


@given(st.text(alphabet="SN-{:06}c@19a ", max_size=20))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        pool = SerialPool.parse(text)
    except BadSerialPattern:
        return
    assert SerialPool.parse(pool.text) == pool


@pytest.mark.parametrize(
    "text",
    [
        *("", "SN", "SN-{:6}", "SN-{c}-{:06}", "sn-{:06}", "SN_{:06}", "{:06}{:06}", "{:06}@1000000", "{:016}"),
        *("-{:06}", "S{:06}{c}{c}", "S{:06}@01", "S" * 60 + "{:06}", "S{:06}\n", "S{:0٣}"),
    ],
)
def test_what_is_no_pattern_is_refused_with_what_was_seen(text: str) -> None:
    with pytest.raises(BadSerialPattern) as refused:
        SerialPool.parse(text)
    assert repr(text[:40])[1:-1] in str(refused.value)
    assert isinstance(refused.value, FactoryError)
    assert "{c}" in refused.value.next_step


def test_a_serial_number_that_is_refused_says_why() -> None:
    pool = SerialPool.parse("SN-{:06}-{c}@1000")
    with pytest.raises(BadSerial, match="wrong check character: want SN-001001-S"):
        pool.place("SN-001001-U")
    with pytest.raises(BadSerial, match=r"want a serial number like SN-001000-U, got 'XX-1'"):
        pool.place("XX-1")
    with pytest.raises(BadSerial, match="before the first"):
        pool.place(pool.beginning(0).serial(999))


def test_a_pool_ends_where_its_digits_do() -> None:
    pool = SerialPool.parse("SN{:02}@90")
    assert pool.serial(9) == "SN99"
    pool.require(10)
    with pytest.raises(PoolExhausted, match="has 10 serial numbers, and 11 are wanted: its numbers end at 99"):
        pool.serial(10)


def test_the_next_pool_begins_behind_those_of_its_pattern() -> None:
    pool = SerialPool.parse("SN{:04}")
    taken = [(pool, 100), (pool.beginning(500), 20), (SerialPool.parse("XX{:04}"), 9000)]
    assert next_pool(pool, taken).text == "SN{:04}@520"
    assert next_pool(pool.beginning(600), taken).text == "SN{:04}@600"
    assert overlapping(pool.beginning(100), 400, taken) is None
    assert overlapping(pool.beginning(100), 401, taken) == taken[1]


@pytest.mark.parametrize(
    "text", ["A/../../B/{:04}", "A//{:04}", "/A{:04}", "A{:04}/", "A -M {:04}", " A{:04}", "A/.B{:04}", "A  B{:04}"]
)
def test_no_pattern_makes_paths_or_options(text: str) -> None:
    with pytest.raises(BadSerialPattern, match="names of files and words of commands"):
        SerialPool.parse(text)


@given(st.data())
def test_two_pools_overlap_exactly_where_they_have_a_number_in_common(data: st.DataObject) -> None:
    shapes = [
        "S{:03}",
        "S0{:02}",
        "S{:02}0",
        "S{:02}1",
        "S1{:02}",
        "S{:01}00",
        "T{:03}",
        "S{:02}-",
        "S{:02}{c}",
        "S0{:01}{c}",
    ]
    pools = [SerialPool.parse(f"{data.draw(st.sampled_from(shapes))}@{data.draw(st.integers(0, 9))}") for _ in range(2)]
    counts = [data.draw(st.integers(1, min(40, pool.capacity))) for pool in pools]
    numbers = [{pool.serial(place) for place in range(count)} for pool, count in zip(pools, counts, strict=True)]
    found = overlapping(pools[0], counts[0], [(pools[1], counts[1])])
    assert (found is not None) == bool(numbers[0] & numbers[1])
