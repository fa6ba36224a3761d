"""A manifest, as who receives it checks it: offline, with the signers' file beside it and the installation's root.

Proven by verify_manifest(): each object is signed by a station's certificate of this installation that was valid when
it was signed, and is of that station; no device stands twice; a birth certificate has the key and the serial number
that the object names. Not proven: that the station's certificate was not revoked, and who issued a birth certificate.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from birthmark_server.errors import BirthmarkError
from birthmark_server.factory.out.errors import ManifestWrong
from birthmark_server.factory.out.jwk import read_jwk, spki
from birthmark_server.factory.out.manifest import (
    AWAITING,
    BORN,
    ELEMENT_VERSION,
    FORMAT,
    key_id,
    protected_header,
    thumbprint,
)
from birthmark_server.factory.station.badge import IS_STATION, verify_badge
from birthmark_server.factory.station.events import read_moment
from birthmark_server.tpm.public import PublicKey
from birthmark_wire import ids, jws
from birthmark_wire.encoding import JsonObject, read_json, unb64
from birthmark_wire.errors import DecodeError

_MOST_BYTES: Final = 1 << 30
_SIGNED: Final = ("payload", "protected", "signature")


@dataclass(frozen=True, slots=True)
class ManifestDevice:
    """One device of a manifest that holds. Only verify_manifest makes one."""

    serial: str
    model: str
    workorder: str
    station: str
    state: str
    device_id: str
    ek_sha256: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class _Element:
    """A payload, read; its signature is for the caller to check first."""

    device: ManifestDevice
    organization: str
    signed_at: datetime
    keys: dict[str, PublicKey]
    idevid: bytes
    idevid_sha256: str


def verify_manifest(path: Path, *, signers: Path, root: x509.Certificate) -> list[ManifestDevice]:
    """Verify a manifest's file. Raise ManifestWrong, naming the first device that is wrong, or OSError."""
    chain = read_signers(signers)
    devices: list[ManifestDevice] = []
    seen: dict[tuple[str, str], int] = {}
    for number, item in enumerate(_objects(path), start=1):
        where = f"{path}, device {number}"
        try:
            message = JsonObject(item)
            where += f" ({message.member('header').text('uniqueId')[:80]})"
            device = _verify(message, chain, root)
            _once(device, number, seen)
        except (BirthmarkError, DecodeError, ValueError) as error:
            raise ManifestWrong(f"{where}: {error}") from None
        devices.append(device)
    return devices


