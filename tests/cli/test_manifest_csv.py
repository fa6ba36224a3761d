"""Manifests: what is read, and how each fault is named by line and column."""

import base64
import hashlib
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from birthmark_server.attestation.certificate import key_sha256
from birthmark_server.cli.manifest_csv import BrokenManifest, conflicts, models_missing, read_manifest
from birthmark_server.domain import ManifestEntry
from support.odd_der import replacing, rewritten, swap_attributes, unsorted_root
from support.tpm_vendor import VendorCa, new_key

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
EK = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
OTHER = EK[::-1]
VENDOR = VendorCa.create()


def read(text: str | bytes) -> list[ManifestEntry]:
    data = text if isinstance(text, bytes) else text.encode()
    return list(read_manifest(data, source="lot.csv", imported_by="alice", imported_at=AT).values())


def test_a_line_is_a_device() -> None:
    (entry,) = read(f"serial,model,ek_sha256,device_id\nSN-42,EDGE-7,{EK},edge-42\n")
    assert entry == ManifestEntry(EK, "SN-42", "EDGE-7", "edge-42", "alice", AT)


def test_without_a_device_id_it_follows_from_the_serial_number() -> None:
    first, second = read(f"serial,model,ek_sha256,device_id\nSN-42,EDGE-7,{EK},\nSN/43,EDGE-7,{OTHER},\n")
    assert first.device_id == "sn-42"
    assert second.device_id.startswith("d-sn-43-")


def test_columns_may_stand_in_any_order_with_spaces_a_byte_order_mark_and_crlf() -> None:
    (entry,) = read(f"\ufeffmodel, ek_sha256 ,serial\r\n EDGE-7 ,{EK.upper()}, SN-42\r\n\r\n")
    assert (entry.serial, entry.model, entry.ek_sha256) == ("SN-42", "EDGE-7", EK)


def test_an_ek_certificate_gives_the_hash_of_its_key() -> None:
    certificate = _certificate()
    text = base64.b64encode(certificate).decode()
    key = x509.load_der_x509_certificate(certificate).public_key()
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (entry,) = read(f"serial,model,ek_certificate\nSN-42,EDGE-7,{text}\n")
    assert entry.ek_sha256 == hashlib.sha256(spki).hexdigest()


def test_an_ek_certificate_of_odd_der_is_read_as_the_verifier_reads_it() -> None:
    """Genuine ones have unsorted SETs, which `cryptography` refuses; a device must be listed by what it will show."""
    ca, ek = unsorted_root(), new_key("p256")
    assert isinstance(ca.key, ec.EllipticCurvePrivateKey)
    name = ca.certificate.subject.public_bytes()
    usual = VENDOR.issue_ek(ek.public_key(), issuer=ca)
    odd = rewritten(usual, replacing(name, swap_attributes(name)), ca.key)
    with pytest.raises(ValueError, match="InvalidSetOrdering"):
        _ = x509.load_der_x509_certificate(odd).issuer
    (entry,) = read(f"serial,model,ek_certificate\nSN-42,EDGE-7,{base64.b64encode(odd).decode()}\n")
    assert entry.ek_sha256 == key_sha256(ek.public_key())


def test_an_ek_certificate_may_be_as_the_tpms_nv_holds_it() -> None:
    der = _certificate()
    plain, framed, padded = (
        read(f"serial,model,ek_certificate\nSN-42,EDGE-7,{base64.b64encode(data).decode()}\n")
        for data in (der, b"\x10\x01\x00" + len(der).to_bytes(2, "big") + der, der + b"\xff" * 64)
    )
    assert plain == framed == padded


