"""The qualifying data: every field counts, and no byte can move from one field to the next."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from birthmark_wire.binding import digest_fields, enrollment_binding, renewal_binding
from wire.samples import octets

ENROLLMENT: dict[str, Any] = {
    "enrollment_id": "0f8c3c0e",
    "nonce": octets(0x10, 32),
    "secret": octets(0x20, 32),
    "ek_sha256": octets(0x30, 32),
    "ak_name": octets(0x40, 34),
    "key_name": octets(0x50, 34),
    "serial": "SN-000042",
    "model": "EDGE-7",
    "batch": "W14",
    "csr_sha256": octets(0x60, 32),
    "anchor_sha256": octets(0x70, 32),
    "server_name": "enroll.example.com",
}
RENEWAL: dict[str, Any] = {
    "nonce": octets(0x10, 32),
    "device_id": "edge-000042",
    "client_certificate_sha256": octets(0x20, 32),
    "spki": octets(0x30, 91),
    "subject": octets(0x40, 24),
    "subject_alt_name": octets(0x50, 48),
    "job_id": "",
}


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_different_fields_give_different_digests(one: list[bytes], other: list[bytes]) -> None:
    assume(one != other)
    assert digest_fields(*one) != digest_fields(*other)


@pytest.mark.parametrize("name", ENROLLMENT)
def test_every_field_of_an_enrollment_counts(name: str) -> None:
    changed = ENROLLMENT | {name: ENROLLMENT[name] + _one_more(ENROLLMENT[name])}
    assert enrollment_binding(**changed) != enrollment_binding(**ENROLLMENT)


@pytest.mark.parametrize("name", RENEWAL)
def test_every_field_of_a_renewal_counts(name: str) -> None:
    changed = RENEWAL | {name: RENEWAL[name] + _one_more(RENEWAL[name])}
    assert renewal_binding(**changed) != renewal_binding(**RENEWAL)


def test_a_serial_can_not_lend_a_character_to_the_model() -> None:
    shifted = ENROLLMENT | {"serial": "SN-00004", "model": "2EDGE-7"}
    assert enrollment_binding(**shifted) != enrollment_binding(**ENROLLMENT)


def test_a_nonce_can_not_lend_a_byte_to_the_secret() -> None:
    shifted = ENROLLMENT | {
        "nonce": ENROLLMENT["nonce"][:-1],
        "secret": ENROLLMENT["nonce"][-1:] + ENROLLMENT["secret"],
    }
    assert enrollment_binding(**shifted) != enrollment_binding(**ENROLLMENT)


def test_an_enrollment_and_a_renewal_never_share_a_binding() -> None:
    assert enrollment_binding(**ENROLLMENT) != renewal_binding(**RENEWAL)


def _one_more(value: str | bytes) -> str | bytes:
    return "x" if isinstance(value, str) else b"x"
