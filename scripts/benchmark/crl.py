"""A CRL of a million entries: from the database to the signed list, seconds and memory, beside `openssl ca -gencrl`.

Everything is on a disk before the clock starts: certificates in SQLite, as the server has them, and the same ones in
OpenSSL's index.txt. Each side then makes its list in a process of its own, whose peak resident memory is what the
kernel says; ours includes the interpreter and all that the server's rooms import. Both are begun from a fresh process:
the kernel counts a process's memory before its exec too, so one begun from a large process never looks small.

    python -m benchmark.crl [ENTRIES]      from scripts/, with .venv's Python
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from birthmark_server.ca.crl import build_crl
from birthmark_server.ca.profile import CaKind
from birthmark_server.ca.signer import FileSigner, hash_for
from birthmark_server.store.open import open_store

ENTRIES: Final = 1_000_000
_ISSUER: Final = "15" * 32
_REASONS: Final = (("keyCompromise", "keyCompromise"), ("superseded", "superseded"), ("unspecified", ""))
"""What our database calls a reason, and what index.txt does."""


@dataclass(frozen=True, slots=True)
class CrlCost:
    """What one list cost. seconds: of the clock; cpu_seconds: of the processor, which says more on a busy machine. Ours
    begin when the program is loaded and CA and database are open. peak_mib: of the whole process."""

    entries: int
    seconds: float
    cpu_seconds: float
    peak_mib: float
    openssl_seconds: float
    openssl_cpu_seconds: float
    openssl_peak_mib: float


@dataclass(frozen=True, slots=True)
class _Ca:
    """An issuing CA, as far as a list needs one."""

    certificate: x509.Certificate
    signer: FileSigner
    kind: CaKind = CaKind.FLEET


def measure_crl(entries: int = ENTRIES) -> CrlCost:
    """Make both lists of `entries` revoked certificates, each in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        key = ec.generate_private_key(ec.SECP256R1())
        (folder / "ca.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        (folder / "ca.pem").write_bytes(_certificate(key).public_bytes(Encoding.PEM))
        (folder / "openssl.cnf").write_text(_OPENSSL.format(folder=folder))
        (folder / "crlnumber").write_text("01\n")
        _fill(folder, entries)
        ours, theirs = json.loads(
            subprocess.check_output([sys.executable, "-m", "benchmark.crl", name], cwd=Path(__file__).parents[1])
        )
        ours_listed = _listed(x509.load_der_x509_crl((folder / "ours.crl").read_bytes()))
        theirs_listed = _listed(x509.load_pem_x509_crl((folder / "openssl.crl").read_bytes()))
        if ours_listed != theirs_listed or len(ours_listed) != entries:
            raise AssertionError("the two lists do not say the same")
        return CrlCost(entries, *ours, *theirs)


def make_by_openssl(folder: Path) -> tuple[float, float, float]:
    """Have openssl make the list; return seconds, those of the processor, and peak resident memory in MiB."""
    command = ["openssl", "ca", "-gencrl", "-config", str(folder / "openssl.cnf"), "-out", str(folder / "openssl.crl")]
    began = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return time.perf_counter() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def make(folder: Path) -> tuple[float, float, float]:
    """Make our list in this process; return seconds, those of the processor, and peak resident memory in MiB."""
    signer = FileSigner(_key(folder))
    ca = _Ca(x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes()), signer)
    store = open_store(f"sqlite:///{folder / 'birthmark.db'}", journal=folder / "journal")
    now = datetime.now(UTC).replace(microsecond=0)
    began, began_cpu = time.perf_counter(), time.process_time()
    issue = store.next_crl(_ISSUER, at=now)
    revoked = store.revoked_entries(_ISSUER, since=now)
    der = build_crl(ca, revoked, number=issue.number, now=now, next_update=now + timedelta(days=7))
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    status = Path("/proc/self/status").read_text()
    peak_kib = int(status.partition("VmHWM:")[2].split()[0])  # of this program alone, unlike getrusage's
    (folder / "ours.crl").write_bytes(der)
    store.close()
    return seconds, cpu_seconds, peak_kib / 1024


def _key(folder: Path) -> ec.EllipticCurvePrivateKey:
    key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("want the key that was just written")
    return key


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A CA with many revoked")])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=30))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hash_for(key.curve))
    )


def _fill(folder: Path, entries: int) -> None:
    """Write the same revoked certificates into our database and into OpenSSL's index."""
    database = folder / "birthmark.db"
    open_store(f"sqlite:///{database}", journal=folder / "journal", create=True).close()
    draw, now = random.Random(1), int(time.time())  # noqa: S311 - any numbers do
    with (folder / "index.txt").open("w") as index, sqlite3.connect(database) as connection:
        connection.execute("PRAGMA synchronous=OFF")

        def rows() -> Iterator[tuple[object, ...]]:
            for number in range(entries):
                serial = f"{draw.getrandbits(128) >> 2 | 1 << 126:x}"
                revoked = now - draw.randrange(10**6)
                ours, theirs = _REASONS[number % len(_REASONS)]
                at = datetime.fromtimestamp(revoked, UTC).strftime("%y%m%d%H%M%SZ")
                reason = f",{theirs}" if theirs else ""
                index.write(f"R\t491231235959Z\t{at}{reason}\t{serial.upper()}\tunknown\t/CN={number}\n")
                yield (f"{number:064x}", _ISSUER, serial, _NEVER_US, now, revoked * 1_000_000, ours)

        connection.executemany(_INSERT, rows())
    connection.close()


def _listed(crl: x509.CertificateRevocationList) -> set[int]:
    return {entry.serial_number for entry in crl}


_NEVER_US: Final = 253_402_300_799_000_000
_INSERT: Final = """
INSERT INTO certificates (sha256, issuer_sha256, serial_number, profile, device_id, subject, not_before_us,
    not_after_us, der, issued_at_us, spki_sha256, revoked_at_us, reason, issued_by, revoked_by)
VALUES (?1, ?2, ?3, 'idevid', NULL, 'CN=x', 0, ?4, zeroblob(600), ?5, '', ?6, ?7, '', 'alice')
"""
_OPENSSL: Final = """
[ca]
default_ca = ours
[ours]
database = {folder}/index.txt
crlnumber = {folder}/crlnumber
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
default_crl_days = 7
crl_extensions = extensions
unique_subject = no
[extensions]
authorityKeyIdentifier = keyid
"""


if __name__ == "__main__":
    if len(sys.argv) == 2 and Path(sys.argv[1]).is_dir():
        theirs = make_by_openssl(Path(sys.argv[1]))
        print(json.dumps([make(Path(sys.argv[1])), theirs]))
    else:
        print(json.dumps(asdict(measure_crl(*map(int, sys.argv[1:])))))
