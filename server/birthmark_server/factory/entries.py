"""Taking what stations signed: the JWS is verified, and the device expected from then on.

Verified: the station's certificate is our Infra CA's, of a station, in time when the entry was signed, on record and
not revoked; the signature is its key's; who brings it is that station, or an operator whose role admits devices. What
is believed of it then: that this station saw this TPM under this serial number. Not proven: that the TPM is genuine,
or has any of these keys; that is the enrollment's, which asks of a device expected so what it asks of any other.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import ClassVar, Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from birthmark_server.admission import device_id_for
from birthmark_server.ca.authority import Authority
from birthmark_server.ca.record import common_name
from birthmark_server.domain import Caller, CertificateProfile, CertificateRecord, Device
from birthmark_server.errors import Refused
from birthmark_server.factory.entry import ENTRY_TYPE, Entry
from birthmark_server.factory.serials import SerialPool
from birthmark_server.refusals import RefusalBook
from birthmark_server.store.errors import StationRevoked
from birthmark_server.store.workorder_protocol import WorkOrderStore
from birthmark_server.workorders import StationEntry
from birthmark_wire import jws
from birthmark_wire.errors import DecodeError

ENTRY_MIME: Final = "application/jose"
MOST_ENTRY_BYTES: Final = 65_536
"""Of one JWS: an entry has every EK certificate of its TPM."""
DOOR: Final = "station-entry"
"""How the book of refusals calls it."""


class NotAStation(Refused):
    """The entry is signed with a certificate that is no station's, or is not on record here."""

    code: ClassVar[str] = "not-a-station"


class EntryForged(Refused):
    """The signature is not that of the certificate's key over this entry."""

    code: ClassVar[str] = "entry-forged"


class EntryOfAnother(Refused):
    """The station that brings the entry is not the one that signed it."""

    code: ClassVar[str] = "entry-of-another"


class CertificateStore(Protocol):
    """What is asked of the record: a part of store.protocol.Store."""

    def certificate_by_sha256(self, sha256: str) -> tuple[CertificateRecord, Device | None] | None:
        """The certificate and its device, or None: a certificate that we do not know is nobody's."""


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """A verified entry. Only read_entry makes one. station: the name in the certificate."""

    entry: Entry
    station: str
    station_sha256: str
    jws: bytes


def read_entry(data: bytes, *, authority: Authority, store: CertificateStore) -> SignedEntry:
    """Verify a JWS or raise DecodeError, NotAStation, StationRevoked, EntryForged, or the authority's
    UntrustedCertificate, CertificateNotYetValid, CertificateExpired (by the time that the entry says)."""
    message = jws.decode(data, message_type=ENTRY_TYPE, most=MOST_ENTRY_BYTES)
    entry = Entry.decode(message.payload)
    leaf = authority.verify_leaf(message.chain[0], now=entry.made_at)
    if leaf.profile is not CertificateProfile.STATION:
        raise NotAStation(f"want an entry that a station signed, got one signed by the {leaf.profile} {leaf.name}")
    known = store.certificate_by_sha256(leaf.sha256)
    if known is None:
        raise NotAStation(f"the certificate of station {leaf.name} that signed the entry is not on record here")
    if known[0].revoked_at is not None:
        raise StationRevoked(f"the certificate of station {leaf.name} was revoked at {known[0].revoked_at}")
    key = leaf.certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise EntryForged(f"want a P-256 key in the certificate of station {leaf.name}")
    try:
        key.verify(message.signature, message.signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise EntryForged(f"the signature is not that of station {leaf.name} over this entry") from None
    return SignedEntry(entry, common_name(known[0].subject), leaf.sha256, data)


@dataclass(frozen=True, slots=True)
class EntryService:
    """Takes entries, whoever brings them. now: UTC."""

    store: CertificateStore
    workorders: WorkOrderStore
    authority: Authority
    refusals: RefusalBook
    now: Callable[[], datetime]

    def bring(self, data: bytes, workorder: str, caller: Caller) -> StationEntry:
        """Have the device of this JWS expected; return the entry that stands. Raise what read_entry() and
        WorkOrderStore.admit() do, EntryOfAnother, BadSerial; each refusal is recorded."""
        device_id = ek_sha256 = ""
        try:
            signed = read_entry(data, authority=self.authority, store=self.store)
            device_id, ek_sha256 = device_id_for(signed.entry.serial), signed.entry.ek_sha256
            return self._admit(signed, workorder, caller)
        except Refused as refused:
            self.refusals.write(
                refused,
                door=DOOR,
                caller=caller,
                at=self.now(),
                device_id=device_id,
                ek_sha256=ek_sha256,
                evidence=data,
            )
            raise

    def _admit(self, signed: SignedEntry, workorder: str, caller: Caller) -> StationEntry:
        entry = signed.entry
        if caller.station and caller.station != signed.station:
            raise EntryOfAnother(f"station {signed.station} signed this entry, and station {caller.station} brings it")
        if entry.workorder != workorder:
            raise DecodeError(f"want an entry for work order {workorder!r}, got {entry.workorder!r}", field="workorder")
        order = self.workorders.get(workorder)
        return self.workorders.admit(
            StationEntry(
                sha256=sha256(signed.jws).hexdigest(),
                workorder=workorder,
                place=SerialPool.parse(order.serials).place(entry.serial),
                serial=entry.serial,
                model=entry.model,
                ek_sha256=entry.ek_sha256,
                mac=entry.mac,
                device_id=device_id_for(entry.serial),
                station=signed.station,
                station_sha256=signed.station_sha256,
                operator=entry.operator,
                made_at=entry.made_at,
                brought_by=_name_of(caller),
                brought_at=self.now(),
                jws=signed.jws,
            )
        )


def _name_of(caller: Caller) -> str:
    if caller.station:
        return f"station:{caller.station}"
    return common_name(caller.certificate.subject) if caller.certificate else caller.source