def read_signers(path: Path) -> list[x509.Certificate]:
    """Read a PEM file of stations' certificates and what stands above them."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except ValueError:
        raise ManifestWrong(f"{path}: want the stations' certificates, and their CA's, in PEM") from None


def _objects(path: Path) -> Iterable[dict[str, object]]:
    if path.stat().st_size > _MOST_BYTES:
        raise ManifestWrong(f"{path}: want at most {_MOST_BYTES} bytes")
    try:
        items = json.loads(path.read_bytes().decode("utf-8"), object_pairs_hook=_no_duplicates)
    except (ValueError, RecursionError) as error:
        raise ManifestWrong(f"{path}: want a JSON array in UTF-8: {error}") from None
    if not isinstance(items, list) or not items:
        raise ManifestWrong(f"{path}: want a JSON array with a device in it")
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise ManifestWrong(f"{path}, device {number}: want an object")
    return items


def _no_duplicates(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError(f"a member stands twice in one object: {', '.join(name for name, _ in pairs)[:200]}")
    return members


def _verify(message: JsonObject, chain: Sequence[x509.Certificate], root: x509.Certificate) -> ManifestDevice:
    payload, protected, signature = (
        message.text(name, max_chars=1 << 16) for name in ("payload", "protected", "signature")
    )
    header = message.member("header")
    unique_id = header.text("uniqueId")
    header.done()
    message.done()
    signer = _signer(protected, chain)
    _check_signature(signer, f"{protected}.{payload}".encode("ascii"), signature)
    read = _read_element(unb64(payload, field="payload"))
    badge = verify_badge(
        [signer, *chain], root=root, allowed=IS_STATION, now=read.signed_at, whose="the signer's certificate"
    )
    organization = signer.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value
    _same("uniqueId", read.device.serial, unique_id)
    _same("station", read.device.station, badge.name)
    _same("organizationName", read.organization, str(organization))
    _check_keys(read)
    return read.device


def _signer(protected: str, chain: Sequence[x509.Certificate]) -> x509.Certificate:
    header = read_json(unb64(protected, field="protected"))
    wanted = header.text("x5t#S256")
    signer = next((each for each in chain if thumbprint(each) == wanted), None)
    if signer is None:
        raise DecodeError(f"no certificate of the signers' file has SHA-256 {wanted}", field="x5t#S256")
    for name, value in protected_header(signer).items():
        if name != "x5t#S256" and header.text(name) != value:
            raise DecodeError(f"want {value!r}", field=name)
    header.done()
    return signer


def _check_signature(signer: x509.Certificate, signed: bytes, signature: str) -> None:
    key = signer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ManifestWrong("want a signer with a P-256 key")
    raw = unb64(signature, field="signature")
    try:
        key.verify(jws.to_der(raw), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ManifestWrong(f"the signature is not that of the certificate with key id {key_id(signer)}") from None


def _read_element(data: bytes) -> _Element:
    message = read_json(data)
    message.integer("version", low=ELEMENT_VERSION, high=ELEMENT_VERSION)
    serial = ids.printable_name(message.text("uniqueId"), field="uniqueId")
    model = ids.printable_name(message.text("model"), field="model")
    _same("partNumber", message.text("partNumber"), model)
    organization, station = "", ""
    for name in ("manufacturer", "provisioner", "distributor"):
        entity = message.member(name)
        organization = entity.text("organizationName")
        station = entity.text("organizationalUnitName") if name == "provisioner" else station
        entity.done()
    info = message.member("modelInfo")
    _same("format", info.text("format"), FORMAT)
    keys, idevid = _read_keys(message)
    device = ManifestDevice(
        serial=serial,
        model=model,
        workorder=ids.printable_name(message.text("groupId"), field="groupId"),
        station=station,
        state=info.text("state"),
        device_id=info.text("deviceId"),
        ek_sha256=info.text("ekSha256"),
        made_at=read_moment(message.text("provisioningTimestamp"), field="provisioningTimestamp"),
    )
    for name in ("operator", "mac", "firmware", "imageSha256", "ekCertificateSha256", "akSha256", "entrySha256"):
        info.text(name)
    signed_at = read_moment(info.text("signedAt"), field="signedAt")
    idevid_sha256 = info.text("idevidSha256")
    info.done()
    message.done()
    return _Element(device, organization, signed_at, keys, idevid, idevid_sha256)


def _read_keys(message: JsonObject) -> tuple[dict[str, PublicKey], bytes]:
    key_set = message.member("publicKeySet")
    keys: dict[str, PublicKey] = {}
    idevid = b""
    for each in key_set.members("keys", most=3):
        kid = each.text("kid")
        each.text("use")
        keys[kid] = read_jwk(each)
        each.optional_text("x5t#S256")
        if kid == "birth":
            idevid = _read_certificate(each)
        each.done()
    key_set.done()
    return keys, idevid


def _read_certificate(key: JsonObject) -> bytes:
    """Return the certificate of `x5c`, DER; empty where there is none."""
    texts = key.optional_texts("x5c", most=1)
    return jws.read_x5c(texts[0]) if texts else b""


def _check_keys(read: _Element) -> None:
    ek = read.keys.get("ek")
    if ek is not None:
        _same("ekSha256", sha256(spki(ek)).hexdigest(), read.device.ek_sha256)
    birth = read.keys.get("birth")
    if birth is None:
        raise DecodeError("want the birth key", field="publicKeySet.keys")
    _same("state", read.device.state, BORN if read.idevid else AWAITING)
    _same("idevidSha256", read.idevid_sha256, sha256(read.idevid).hexdigest() if read.idevid else "")
    if read.idevid:
        certificate = x509.load_der_x509_certificate(read.idevid)
        names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.SERIAL_NUMBER)]
        _same("serial number in the birth certificate", names, [read.device.serial])
        key = certificate.public_key()
        _same("key in the birth certificate", isinstance(key, ec.EllipticCurvePublicKey) and spki(key), spki(birth))


def _once(device: ManifestDevice, number: int, seen: dict[tuple[str, str], int]) -> None:
    for name, value in _unique(device):
        if (other := seen.setdefault((name, value), number)) != number:
            raise DecodeError(f"{value} is that of device {other} too", field=name)


def _unique(device: ManifestDevice) -> Iterator[tuple[str, str]]:
    yield "uniqueId", device.serial
    yield "ekSha256", device.ek_sha256
    if device.device_id:
        yield "deviceId", device.device_id


def _same(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise DecodeError(f"want {wanted!r}, got {seen!r}", field=what)
