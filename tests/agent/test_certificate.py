"""The agent's reader of its own certificates says what `cryptography` says, and refuses what is cut short."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from birthmark_agent.certificate import read_certificate
from birthmark_wire.errors import DecodeError

KEY = ec.generate_private_key(ec.SECP256R1())
NAMES = st.lists(
    st.tuples(
        st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME, NameOID.SERIAL_NUMBER]),
        st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=40),
    ),
    max_size=4,
)
START, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
MOMENTS = st.integers(0, int((END - datetime(1950, 1, 1, tzinfo=UTC)).total_seconds())).map(
    lambda seconds: END - timedelta(seconds=seconds)
)


def certificate(names: list[tuple[x509.ObjectIdentifier, str]], start: datetime, end: datetime, serial: int) -> bytes:
    name = x509.Name([x509.NameAttribute(kind, value) for kind, value in names])
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), serial, start, end)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


@given(names=NAMES, moments=st.tuples(MOMENTS, MOMENTS), serial=st.integers(1, 2**159 - 1))
def test_it_reads_what_cryptography_reads(
    names: list[tuple[x509.ObjectIdentifier, str]], moments: tuple[datetime, datetime], serial: int
) -> None:
    der = certificate(names, min(moments), max(moments), serial)
    read, wanted = read_certificate(der), x509.load_der_x509_certificate(der)
    assert read.serial_number == f"{wanted.serial_number:x}"
    assert (read.not_before, read.not_after) == (wanted.not_valid_before_utc, wanted.not_valid_after_utc)
    assert list(read.common_names) == [
        str(cn.value) for cn in wanted.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    ]
    assert read.spki == wanted.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_a_certificate_without_an_end_ends_in_9999() -> None:
    assert read_certificate(certificate([], START, END, 1)).not_after == END


def test_every_certificate_that_is_cut_short_or_has_more_is_refused() -> None:
    der = certificate([(NameOID.COMMON_NAME, "dev-1")], START, END, 1)
    for size in range(len(der)):
        with pytest.raises(DecodeError):
            read_certificate(der[:size])
    with pytest.raises(DecodeError):
        read_certificate(der + b"\0")


@given(position=st.integers(0, 200), bit=st.integers(0, 7))
def test_a_bit_that_fell_over_breaks_nothing(position: int, bit: int) -> None:
    der = bytearray(certificate([(NameOID.COMMON_NAME, "dev-1")], START, END, 1))
    der[position] ^= 1 << bit
    with suppress(DecodeError):
        read_certificate(bytes(der))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(DecodeError):
        read_certificate(data)
