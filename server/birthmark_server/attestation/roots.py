"""The trust store: which roots may vouch for which TPMs. A folder that an operator can read, extend and version.

    tpm-roots/
      infineon/
        vendor.toml          what these roots may vouch for (vendor.py)
        roots/*.pem|*.der    trusted: a path may end here
        intermediates/*      not trusted: found here when a device does not bring them

Its version is a hash over names and contents of all files, and stands in every decision's evidence. Only
`read_folder` and `add` touch the disk; everything else takes bytes.
"""

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Final, TypeVar

from birthmark_server.attestation.certificate import Certificate, parse_certificate
from birthmark_server.attestation.path import Anchor, check_ca, check_dates, check_link, check_signature
from birthmark_server.attestation.vendor import Vendor, parse_vendor, write_vendor
from birthmark_server.errors import BirthmarkError, Misconfigured

VENDOR_FILE: Final = "vendor.toml"
ROOTS: Final = "roots"
INTERMEDIATES: Final = "intermediates"

_REMEMBERED_LINKS: Final = 4096
_VENDOR_FOLDER: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class RootEntry:
    """One certificate of the trust store, for people. kind: `root` or `intermediate`."""

    vendor: str
    kind: str
    subject: str
    sha256: str
    not_after: datetime
    path: str


class TrustStore:
    """The roots and intermediates of one version of the folder. Immutable, but for remembering links that held.

    version: SHA-256 over the folder's files, hex. vendors: by folder name.
    """

    def __init__(
        self,
        *,
        version: str,
        vendors: Mapping[str, Vendor],
        anchors: Iterable[Anchor],
        intermediates: Iterable[Certificate],
        entries: Iterable[RootEntry],
    ) -> None:
        self.version = version
        self.vendors = dict(vendors)
        self.entries = tuple(entries)
        self._anchors = _by_subject(anchors, lambda anchor: anchor.certificate.subject)
        self._intermediates = _by_subject(intermediates, lambda certificate: certificate.subject)
        # A link under a CA that leads to a root is checked once; a link that fails raises and is not remembered.
        self._links: Callable[[Certificate, Certificate], None] = lru_cache(_REMEMBERED_LINKS)(check_link)

    @classmethod
    def load(cls, folder: Path) -> "TrustStore":
        """Read the folder. Raises Misconfigured, naming the file, for whatever in it can't be used."""
        return cls.from_files(read_folder(folder))

    @classmethod
    def from_files(cls, files: Mapping[str, bytes]) -> "TrustStore":
        """Build the store from `vendor/vendor.toml`, `vendor/roots/NAME` and `vendor/intermediates/NAME`."""
        vendors = {
            path.parts[0]: parse_vendor(data, source=str(path))
            for path, data in _paths(files)
            if len(path.parts) == 2 and path.name == VENDOR_FILE
        }
        anchors: dict[bytes, Anchor] = {}
        intermediates: list[Certificate] = []
        entries: list[RootEntry] = []
        for path, data in _paths(files):
            match path.parts:
                case (_, name) if name == VENDOR_FILE:
                    continue
                case (folder, kind, _) if folder in vendors and kind in (ROOTS, INTERMEDIATES):
                    certificate = read_certificate(data, source=str(path))
                case _:
                    raise Misconfigured(f"{path}: want VENDOR/{VENDOR_FILE}, {ROOTS}/ and {INTERMEDIATES}/")
            if kind == INTERMEDIATES:
                intermediates.append(certificate)
            elif certificate.der in anchors:
                raise Misconfigured(f"{path}: stands in the trust store already; a root has one vendor")
            else:
                anchors[certificate.der] = Anchor(certificate, vendors[folder])
            entries.append(_entry(str(path), folder, kind, certificate))
        return cls(
            version=_version(files),
            vendors=vendors,
            anchors=anchors.values(),
            intermediates=intermediates,
            entries=entries,
        )

    def anchors_named(self, subject: bytes) -> tuple[Anchor, ...]:
        """Return the trusted roots of that subject (a Name, DER)."""
        return self._anchors.get(subject, ())

    def intermediates_named(self, subject: bytes) -> tuple[Certificate, ...]:
        """Return the intermediates of that subject which the operator keeps. They are not trusted."""
        return self._intermediates.get(subject, ())

    def check_link(self, child: Certificate, issuer: Certificate) -> None:
        """Do as path.check_link; remember the last links that held."""
        self._links(child, issuer)


