"""What left the door: one signed object for each device, in the shape of Microchip's Trust Platform manifests.

    [ {"payload": ..., "protected": ..., "header": {"uniqueId": SERIAL}, "signature": ...}, ... ]

Each is a JWS in the flattened JSON serialization (RFC 7515 §7.2.2), ES256, signed by the station that made the device.
The protected header is {alg, kid, typ, x5t#S256}: kid is the certificate's subject key identifier. The payload is a
SecureElement object, version 3; what Microchip has no member for stands in `modelInfo`. The station's chain is not in
it: it goes beside, as PEM. Several stations' manifests are one when their arrays are joined.
Source: Microchip DS40002167, "Trust Platform Manifest File Full Format", §2.3-2.8; docs/factory.md.
"""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from birthmark_server.attestation.certificate import parse_certificate
from birthmark_server.attestation.errors import CertificateMalformed, WeakKey
from birthmark_server.factory.entry import Entry
from birthmark_server.factory.out.errors import NothingMade
from birthmark_server.factory.out.folder import Attempt
from birthmark_server.factory.out.jwk import spki, write_jwk
from birthmark_server.factory.out.proof import ProvenRecord
from birthmark_server.factory.station.events import write_moment
from birthmark_server.factory.station.known import KnownUnit
from birthmark_server.factory.station.signer import StationKey
from birthmark_server.factory.values import Outcome
from birthmark_server.tpm.public import PublicKey, parse_public
from birthmark_wire import jws
from birthmark_wire.encoding import b64, unb64, write_json

FORMAT: Final = "birthmark-manifest/1"
ELEMENT_VERSION: Final = 3
BORN: Final = "born"
AWAITING: Final = "awaiting-birth"
AK_PUBLIC: Final = "ak_public"
"""The fact of a device's IDENTIFY phase that holds its AK's TPMT_PUBLIC, base64url."""


@dataclass(frozen=True, slots=True)
class Leaving:
    """A device that left the line. made_at: when its last attempt ended. idevid: DER, empty while it awaits its birth.
    ek_certificate: DER, the one of the EK that it is known by; empty where its TPM has none. ak: None where the record
    does not have it whole (its hash is in the entry). entry_sha256: of the JWS that the server has."""

    entry: Entry
    device_id: str
    station: str
    made_at: datetime
    idevid: bytes
    ek_certificate: bytes
    ak: PublicKey | None
    entry_sha256: str

    @property
    def state(self) -> str:
        """BORN or AWAITING."""
        return BORN if self.idevid else AWAITING

    @property
    def birth_key(self) -> PublicKey:
        """The key that it was born with, or asks with."""
        key = x509.load_der_x509_csr(self.entry.csr).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise TypeError(f"want a birth key on a curve, got {type(key).__name__}")
        return key


def leaving(record: ProvenRecord, workorder: str) -> list[Leaving]:
    """Return the devices of a work order that this station let go, by serial number: those that passed, and those that
    are locked and labelled and await their birth. Raise NothingMade where there is none."""
    units = [unit for unit in record.folder.units(workorder) if unit.jws and not unit.quarantine and _left(unit)]
    if not units:
        orders = ", ".join(record.folder.workorders) or "none"
        raise NothingMade(
            f"nothing of work order {workorder!r} left station {record.folder.station} yet; it knows work orders: "
            f"{orders}"
        )
    last: dict[str, Attempt] = {attempt.serial: attempt for attempt in record.folder.attempts}
    identified = {attempt.serial: text for attempt in record.folder.attempts if (text := attempt.fact(AK_PUBLIC))}
    return [
        _leaving(record, unit, record.entries[unit.serial], last[unit.serial], identified.get(unit.serial, ""))
        for unit in units
    ]


def _left(unit: KnownUnit) -> bool:
    return unit.is_made or (unit.outcome is not Outcome.FAIL and unit.labelled and unit.locked and unit.awaits_birth)


def _leaving(record: ProvenRecord, unit: KnownUnit, entry: Entry, last: Attempt, ak_public: str) -> Leaving:
    return Leaving(
        entry=entry,
        device_id=unit.device_id,
        station=record.folder.station,
        made_at=last.ended_at or last.began_at,
        idevid=unit.certificate,
        ek_certificate=_certificate_of(entry),
        ak=_ak(entry, ak_public),
        entry_sha256=sha256(unit.jws.encode("ascii")).hexdigest(),
    )


def _certificate_of(entry: Entry) -> bytes:
    """Return the EK certificate whose key is the EK that the device is known by; genuine ones may be odd DER."""
    for der in entry.ek_certificates:
        try:
            if parse_certificate(der).key_sha256 == entry.ek_sha256:
                return der
        except (CertificateMalformed, WeakKey):
            continue
    return b""


def _ak(entry: Entry, text: str) -> PublicKey | None:
    """Return the AK, if what the record has is the one that the entry was signed for."""
    public = unb64(text, field=AK_PUBLIC) if text else b""
    return parse_public(public).public_key() if sha256(public).hexdigest() == entry.ak_sha256 else None


