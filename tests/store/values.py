"""Values for store tests: small, valid, and different wherever their number differs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from birthmark_server.domain import (
    Assurance,
    Batch,
    CertificateProfile,
    CertificateRecord,
    DenyEntry,
    Device,
    DeviceModel,
    DeviceState,
    EstNonce,
    Evidence,
    ManifestEntry,
    PendingEnrollment,
)
from birthmark_server.store.protocol import Birth, Issuance, Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FOREVER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

MODEL = DeviceModel("edge-1", "rsa-2048", True, (0, 7), ("id:49465800", "id:4E544300"), "alice")
ISSUER = "15" * 32


def digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def ek(number: int, other: int = 0) -> str:
    return digest(f"ek {number} {other}")


def manifest_entry(number: int, **changes: Any) -> ManifestEntry:
    entry = ManifestEntry(ek(number), f"SN-{number:06}", MODEL.name, f"dev-{number:06}", "alice", NOW)
    return replace(entry, **changes)


def batch(name: str = "lot-1", *, quota: int = 3, **changes: Any) -> Batch:
    return replace(Batch(name, MODEL.name, quota, 0, "alice", NOW, NOW + DAY), **changes)


def device(number: int, **changes: Any) -> Device:
    """As enrollment composes it for a device that is not on record."""
    new = Device(
        device_id=f"dev-{number:06}",
        serial=f"SN-{number:06}",
        model=MODEL.name,
        batch="",
        state=DeviceState.ACTIVE,
        epoch=1,
        assurance=Assurance.VENDOR_CERTIFICATE,
        ek_sha256=ek(number),
        other_ek_sha256=(ek(number, 1), ek(number, 2)),
        ak_public=b"ak %d" % number,
        birth_spki_sha256=digest(f"birth key {number}"),
        enrolled_at=NOW,
        last_seen_at=NOW,
    )
    return replace(new, **changes)


def certificate(
    name: str, device_id: str = "", *, profile: CertificateProfile = CertificateProfile.LDEVID, **changes: Any
) -> CertificateRecord:
    record = CertificateRecord(
        sha256=digest(f"certificate {name}"),
        issuer_sha256=ISSUER,
        serial_number=digest(f"serial {name}")[:32],
        profile=profile,
        device_id=device_id,
        subject=f"CN={name}",
        not_before=NOW,
        not_after=FOREVER if profile is CertificateProfile.IDEVID else NOW + 30 * DAY,
        der=f"DER of {name}".encode() * 40,
        issued_at=NOW,
        spki_sha256=digest(f"key of {name}"),
    )
    return replace(record, **changes)


def pending(number: int, name: str = "a", **changes: Any) -> PendingEnrollment:
    new = PendingEnrollment(
        enrollment_id=f"enrollment-{number}-{name}",
        source="192.0.2.1",
        station="",
        request=b"\x00request %d" % number * 50,
        nonce=b"nonce",
        secret_sha256=b"secret",
        ek_sha256=ek(number),
        other_ek_sha256=(ek(number, 1), ek(number, 2)),
        ak_name=b"ak name",
        key_name=b"key name",
        assurance=Assurance.VENDOR_CERTIFICATE,
        device_id=f"dev-{number:06}",
        serial=f"SN-{number:06}",
        model=MODEL.name,
        batch="",
        epoch=0,
        created_at=NOW,
        expires_at=NOW + 5 * MINUTE,
    )
    return replace(new, **changes)


EVIDENCE = Evidence("activation", "1.0", "roots-7", (("request", b"\x00\x01"), ("empty", b""), ("née", b"x" * 300)))


def birth(begun: PendingEnrollment, of: Device, **changes: Any) -> Birth:
    """The birth that ends `begun`, with a new IDevID of its own."""
    new = Birth(
        enrollment_id=begun.enrollment_id,
        expected_epoch=begun.epoch,
        device=of,
        certificate=certificate(begun.enrollment_id, of.device_id, profile=CertificateProfile.IDEVID),
        revoke_previous=False,
        swap=None,
        evidence=EVIDENCE,
        request_sha256=digest("activation"),
        answer=b"the answer",
        answer_expires_at=NOW + DAY,
        at=NOW,
    )
    return replace(new, **changes)


def bear(store: Store, number: int, name: str = "a", **changes: Any) -> Device:
    """Bring a device into the world, through the store's own door; return it as it is on record."""
    begun = pending(number, name)
    store.add_pending(begun, most_per_source=8)
    of = device(number, **changes)
    store.commit_birth(birth(begun, of))
    return store.get_device(of.device_id)


def come_home(store: Store, of: Device, name: str, **changes: Any) -> Birth:
    """Begin another enrollment of a device on record; return the birth that would end it with the same IDevID."""
    begun = replace(pending(1, name), device_id=of.device_id, serial=of.serial, epoch=of.epoch, ek_sha256=of.ek_sha256)
    store.add_pending(begun, most_per_source=8)
    return replace(birth(begun, of, certificate=None), **changes)


def give_nonce(store: Store, device_id: str, name: str = "n", *, expires_at: datetime = NOW + 5 * MINUTE) -> bytes:
    value = sha256(f"nonce {device_id} {name}".encode()).digest()
    store.add_est_nonce(EstNonce(value, device_id, expires_at))
    return value


def issuance(of: Device, name: str, nonce: bytes | None, **changes: Any) -> Issuance:
    record = certificate(f"{of.device_id} {name}", of.device_id)
    return replace(Issuance(of.device_id, of.epoch, record, nonce, EVIDENCE, NOW), **changes)


def denial(**changes: Any) -> DenyEntry:
    return replace(DenyEntry("", "", (), "stolen", "alice", NOW), **changes)