def test_an_ek_certificate_that_contradicts_the_hash_is_refused() -> None:
    text = base64.b64encode(_certificate()).decode()
    with pytest.raises(BrokenManifest, match=r"line 2, column ek_sha256: is 9f86.*but ek_certificate is for the key"):
        read(f"serial,model,ek_sha256,ek_certificate\nSN-42,EDGE-7,{EK},{text}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file lists no device"),
        ("serial,model,ek_sha256\n", "the file lists no device"),
        ("serial,model\nSN-42,EDGE-7\n", "line 1, want the columns serial, model and ek_sha256"),
        ("serial,modell,ek_sha256\n", "line 1, 'modell' is not a column of a manifest"),
        ("serial,serial,model,ek_sha256\n", "line 1, column serial stands there twice"),
        (f"serial,model,ek_sha256\nSN-42,{EK}\n", r"line 2, want 3 values \(serial, model, ek_sha256\), got 2"),
        (f"serial,model,ek_sha256\nSN_42,EDGE-7,{EK}\n", "line 2, column serial: want 1 to 64 letters"),
        (f"serial,model,ek_sha256\n=cmd(),EDGE-7,{EK}\n", "line 2, column serial: want 1 to 64 letters"),
        (f"serial,model,ek_sha256\nSN-42,,{EK}\n", "line 2, column model: want 1 to 64 letters"),
        ("serial,model,ek_sha256\nSN-42,EDGE-7,\n", "line 2, column ek_sha256: is empty"),
        (f"serial,model,ek_sha256\nSN-42,EDGE-7,{EK[:-1]}\n", "line 2, column ek_sha256: want 64 hex digits"),
        ("serial,model,ek_certificate\nSN-42,EDGE-7,MIIB\n", "line 2, column ek_certificate: want base64 of a DER"),
        ("serial,model,ek_certificate\nSN-42,EDGE-7,M!\n", "line 2, column ek_certificate: want base64 of a DER"),
        (
            f"serial,model,ek_sha256,device_id\nSN-42,EDGE-7,{EK},srv-x\n",
            "line 2, column device_id: ids that begin with 'srv-' are reserved",
        ),
        (f"serial,model,ek_sha256\nA,M,{EK}\n\nA,M,{OTHER}\n", "line 4, column serial: A stands in line 2 too"),
        (f"serial,model,ek_sha256\nA,M,{EK}\nB,M,{EK}\n", "line 3, column ek_sha256: 9f86.* stands in line 2 too"),
        (f'serial,model,ek_sha256\n"SN-42,EDGE-7,{EK}\n', "line 2: not CSV"),
    ],
)
def test_a_fault_is_named_by_line_and_column(text: str, message: str) -> None:
    with pytest.raises(BrokenManifest, match=message):
        read(text)


def test_bytes_that_are_not_utf_8_are_named_by_line() -> None:
    with pytest.raises(BrokenManifest, match="line 2: want UTF-8, got byte 0xff"):
        read(b"serial,model,ek_sha256\nSN-\xff\n")


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(BrokenManifest) as refusal:
        read(f"serial,model,ek_sha256\nA_,M,{EK}\nB,M,zz\nC,M,{OTHER}\n")
    assert str(refusal.value).count("\n  lot.csv, line ") == 2


def test_a_short_row_does_not_hide_the_faults_below_it() -> None:
    with pytest.raises(BrokenManifest) as refusal:
        read(f"serial,model,ek_sha256\nA,{EK}\nB,M,zz\n")
    assert str(refusal.value).splitlines() == [
        "nothing was imported:",
        "  lot.csv, line 2, want 3 values (serial, model, ek_sha256), got 2",
        "  lot.csv, line 3, column ek_sha256: want 64 hex digits, got 'zz'",
    ]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_another_separator_is_named_with_what_to_do(mark: str) -> None:
    with pytest.raises(BrokenManifest, match=r"lot.csv, line 1, values are parted by .*, want commas: save it as CSV"):
        read(mark.join(("serial", "model", "ek_sha256")) + "\n" + mark.join(("SN-42", "EDGE-7", EK)) + "\n")


def test_what_contradicts_the_record_is_named_by_line_and_column() -> None:
    manifest = read_manifest(
        f"serial,model,ek_sha256\nA,M,{EK}\n\nB,M,{OTHER}\n".encode(),
        source="lot.csv", imported_by="alice", imported_at=AT,
    )  # fmt: skip
    same = ManifestEntry(EK, "A", "M", "a", "bob", AT)
    differs = ManifestEntry(OTHER, "C", "M", "c", "bob", AT)
    ((line, fault),) = conflicts(manifest, [same, differs]).items()
    assert line == 4
    assert fault.startswith(f"column ek_sha256: {OTHER} is on record for serial C, model M, device c")
    assert models_missing(manifest, ["M"]) == {}
    assert set(models_missing(manifest, ["N"])) == {2, 4}


def test_no_more_than_twenty_faults_are_told() -> None:
    with pytest.raises(BrokenManifest, match="and 80 more faults"):
        read("serial,model,ek_sha256\n" + "A,M,zz\n" * 100)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: f"serial,model,ek_sha256\n{text}".encode()))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        entries = read(data)
    except BrokenManifest:
        return
    assert all(len(entry.ek_sha256) == 64 for entry in entries)


def _certificate() -> bytes:
    return VENDOR.issue_ek(ec.generate_private_key(ec.SECP256R1()).public_key())