def read_folder(folder: Path) -> dict[str, bytes]:
    """Read every file of the folder, by its path relative to it. Raises Misconfigured if that can't be done."""
    try:
        if not folder.is_dir():
            raise Misconfigured(f"{folder}: no such folder of TPM vendor roots")
        files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}
    except OSError as error:
        raise Misconfigured(f"{folder}: {error}") from None


def add(
    folder: Path,
    *,
    vendor_folder: str,
    vendor: Vendor | None,
    certificate: bytes,
    now: datetime,
    trust: bool | None = None,
) -> RootEntry:
    """Add one certificate (PEM or DER) to the folder, and the vendor's entry if there is none yet.

    vendor: None keeps the entry that is there; another one than is there is refused, since it would change what older
    roots vouch for. trust: whether a path may end here; None means where the certificate is self-signed. True makes a
    root of a CA that another one issued (a vendor's below a public one). Adding a certificate twice changes nothing.
    Raises Misconfigured, or the Refused of what is wrong with the certificate.
    """
    if not _VENDOR_FOLDER.fullmatch(vendor_folder):
        raise Misconfigured(f"want 1 to 32 of a-z, 0-9 and '-' as the vendor's folder, got {vendor_folder!r}")
    parsed = read_certificate(certificate, source="certificate")
    check_ca(parsed)
    check_dates(parsed, now=now)
    self_signed = parsed.issuer == parsed.subject
    if self_signed:
        check_signature(parsed, parsed)
        if trust is False:
            raise Misconfigured(f"{parsed.title} is self-signed: no path leads through it, only to it")
    files = read_folder(folder) if folder.is_dir() else {}
    entry = f"{vendor_folder}/{VENDOR_FILE}"
    if vendor is not None and entry in files and parse_vendor(files[entry], source=entry) != vendor:
        raise Misconfigured(f"{entry} says something else: edit it, or leave the vendor's options out")
    kind = ROOTS if trust or self_signed else INTERMEDIATES
    path = f"{vendor_folder}/{kind}/{hashlib.sha256(parsed.der).hexdigest()[:16]}.der"
    new = {path: parsed.der} if vendor is None else {entry: write_vendor(vendor), path: parsed.der}
    new = {name: data for name, data in new.items() if name not in files}
    TrustStore.from_files(files | new)
    for name, data in new.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return _entry(path, vendor_folder, kind, parsed)


def read_certificate(data: bytes, *, source: str) -> Certificate:
    """Read one certificate, DER or PEM (with any text around it). Raises Misconfigured, naming `source`."""
    blocks = _PEM.findall(data)
    if len(blocks) > 1:
        raise Misconfigured(f"{source}: want one certificate, got {len(blocks)}; split the bundle")
    try:
        return parse_certificate(b64decode(b"".join(blocks[0].split()), validate=True) if blocks else data)
    except (BirthmarkError, Base64Error) as error:
        raise Misconfigured(f"{source}: {error}") from None


def _paths(files: Mapping[str, bytes]) -> list[tuple[PurePosixPath, bytes]]:
    return [(PurePosixPath(path), data) for path, data in sorted(files.items())]


def _version(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for path, data in sorted(files.items()):
        for field in (path.encode(), data):
            digest.update(len(field).to_bytes(4, "big") + field)
    return digest.hexdigest()


def _entry(path: str, vendor: str, kind: str, certificate: Certificate) -> RootEntry:
    return RootEntry(
        vendor=vendor,
        kind=kind.removesuffix("s"),
        subject=certificate.title,
        sha256=hashlib.sha256(certificate.der).hexdigest(),
        not_after=certificate.not_after,
        path=path,
    )


def _by_subject(items: Iterable[_T], subject: Callable[[_T], bytes]) -> dict[bytes, tuple[_T, ...]]:
    grouped: dict[bytes, tuple[_T, ...]] = {}
    for item in items:
        grouped[subject(item)] = (*grouped.get(subject(item), ()), item)
    return grouped
