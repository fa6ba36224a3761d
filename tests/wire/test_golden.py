"""Golden records: what devices in the field already say and understand."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_wire import tpm_templates
from birthmark_wire.binding import enrollment_binding, renewal_binding
from birthmark_wire.time import time_binding
from wire.samples import DECODERS, GOLDEN, SAMPLES, golden, octets


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_is_written_as_it_always_was(name: str) -> None:
    assert SAMPLES[name].encode() == golden(name)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_is_read_as_it_always_was(name: str) -> None:
    assert DECODERS[type(SAMPLES[name])](golden(name)) == SAMPLES[name]


def test_every_record_has_its_value() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(SAMPLES)


def test_the_enrollment_binding_is_what_it_always_was() -> None:
    # The same bytes, spelled out: printf of each length and field, piped through sha256sum.
    binding = enrollment_binding(
        enrollment_id="0f8c3c0e6f9d4c1b8a57d2a4",
        nonce=octets(0x10, 32),
        secret=octets(0x20, 32),
        ek_sha256=octets(0x30, 32),
        ak_name=octets(0x40, 34),
        key_name=octets(0x50, 34),
        serial="SN-000042",
        model="EDGE-7",
        batch="",
        csr_sha256=octets(0x60, 32),
        anchor_sha256=octets(0x70, 32),
        server_name="enroll.example.com",
    )
    assert binding.hex() == "f5441fbc400872bb627b29dc75fc6e957a5c4f81734bdaeda2ac2e5904adb2c4"


def test_the_renewal_binding_is_what_it_always_was() -> None:
    binding = renewal_binding(
        nonce=octets(0x10, 32),
        device_id="edge-000042",
        client_certificate_sha256=octets(0x20, 32),
        spki=octets(0x30, 91),
        subject=octets(0x40, 24),
        subject_alt_name=octets(0x50, 48),
        job_id="",
    )
    assert binding.hex() == "df44a532e15ce7b05eea11fd7778f08bcf7d3575135ad6bc1fb4193fc2af8784"


def test_the_time_binding_is_what_it_always_was() -> None:
    at = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
    binding = time_binding(nonce=octets(0x60, 32), signer_sha256=octets(0x20, 32), at=at)
    assert binding == (
        b"\0\0\0\x0ebirthmark time"
        b"\0\0\0\x0bbirthmark/1"
        b"\0\0\0\x20" + octets(0x60, 32) + b"\0\0\0\x20" + octets(0x20, 32) + b"\0\0\0\x142026-01-31T12:00:00Z"
    )


TEMPLATES = {
    "EK_RSA2048": tpm_templates.EK_RSA2048,
    "EK_P256": tpm_templates.EK_P256,
    "EK_P384": tpm_templates.EK_P384,
    "AK": tpm_templates.AK,
    "BIRTH_KEY": tpm_templates.BIRTH_KEY,
    "STORAGE_KEY": tpm_templates.STORAGE_KEY,
    "OPERATIONAL_KEY": tpm_templates.OPERATIONAL_KEY,
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_what_it_always_was(name: str) -> None:
    # One bit changed would be another key in every TPM. templates.txt spells each one out, field by field.
    assert TEMPLATES[name] == _spelled_out(Path(__file__).parent / "golden" / "templates.txt")[name]


def _spelled_out(path: Path) -> dict[str, bytes]:
    """Read `NAME:` headings, each followed by lines of hex with `#` comments; `00*N` stands for N zero bytes."""
    templates: dict[str, bytes] = {}
    name = ""
    for line in path.read_text(encoding="ascii").splitlines():
        words = line.partition("#")[0].split()
        if len(words) == 1 and words[0].endswith(":"):
            name = words[0][:-1]
            templates[name] = b""
            continue
        for word in words:
            octet, _, times = word.partition("*")
            templates[name] += bytes.fromhex(octet) * int(times or 1)
    return templates
