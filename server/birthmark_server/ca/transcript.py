"""The written record of a ceremony: what was done, when, by whom, and the hash of everything that came of it.

One plain text file for each act, numbered; each names the SHA-256 of the one before, so none can be dropped or altered
later without the next one telling. Print it, have it signed by those who were there.
"""

import getpass
import hashlib
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from birthmark_server.ca import files

_GLOB: Final = "transcript-*.txt"


def write_transcript(
    folder: Path, *, act: str, facts: Sequence[tuple[str, str]], written: Sequence[Path], now: datetime
) -> Path:
    """Write the next transcript of a folder and return where. written: files that the act left, hashed here."""
    earlier = sorted(folder.glob(_GLOB))
    before = f"{earlier[-1].name}, SHA-256 {_sha256(earlier[-1])}" if earlier else "none, this is the first"
    lines = [
        f"Birthmark certification authority: {act}",
        "",
        *_aligned(
            [
                ("time", now.strftime("%Y-%m-%dT%H:%M:%SZ")),
                ("machine", platform.node()),
                ("user", getpass.getuser()),
                ("folder", str(folder.resolve())),
                ("before this", before),
                *facts,
            ]
        ),
        "",
        "Files written (SHA-256):",
        *(f"  {_sha256(path)}  {path.name}" for path in written),
        "",
        "Present:",
        "  ______________________________   ______________________________",
        "",
    ]
    path = folder / f"transcript-{len(earlier) + 1:04d}.txt"
    files.write_new(path, "\n".join(lines).encode())
    return path


def certificate_facts(certificate: x509.Certificate) -> list[tuple[str, str]]:
    """Return what a person compares when a certificate is carried from one machine to another."""
    spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return [
        ("subject", certificate.subject.rfc4514_string()),
        ("issuer", certificate.issuer.rfc4514_string()),
        ("serial number", f"{certificate.serial_number:x}"),
        ("not before", certificate.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("not after", certificate.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")),
        ("public key", f"SHA-256 {hashlib.sha256(spki).hexdigest()}"),
        ("certificate", f"SHA-256 {certificate.fingerprint(hashes.SHA256()).hex()}"),
    ]


def _aligned(facts: Sequence[tuple[str, str]]) -> list[str]:
    width = max(len(name) for name, _ in facts)
    return [f"  {name:<{width}}  {value}" for name, value in facts]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
