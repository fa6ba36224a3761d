"""Does a station's record hold against the installation's root? Offline: the folder and the root are all it takes.

Proven by verify_record(): the chain of hashes; each entry is signed by a certificate of this station, of this
installation, in time when the entry was made, and says what its line says; each birth certificate is of the key in the
entry and names the unit. Not proven: that no lines are missing at the end, that a certificate was not revoked, and who
issued a birth certificate (the server knows all three).
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from birthmark_server.errors import BirthmarkError
from birthmark_server.factory.entries import MOST_ENTRY_BYTES
from birthmark_server.factory.entry import ENTRY_TYPE, Entry
from birthmark_server.factory.out.errors import RecordUnproven
from birthmark_server.factory.out.folder import StationFolder, of_lines
from birthmark_server.factory.out.jwk import spki
from birthmark_server.factory.station.badge import IS_STATION, Badge, verify_badge
from birthmark_server.factory.station.events import AttemptBegun, Begun, EntrySigned, UnitBorn
from birthmark_server.factory.station.record import RECORD_FILE, Line, read_record
from birthmark_wire import jws
from birthmark_wire.errors import DecodeError


@dataclass(frozen=True, slots=True)
class ProvenRecord:
    """A record that holds. Only verify_record makes one. entries: the last one of each serial number; lines: how many;
    last_sha256: of the last line, to compare with what was written down elsewhere."""

    folder: StationFolder
    entries: dict[str, Entry]
    lines: int
    signed: int
    born: int
    last_sha256: str


def verify_record(path: Path, *, root: x509.Certificate) -> ProvenRecord:
    """Verify a station's folder. Raise RecordDamaged or RecordUnproven by the first line that is wrong, or OSError."""
    lines = list(read_record(path / RECORD_FILE))
    if not lines:
        raise RecordUnproven(f"{path / RECORD_FILE} is empty; want a line that says whose it is")
    proof = _Proof(root)
    for line in lines:
        try:
            proof.take(line)
        except (BirthmarkError, DecodeError, ValueError) as error:
            raise RecordUnproven(f"{path / RECORD_FILE}, line {line.number}: {error}") from None
    folder = of_lines(path, lines)
    return ProvenRecord(folder, proof.entries, len(lines), proof.signed, proof.born, lines[-1].sha256)


def verify_entry(text: str, *, root: x509.Certificate) -> tuple[Entry, Badge]:
    """Return an entry and the station that signed it; raise DecodeError, RecordUnproven, or as verify_badge."""
    message = jws.decode(text.encode("ascii"), message_type=ENTRY_TYPE, most=MOST_ENTRY_BYTES)
    entry = Entry.decode(message.payload)
    chain = [x509.load_der_x509_certificate(der) for der in message.chain]
    badge = verify_badge(
        chain, root=root, allowed=IS_STATION, now=entry.made_at, whose="the certificate that signed it"
    )
    key = chain[0].public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise RecordUnproven(f"want a P-256 key in the certificate of station {badge.name}")
    try:
        key.verify(message.signature, message.signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise RecordUnproven(f"the entry's signature is not that of station {badge.name}") from None
    return entry, badge


class _Proof:
    def __init__(self, root: x509.Certificate) -> None:
        self._root = root
        self._station = ""
        self._workorders: dict[str, tuple[str, str]] = {}
        self.entries: dict[str, Entry] = {}
        self.signed = self.born = 0

    def take(self, line: Line) -> None:
        match line.event:
            case Begun(station, _):
                self._station = station
            case AttemptBegun() as begun:
                self._workorders[begun.serial] = begun.workorder, begun.model
            case EntrySigned() as signed:
                self._entry(signed)
            case UnitBorn(serial, _, certificate):
                self._birth(serial, x509.load_der_x509_certificate(certificate))

    def _entry(self, signed: EntrySigned) -> None:
        entry, badge = verify_entry(signed.jws, root=self._root)
        _same("station", badge.name, self._station)
        _same("serial", entry.serial, signed.serial)
        _same("work order and model", (entry.workorder, entry.model), self._workorders.get(signed.serial))
        for name in ("ek_sha256", "mac", "firmware", "image_sha256"):
            _same(name, getattr(entry, name), getattr(signed, name))
        self.entries[signed.serial] = entry
        self.signed += 1

    def _birth(self, serial: str, certificate: x509.Certificate) -> None:
        entry = self.entries.get(serial)
        if entry is None:
            raise RecordUnproven(f"{serial} was born, and no entry was signed for it")
        check_birth(certificate, serial=serial, csr=entry.csr)
        self.born += 1


def check_birth(certificate: x509.Certificate, *, serial: str, csr: bytes) -> None:
    """Raise RecordUnproven unless this certificate names the unit and has the key of its request."""
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
    if names != [serial]:
        raise RecordUnproven(f"want a birth certificate of {serial}, got one of {', '.join(names) or 'nobody'}")
    key, wanted = certificate.public_key(), x509.load_der_x509_csr(csr).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(wanted, ec.EllipticCurvePublicKey):
        raise RecordUnproven(f"the birth certificate of {serial} has no key on a curve")
    if (seen := spki(key)) != spki(wanted):
        raise RecordUnproven(
            f"the birth certificate of {serial} is not of the key that it asked with: its SHA-256 is "
            f"{sha256(seen).hexdigest()}"
        )


def _same(what: str, signed: object, written: object) -> None:
    if signed != written:
        raise RecordUnproven(f"the signed {what} is {signed!r}, the line's {written!r}")
