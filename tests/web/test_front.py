"""What a TLS front says of the client: RFC 9440's Client-Cert header, and X-Forwarded-For."""

import base64
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.errors import Malformed
from birthmark_server.web.front import decode_client_cert, decode_forwarded_for


@given(st.binary(min_size=1, max_size=2000))
def test_a_byte_sequence_is_read(der: bytes) -> None:
    assert decode_client_cert(f":{base64.b64encode(der).decode()}:") == der


@pytest.mark.parametrize("value", ["", ":", "::", "MIIB", ":MIIB", ":M*:", ":" + "A" * 9000 + ":"])
def test_anything_else_is_refused(value: str) -> None:
    with pytest.raises(Malformed):
        decode_client_cert(value)


@given(st.text(max_size=100))
def test_any_text_is_read_or_refused(value: str) -> None:
    try:
        decode_client_cert(value)
    except Malformed:
        return


@given(st.ip_addresses())
def test_an_address_is_read(address: IPv4Address | IPv6Address) -> None:
    assert decode_forwarded_for(f" {address} ") == str(address)


@pytest.mark.parametrize(
    "value",
    ["", "local", "192.0.2.1, 198.51.100.1", "192.0.2.1:80", "[2001:db8::1]", "fe80::1%eth0", "192.0.2.256", "unknown"],
)
def test_what_is_not_one_address_is_refused(value: str) -> None:
    with pytest.raises(Malformed, match="X-Forwarded-For"):
        decode_forwarded_for(value)