def write_manifest(devices: Iterable[Leaving], *, key: StationKey, now: datetime) -> Iterator[str]:
    """Yield the manifest's text, a line for each device. now: of the signatures."""
    before = "[\n"
    for device in devices:
        yield before + sign(device, key=key, now=now)
        before = ",\n"
    yield "\n]\n"


def sign(device: Leaving, *, key: StationKey, now: datetime) -> str:
    """Return one device's object, in one line of JSON."""
    protected = b64(write_json(protected_header(key.certificate)))
    payload = b64(write_json(element(device, key=key, now=now)))
    signed = f"{protected}.{payload}".encode("ascii")
    whole = jws.join(signed, key.key.sign(signed, ec.ECDSA(hashes.SHA256()))).decode("ascii")
    members = {
        "payload": payload,
        "protected": protected,
        "header": {"uniqueId": device.entry.serial},
        "signature": whole.rpartition(".")[2],
    }
    return write_json(members).decode("utf-8")


def protected_header(certificate: x509.Certificate) -> dict[str, object]:
    """Return what Microchip's SignedSecureElementProtectedHeader has."""
    return {"alg": jws.ALGORITHM, "kid": key_id(certificate), "typ": "JWT", "x5t#S256": thumbprint(certificate)}


def key_id(certificate: x509.Certificate) -> str:
    """Return its subject key identifier (the value), base64url."""
    return b64(certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest)


def thumbprint(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of its DER, base64url (RFC 7515 §4.1.8)."""
    return b64(sha256(certificate.public_bytes(Encoding.DER)).digest())


def element(device: Leaving, *, key: StationKey, now: datetime) -> dict[str, object]:
    """Return the payload: a SecureElement object."""
    entry = device.entry
    organization = {"organizationName": _organization(key.certificate)}
    return {
        "version": ELEMENT_VERSION,
        "model": entry.model,
        "partNumber": entry.model,
        "manufacturer": organization,
        "provisioner": organization | {"organizationalUnitName": device.station},
        "distributor": organization,
        "groupId": entry.workorder,
        "provisioningTimestamp": write_moment(device.made_at),
        "uniqueId": entry.serial,
        "publicKeySet": {"keys": list(_keys(device))},
        "modelInfo": {
            "format": FORMAT,
            "state": device.state,
            "deviceId": device.device_id,
            "operator": entry.operator,
            "mac": entry.mac,
            "firmware": entry.firmware,
            "imageSha256": entry.image_sha256,
            "ekSha256": entry.ek_sha256,
            "ekCertificateSha256": _digest(device.ek_certificate),
            "akSha256": entry.ak_sha256,
            "idevidSha256": _digest(device.idevid),
            "entrySha256": device.entry_sha256,
            "signedAt": write_moment(now),
        },
    }


def _keys(device: Leaving) -> Iterator[dict[str, object]]:
    if device.ek_certificate:
        ek = parse_certificate(device.ek_certificate).key
        yield write_jwk(ek, kid="ek", use="enc", x5t=device.ek_certificate)
    if device.ak is not None:
        yield write_jwk(device.ak, kid="ak", use="sig")
    yield write_jwk(device.birth_key, kid="birth", use="sig", x5c=device.idevid)


def _organization(certificate: x509.Certificate) -> str:
    return str(certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value)


def _digest(der: bytes) -> str:
    return sha256(der).hexdigest() if der else ""


def write_signers(key: StationKey) -> bytes:
    """Return the station's chain, PEM: what the receiver checks signatures with, and leads to the root."""
    certificates = (x509.load_der_x509_certificate(der) for der in key.chain)
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


COLUMNS: Final = (
    "serial",
    "model",
    "device_id",
    "state",
    "workorder",
    "station",
    "operator",
    "made_at",
    "mac",
    "firmware",
    "image_sha256",
    "ek_sha256",
    "ek_certificate_sha256",
    "ak_sha256",
    "birth_key_sha256",
    "idevid_sha256",
)


def write_table(devices: Iterable[Leaving]) -> str:
    """Return the same devices as CSV (RFC 4180), for a spreadsheet. It is not signed."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for device in devices:
        entry = device.entry
        row = (
            entry.serial,
            entry.model,
            device.device_id,
            device.state,
            entry.workorder,
            device.station,
            entry.operator,
            write_moment(device.made_at),
            entry.mac,
            entry.firmware,
            entry.image_sha256,
            entry.ek_sha256,
            _digest(device.ek_certificate),
            entry.ak_sha256,
            sha256(spki(device.birth_key)).hexdigest(),
            _digest(device.idevid),
        )
        writer.writerow(_plain(cell) for cell in row)
    return text.getvalue()


def _plain(cell: str) -> str:
    """Return a cell that no spreadsheet takes for a formula: a device chooses the name of its firmware."""
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
