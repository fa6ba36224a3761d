"""RFC 9440's Client-Cert header."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.errors import Malformed
from birthmark_server.web.front import decode_client_cert


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
