"""A manifest as the factory's office keeps it: a CSV file, one line per device that is expected.

    serial,model,ek_sha256,device_id
    SN-000042,EDGE-7,9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08,edge-000042

device_id may be empty or its column missing: it then follows from the serial number. Instead of ek_sha256 a column
ek_certificate may hold the EK certificate (base64 of its DER); the hash is taken from it, and nothing else is believed
of it. Everything wrong is reported, by line and column, and then nothing at all is imported.
"""

import base64
import binascii
import csv
import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import ClassVar, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.admission import device_id_for
from birthmark_server.domain import ManifestEntry
from birthmark_server.errors import Malformed
from birthmark_wire import ids
from birthmark_wire.errors import DecodeError

_REQUIRED: Final = ("serial", "model")
_EK: Final = ("ek_sha256", "ek_certificate")
_COLUMNS: Final = (*_REQUIRED, *_EK, "device_id")
_MOST_FAULTS: Final = 20
MAX_BYTES: Final = 256 << 20


class BrokenManifest(Malformed):
    """The file is not a manifest. The message has one line for each fault, by line and column."""

    code: ClassVar[str] = "broken-manifest"


class _Fault(Exception):
    def __init__(self, column: str, message: str) -> None:
        super().__init__(f"column {column}: {message}")


def read_manifest(data: bytes, *, imported_by: str, imported_at: datetime) -> list[ManifestEntry]:
    """Return the entries of a CSV file in UTF-8, with or without a byte order mark, or raise BrokenManifest.

    Serial numbers, device ids and EKs stand once each; two lines that share one are reported with both line numbers.
    """
    if len(data) > MAX_BYTES:
        raise BrokenManifest(f"want at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BrokenManifest(f"line {line}: want UTF-8, got byte 0x{data[error.start]:02x}") from None
    entries: list[ManifestEntry] = []
    faults: list[str] = []
    seen: dict[tuple[str, str], int] = {}
    for line, row in _rows(text):
        try:
            entry = _entry(row, imported_by=imported_by, imported_at=imported_at)
            _once(entry, line, seen)
        except _Fault as fault:
            faults.append(f"line {line}, {fault}")
            continue
        entries.append(entry)
    if faults:
        more = len(faults) - _MOST_FAULTS
        faults[_MOST_FAULTS:] = [f"and {more} more faults"] if more > 0 else []
        raise BrokenManifest("nothing was imported:\n  " + "\n  ".join(faults))
    if not entries:
        raise BrokenManifest("the file lists no device: want a line per device below the column names")
    return entries


def _rows(text: str) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Yield each line's number and its values by column; raise BrokenManifest on what is no table."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    try:
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if not names:
                names = [value.strip() for value in values]
                _check_names(names)
            elif len(values) != len(names):
                raise BrokenManifest(
                    f"line {reader.line_num}: want {len(names)} values ({', '.join(names)}), got {len(values)}"
                )
            else:
                yield reader.line_num, dict(zip(names, (value.strip() for value in values), strict=True))
    except csv.Error as error:
        raise BrokenManifest(f"line {reader.line_num}: not CSV: {error}") from None


def _check_names(names: list[str]) -> None:
    for name in names:
        if name not in _COLUMNS:
            raise BrokenManifest(f"line 1: {name!r} is not a column of a manifest; want {', '.join(_COLUMNS)}")
        if names.count(name) > 1:
            raise BrokenManifest(f"line 1: column {name} stands there twice")
    missing = [name for name in _REQUIRED if name not in names]
    if missing or not any(name in names for name in _EK):
        raise BrokenManifest(f"line 1: want the columns serial, model and ek_sha256, got {', '.join(names)}")


def _entry(row: Mapping[str, str], *, imported_by: str, imported_at: datetime) -> ManifestEntry:
    serial = _name(row, "serial")
    return ManifestEntry(
        ek_sha256=_ek_sha256(row),
        serial=serial,
        model=_name(row, "model"),
        device_id=_device_id(row) or device_id_for(serial),
        imported_by=imported_by,
        imported_at=imported_at,
    )


def _name(row: Mapping[str, str], column: str) -> str:
    try:
        return ids.printable_name(row[column], field=column)
    except DecodeError as error:
        raise _Fault(column, _without_field(error)) from None


def _device_id(row: Mapping[str, str]) -> str:
    value = row.get("device_id", "")
    try:
        return value and ids.device_id(value)
    except DecodeError as error:
        raise _Fault("device_id", _without_field(error)) from None


def _without_field(error: DecodeError) -> str:
    return str(error).removeprefix(f"{error.field}: ")


def _ek_sha256(row: Mapping[str, str]) -> str:
    stated, certificate = row.get("ek_sha256", "").lower(), row.get("ek_certificate", "")
    if stated and not re.fullmatch(r"[0-9a-f]{64}", stated):
        raise _Fault("ek_sha256", f"want 64 hex digits, got {stated[:80]!r}")
    if not certificate:
        if not stated:
            raise _Fault("ek_sha256", "is empty, and so is ek_certificate")
        return stated
    computed = _certificate_key_sha256(certificate)
    if stated and stated != computed:
        raise _Fault("ek_sha256", f"is {stated}, but ek_certificate is for the key {computed}")
    return computed


def _certificate_key_sha256(text: str) -> str:
    try:
        certificate = x509.load_der_x509_certificate(base64.b64decode(text, validate=True))
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (binascii.Error, ValueError, x509.InvalidVersion) as error:
        raise _Fault("ek_certificate", f"want base64 of a DER certificate: {error}") from None
    return hashlib.sha256(spki).hexdigest()


def _once(entry: ManifestEntry, line: int, seen: dict[tuple[str, str], int]) -> None:
    for column, value in (("serial", entry.serial), ("device_id", entry.device_id), ("ek_sha256", entry.ek_sha256)):
        first = seen.setdefault((column, value), line)
        if first != line:
            raise _Fault(column, f"{value} stands in line {first} too")
