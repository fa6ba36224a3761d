"""What vendors put into NV, with and without headers and padding."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent.tpm.ek_certificates import split_certificates


def _der(size: int = 700, fill: int = 0x55) -> bytes:
    return b"\x30\x82" + (size - 4).to_bytes(2, "big") + bytes([fill]) * (size - 4)


ONE, TWO = _der(700), _der(901, 0x66)


@pytest.mark.parametrize(
    "contents",
    [
        ONE,
        ONE + bytes(100),
        ONE + b"\xff" * 324,
        b"\x10\x01\x00" + len(ONE).to_bytes(2, "big") + ONE,
        b"\x10\x01\x00" + (len(ONE) + 2).to_bytes(2, "big") + b"\x10\x02" + ONE + b"\xff" * 9,
    ],
    ids=["bare", "zeros after", "ones after", "header before", "both headers and padding"],
)
def test_header_and_padding_are_dropped(contents: bytes) -> None:
    assert split_certificates(contents) == (ONE,)


def test_chain_is_split() -> None:
    assert split_certificates(ONE + TWO + bytes(50) + ONE) == (ONE, TWO, ONE)


@pytest.mark.parametrize("contents", [b"", bytes(1000), b"\xff" * 1000, ONE[:-1], b"\x30\x82\x00\x05hello"])
def test_what_holds_no_certificate_gives_none(contents: bytes) -> None:
    assert split_certificates(contents) == ()


def test_last_one_cut_short_is_dropped() -> None:
    assert split_certificates(ONE + TWO[:-1]) == (ONE,)


@given(st.binary(max_size=600).map(lambda data: data.replace(b"U", b"\x30\x82")))
def test_any_contents_are_split_into_parts_of_themselves(data: bytes) -> None:
    for certificate in split_certificates(data):
        assert certificate in data
        assert certificate.startswith(b"\x30\x82")
