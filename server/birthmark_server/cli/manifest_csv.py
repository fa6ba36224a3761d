"""A manifest as the factory's office keeps it: a CSV file, one line per device that is expected.

    serial,model,ek_sha256,device_id
    SN-000042,EDGE-7,9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08,edge-000042

device_id may be empty or its column missing: it then follows from the serial number. Instead of ek_sha256 a column
ek_certificate may hold the EK certificate (base64 of its DER, or of what the TPM's NV holds). It is read by the
verifier's own reader, as genuine ones may be odd DER; the hash is taken from it, and nothing else is believed of it.
Everything wrong is reported, by file, line and column, one fault a line, and then nothing at all is imported.
"""

import base64
import binascii
import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from typing import ClassVar, Final, Protocol

from birthmark_server.admission import device_id_for
from birthmark_server.attestation.certificate import parse_certificate
from birthmark_server.attestation.ek import strip_nv
from birthmark_server.attestation.errors import CertificateMalformed, WeakKey
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


Manifest = Mapping[int, ManifestEntry]
"""The entries by the number of their line, counted from 1."""


class Listed(Protocol):
    """An entry of the manifest, wherever it was read."""

    @property
    def serial(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def device_id(self) -> str: ...
    @property
    def ek_sha256(self) -> str: ...
    @property
    def imported_by(self) -> str: ...


class _Fault(Exception):
    def __init__(self, column: str, message: str) -> None:
        super().__init__(f"column {column}: {message}" if column else message)


def read_manifest(data: bytes, *, source: str, imported_by: str, imported_at: datetime) -> Manifest:
    """Return the entries of a CSV file in UTF-8, with or without a byte order mark, or raise BrokenManifest.

    source: the file's name, for messages. Serial numbers, device ids and EKs stand once each; two lines that share one
    are reported with both line numbers.
    """
    if len(data) > MAX_BYTES:
        raise BrokenManifest(f"{source}: want at most {MAX_BYTES} bytes, got {len(data)}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BrokenManifest(f"{source}, line {line}: want UTF-8, got byte 0x{data[error.start]:02x}") from None
    entries: dict[int, ManifestEntry] = {}
    faults: dict[int, str] = {}
    seen: dict[tuple[str, str], int] = {}
    names: list[str] = []
    for line, values in _rows(text, source):
        try:
            if not names:
                names = _checked_names(values)
                continue
            row = _row(names, values)
            entry = _entry(row, imported_by=imported_by, imported_at=imported_at)
            _once(entry, line, seen)
        except _Fault as fault:
            faults[line] = str(fault)
            if not names:
                break
            continue
        entries[line] = entry
    if faults:
        raise BrokenManifest(told_by_line(faults, source=source))
    if not entries:
        raise BrokenManifest(f"{source}: the file lists no device: want a line per device below the column names")
    return entries


def told_by_line(faults: Mapping[int, str], *, source: str) -> str:
    """Return a message with one line for each fault, and no more than twenty."""
    lines = [f"{source}, line {line}, {fault}" for line, fault in sorted(faults.items())]
    more = len(lines) - _MOST_FAULTS
    lines[_MOST_FAULTS:] = [f"and {more} more faults"] if more > 0 else []
    return "nothing was imported:\n  " + "\n  ".join(lines)


def models_missing(manifest: Manifest, known: Collection[str]) -> dict[int, str]:
    """Return by line which models are not on record."""
    return {
        line: f"column model: no model {entry.model!r} is on record; birthmark model add {entry.model}"
        for line, entry in manifest.items()
        if entry.model not in known
    }


def conflicts(manifest: Manifest, known: Iterable[Listed]) -> dict[int, str]:
    """Return by line what contradicts an entry that is on record."""
    lines = {(column, value): line for line, entry in manifest.items() for column, value in _identifying(entry)}
    found: dict[int, str] = {}
    for old in known:
        for column, value in _identifying(old):
            line = lines.get((column, value))
            if line is None or _identity(manifest[line]) == _identity(old):
                continue
            found.setdefault(
                line,
                f"column {column}: {value} is on record for serial {old.serial}, model {old.model}, device "
                f"{old.device_id}, EK {old.ek_sha256}, imported by {old.imported_by}",
            )
    return found


def _identity(entry: Listed) -> tuple[str, str, str, str]:
    return entry.serial, entry.model, entry.device_id, entry.ek_sha256


def _rows(text: str, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each line's number and its values; raise BrokenManifest on what is no CSV."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for values in reader:
            if any(value.strip() for value in values):
                yield reader.line_num, [value.strip() for value in values]
    except csv.Error as error:
        raise BrokenManifest(f"{source}, line {reader.line_num}: not CSV: {error}") from None


def _row(names: list[str], values: list[str]) -> Mapping[str, str]:
    if len(values) != len(names):
        raise _Fault("", f"want {len(names)} values ({', '.join(names)}), got {len(values)}")
    return dict(zip(names, values, strict=True))


def _checked_names(names: list[str]) -> list[str]:
    if len(names) == 1 and (mark := next((mark for mark in ";\t|" if mark in names[0]), "")):
        raise _Fault("", f"values are parted by {mark!r}, want commas: save it as CSV with ',' between the columns")
    for name in names:
        if name not in _COLUMNS:
            raise _Fault("", f"{name!r} is not a column of a manifest; want {', '.join(_COLUMNS)}")
        if names.count(name) > 1:
            raise _Fault("", f"column {name} stands there twice")
    missing = [name for name in _REQUIRED if name not in names]
    if missing or not any(name in names for name in _EK):
        raise _Fault("", f"want the columns serial, model and ek_sha256, got {', '.join(names)}")
    return names


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
        return parse_certificate(strip_nv(base64.b64decode(text, validate=True))).key_sha256
    except (binascii.Error, CertificateMalformed, WeakKey) as error:
        raise _Fault("ek_certificate", f"want base64 of a DER certificate: {error}") from None


def _once(entry: ManifestEntry, line: int, seen: dict[tuple[str, str], int]) -> None:
    for column, value in _identifying(entry):
        first = seen.setdefault((column, value), line)
        if first != line:
            raise _Fault(column, f"{value} stands in line {first} too")


def _identifying(entry: Listed) -> tuple[tuple[str, str], ...]:
    """What no two devices share, by column."""
    return ("serial", entry.serial), ("device_id", entry.device_id), ("ek_sha256", entry.ek_sha256)
