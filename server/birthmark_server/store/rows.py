"""Rows <-> domain values. Nothing outside the store sees a row, and nothing inside it a dict of anything.

A `*_values` function makes the named parameters of an insert; a `*_from` function reads a row by position, in the
order of its table (tables.py). Times are microseconds since 1970, lists are joined with commas.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from birthmark_server.domain import (
    Assurance,
    Batch,
    BoardSwap,
    CertificateProfile,
    CertificateRecord,
    DenyEntry,
    Device,
    DeviceModel,
    DeviceRevocation,
    DeviceState,
    ManifestEntry,
    PendingEnrollment,
    RevocationReason,
)
from birthmark_server.store.statement import Row, Value

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_us(at: datetime) -> int:
    """Whole microseconds since 1970; raise TypeError for a time without a zone."""
    return (at - _EPOCH) // _MICROSECOND


def to_us_or_none(at: datetime | None) -> int | None:
    return None if at is None else to_us(at)


def from_us(value: int) -> datetime:
    return _EPOCH + timedelta(microseconds=value)


def from_us_or_none(value: int | None) -> datetime | None:
    return None if value is None else from_us(value)


def joined(values: Sequence[object]) -> str:
    return ",".join(map(str, values))


def split(value: str) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


# -- what operators set up


def model_values(model: DeviceModel) -> dict[str, Value]:
    return {
        "name": model.name,
        "ek_template": model.ek_template,
        "require_ek_certificate": model.require_ek_certificate,
        "quote_pcrs": joined(model.quote_pcrs),
        "manufacturers": joined(model.manufacturers),
        "added_by": model.added_by,
    }


def model_from(row: Row) -> DeviceModel:
    name, ek_template, require, pcrs, manufacturers, added_by = row
    return DeviceModel(name, ek_template, bool(require), tuple(map(int, split(pcrs))), split(manufacturers), added_by)


def manifest_values(entry: ManifestEntry) -> dict[str, Value]:
    return {
        "ek_sha256": entry.ek_sha256,
        "serial": entry.serial,
        "model": entry.model,
        "device_id": entry.device_id,
        "imported_by": entry.imported_by,
        "imported_at_us": to_us(entry.imported_at),
        "batch": entry.batch,
    }


def manifest_from(row: Row) -> ManifestEntry:
    ek_sha256, serial, model, device_id, imported_by, imported_at, batch = row
    return ManifestEntry(ek_sha256, serial, model, device_id, imported_by, from_us(imported_at), batch)


def batch_values(batch: Batch) -> dict[str, Value]:
    return {
        "name": batch.name,
        "model": batch.model,
        "quota": batch.quota,
        "used": batch.used,
        "opened_by": batch.opened_by,
        "opened_at_us": to_us(batch.opened_at),
        "closes_at_us": to_us(batch.closes_at),
        "closed_at_us": to_us_or_none(batch.closed_at),
        "closed_by": batch.closed_by,
    }


def batch_from(row: Row) -> Batch:
    name, model, quota, used, opened_by, opened_at, closes_at, closed_at, closed_by = row
    return Batch(
        name,
        model,
        quota,
        used,
        opened_by,
        from_us(opened_at),
        from_us(closes_at),
        from_us_or_none(closed_at),
        closed_by,
    )


def denial_values(entry: DenyEntry, *, denial_id: str) -> dict[str, Value]:
    return {
        "device_id": entry.device_id,
        "serial": entry.serial,
        "ek_sha256": joined(entry.ek_sha256),
        "reason": entry.reason,
        "denied_by": entry.denied_by,
        "denied_at_us": to_us(entry.denied_at),
        "claimed_ek_sha256": joined(entry.claimed_ek_sha256),
        "denial_id": denial_id,
    }


def denial_from(row: Row) -> DenyEntry:
    device_id, serial, eks, reason, denied_by, denied_at, claims = row
    return DenyEntry(device_id, serial, split(eks), reason, denied_by, from_us(denied_at), split(claims))


def denied_keys(device_id: str, serial: str, ek_sha256: Sequence[str], claims: Sequence[str] = ()) -> list[str]:
    """The keys that a denial of these stands under; an empty value is none."""
    named = [f"id:{device_id}"] if device_id else []
    if serial:
        named.append(f"serial:{serial}")
    return named + [f"ek:{ek}" for ek in ek_sha256] + [f"claim:{ek}" for ek in claims]


# -- devices and certificates


def device_values(device: Device, *, rekeyed_at_us: int | None) -> dict[str, Value]:
    return {
        "device_id": device.device_id,
        "serial": device.serial or None,
        "model": device.model,
        "batch": device.batch,
        "state": device.state.value,
        "epoch": device.epoch,
        "assurance": device.assurance.value,
        "ek_sha256": device.ek_sha256,
        "other_ek_sha256": joined(device.other_ek_sha256),
        "ak_public": device.ak_public,
        "birth_spki_sha256": device.birth_spki_sha256,
        "enrolled_at_us": to_us(device.enrolled_at),
        "last_seen_at_us": to_us_or_none(device.last_seen_at),
        "rekeyed_at_us": rekeyed_at_us,
    }


def device_from(row: Row) -> Device:
    device_id, serial, model, batch, state, epoch, assurance, ek, others, ak, spki, enrolled_at, last_seen_at = row
    return Device(
        device_id,
        serial or "",
        model,
        batch,
        DeviceState(state),
        epoch,
        Assurance(assurance),
        ek,
        split(others),
        ak,
        spki,
        from_us(enrolled_at),
        from_us_or_none(last_seen_at),
    )


def certificate_values(certificate: CertificateRecord) -> dict[str, Value]:
    return {
        "sha256": certificate.sha256,
        "issuer_sha256": certificate.issuer_sha256,
        "serial_number": certificate.serial_number,
        "profile": certificate.profile.value,
        "device_id": certificate.device_id or None,
        "subject": certificate.subject,
        "not_before_us": to_us(certificate.not_before),
        "not_after_us": to_us(certificate.not_after),
        "der": certificate.der,
        "issued_at_us": to_us(certificate.issued_at),
        "spki_sha256": certificate.spki_sha256,
        "revoked_at_us": to_us_or_none(certificate.revoked_at),
        "reason": None if certificate.reason is None else certificate.reason.value,
        "issued_by": certificate.issued_by,
        "revoked_by": certificate.revoked_by,
    }


def certificate_from(row: Row) -> CertificateRecord:
    sha256, issuer, serial, profile, device_id, subject, start, end, der, issued_at, spki = row[:11]
    revoked_at, reason, issued_by, revoked_by = row[11:]
    return CertificateRecord(
        sha256,
        issuer,
        serial,
        CertificateProfile(profile),
        device_id or "",
        subject,
        from_us(start),
        from_us(end),
        der,
        from_us(issued_at),
        spki,
        from_us_or_none(revoked_at),
        None if reason is None else RevocationReason(reason),
        issued_by,
        revoked_by,
    )


def revocation_values(revocation: DeviceRevocation) -> dict[str, Value]:
    return {
        "device_id": revocation.device_id,
        "epoch": revocation.epoch,
        "reason": revocation.reason.value,
        "at_us": to_us(revocation.at),
        "revoked_by": revocation.by,
        "lifted_at_us": to_us_or_none(revocation.lifted_at),
        "lifted_by": revocation.lifted_by,
        "state": revocation.state.value,
        "note": revocation.note,
    }


def revocation_from(row: Row) -> DeviceRevocation:
    device_id, epoch, reason, at, by, lifted_at, lifted_by, state, note = row
    return DeviceRevocation(
        device_id,
        epoch,
        RevocationReason(reason),
        from_us(at),
        by,
        from_us_or_none(lifted_at),
        lifted_by,
        DeviceState(state),
        note,
    )


def swap_values(swap: BoardSwap) -> dict[str, Value]:
    return {
        "device_id": swap.device_id,
        "new_ek_sha256": swap.new_ek_sha256,
        "requested_by": swap.requested_by,
        "requested_at_us": to_us(swap.requested_at),
        "approved_by": swap.approved_by,
        "approved_at_us": to_us_or_none(swap.approved_at),
        "expires_at_us": to_us_or_none(swap.expires_at),
        "ended_at_us": to_us_or_none(swap.ended_at),
    }


def swap_from(row: Row) -> BoardSwap:
    device_id, ek, requested_by, requested_at, approved_by, approved_at, expires_at, ended_at = row
    return BoardSwap(
        device_id,
        ek,
        requested_by,
        from_us(requested_at),
        approved_by,
        from_us_or_none(approved_at),
        from_us_or_none(expires_at),
        from_us_or_none(ended_at),
    )


# -- between two requests


def pending_values(pending: PendingEnrollment) -> dict[str, Value]:
    return {
        "enrollment_id": pending.enrollment_id,
        "source": pending.source,
        "station": pending.station,
        "request": pending.request,
        "nonce": pending.nonce,
        "secret_sha256": pending.secret_sha256,
        "ek_sha256": pending.ek_sha256,
        "other_ek_sha256": joined(pending.other_ek_sha256),
        "ak_name": pending.ak_name,
        "key_name": pending.key_name,
        "assurance": pending.assurance.value,
        "device_id": pending.device_id,
        "serial": pending.serial,
        "model": pending.model,
        "batch": pending.batch,
        "epoch": pending.epoch,
        "created_at_us": to_us(pending.created_at),
        "expires_at_us": to_us(pending.expires_at),
    }


def pending_from(row: Row) -> PendingEnrollment:
    """`row`: the pending row, then request_sha256, answer and expiry of its answer or three nulls."""
    enrollment_id, source, station, request, nonce, secret_sha256, ek, others, ak_name, key_name = row[:10]
    assurance, device_id, serial, model, batch, epoch, created_at, expires_at = row[10:18]
    request_sha256, answer, answer_expires_at = row[18:]
    return PendingEnrollment(
        enrollment_id,
        source,
        station,
        request,
        nonce,
        secret_sha256,
        ek,
        split(others),
        ak_name,
        key_name,
        Assurance(assurance),
        device_id,
        serial,
        model,
        batch,
        epoch,
        from_us(created_at),
        from_us(expires_at),
        request_sha256 or "",
        answer or b"",
        from_us_or_none(answer_expires_at),
    )
