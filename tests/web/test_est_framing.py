"""EST bodies: base64 in every form that clients are known to send."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.attestation import der
from birthmark_server.web.csrattrs import csr_attributes
from birthmark_server.web.errors import BadTransfer
from birthmark_server.web.est import decode_transfer


@given(st.binary(max_size=600))
def test_broken_and_unbroken_base64_are_read_alike(data: bytes) -> None:
    unbroken = base64.b64encode(data)
    broken = base64.encodebytes(data)  # 76 characters a line, as libest and openssl write it
    for body in (unbroken, broken, broken.replace(b"\n", b"\r\n"), b"  " + unbroken + b"\t\r\n"):
        assert decode_transfer(body) == data


@pytest.mark.parametrize("body", [b"!!!!", b"AAA", b"AA=A", b"-_-_", b"\x30\x82\x01\x00", "ü".encode()])
def test_what_is_not_base64_is_refused(body: bytes) -> None:
    with pytest.raises(BadTransfer):
        decode_transfer(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(body: bytes) -> None:
    try:
        decode_transfer(body)
    except BadTransfer:
        return


def test_csrattrs_asks_for_p256_ecdsa_and_evidence() -> None:
    key, signature, evidence = der.sequence(csr_attributes())
    kind, values = der.members_of(key)
    assert der.oid(kind) == "1.2.840.10045.2.1"
    assert [der.oid(value) for value in der.members_of(values, der.SET)] == ["1.2.840.10045.3.1.7"]
    assert der.oid(signature) == "1.2.840.10045.4.3.2"
    assert der.oid(evidence) == "1.2.840.113549.1.9.16.2.59"
