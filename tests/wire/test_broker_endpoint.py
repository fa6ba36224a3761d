"""Where a broker is, as text in a header."""

import pytest

from birthmark_wire.broker import BrokerEndpoint
from birthmark_wire.errors import DecodeError


def test_what_was_written_is_read() -> None:
    endpoint = BrokerEndpoint("mqtt-1.example.com", 8883)
    assert str(endpoint) == "mqtt-1.example.com:8883"
    assert BrokerEndpoint.of_text(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:1 ",
        "a: 1",
        "a:-1",
        "a:١",
        "A:1",
        "a b:1",
        "a:b:1",
        "a:000001",
        "[::1]:1",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DecodeError):
        BrokerEndpoint.of_text(text)
