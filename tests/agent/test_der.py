"""The agent's own DER reader: what `cryptography` writes it reads, and any bytes are read or refused."""

import contextlib
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent import der
from birthmark_wire.errors import DecodeError


def certificate(name: str) -> x509.Certificate:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )


@pytest.mark.parametrize("count", [1, 3])
def test_the_certificates_of_a_certs_only_message_come_out_as_they_went_in(count: int) -> None:
    certificates = [certificate(f"certificate-{number}") for number in range(count)]
    message = pkcs7.serialize_certificates(certificates, Encoding.DER)
    wanted = {one.public_bytes(Encoding.DER) for one in certificates}
    assert set(der.certificates_in(message)) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        der.certificates_in(data)


MESSAGE = pkcs7.serialize_certificates([certificate("one")], Encoding.DER)


@given(st.integers(0, len(MESSAGE) - 1), st.integers(0, 255))
def test_one_changed_byte_is_read_or_refused(position: int, value: int) -> None:
    changed = bytearray(MESSAGE)
    changed[position] = value
    with contextlib.suppress(DecodeError):
        der.certificates_in(bytes(changed))


@given(st.integers(0, len(MESSAGE) - 1))
def test_a_message_that_is_cut_short_is_refused(size: int) -> None:
    with pytest.raises(DecodeError):
        der.certificates_in(MESSAGE[:size])


@given(st.binary(max_size=70_000))
def test_lengths_are_written_in_their_shortest_form(value: bytes) -> None:
    header = len(der.tlv(der.OCTET_STRING, value)) - len(value)
    assert header == 2 + (len(value) > 0x7F) + (len(value) > 0xFF) + (len(value) > 0xFFFF)


@pytest.mark.parametrize("dotted", ["1.2.840.10045.4.3.2", "2.23.133.20.1", "2.5.29.17"])
def test_object_identifiers_are_what_cryptography_writes(dotted: str) -> None:
    name = x509.Name([x509.NameAttribute(x509.ObjectIdentifier(dotted), "x")]).public_bytes()
    assert der.oid(dotted) in name
