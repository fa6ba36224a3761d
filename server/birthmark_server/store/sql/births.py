"""The transaction in which a device is born, or comes home: all of it, or nothing.

Order: the enrollment is taken (so that of two racing ones the second waits, then fails), the device row is made or
locked (which also holds off the fleet lock of `deny`), only then the deny list is read; the batch comes last, since
every birth of the batch waits for its row.
"""

from dataclasses import replace
from datetime import timedelta
from typing import Final

from sqlalchemy import bindparam, select, update

from birthmark_server.domain import Device, DeviceState, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import (
    AlreadyConsumed,
    BatchClosed,
    DeniedDevice,
    DeviceNotActive,
    DuplicateDevice,
    EpochChanged,
    QuotaExhausted,
    RekeyQuota,
    UnknownEnrollment,
)
from birthmark_server.store.protocol import Birth
from birthmark_server.store.rows import from_us, to_us
from birthmark_server.store.sql.certificates import insert_certificate, require_unrevoked, revoke_all
from birthmark_server.store.sql.denials import denied_match
from birthmark_server.store.sql.devices import (
    FIRST_EPOCH,
    insert_device,
    lock_device,
    update_device,
)
from birthmark_server.store.sql.endorsements import claim, drop_endorsements, kept_claims, take_endorsements
from birthmark_server.store.sql.events import add_evidence
from birthmark_server.store.sql.manifest import names_batch
from birthmark_server.store.sql.setup import get_batch
from birthmark_server.store.sql.swaps import use_swap
from birthmark_server.store.sql.trust import forget_trust
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import Answers, Batches, Pending, table_of

NOT_ON_RECORD: Final = 0
"""The expected epoch of a device that is not on record yet."""
REKEY_EVERY: Final = timedelta(days=1)

_PENDING: Final = table_of(Pending)
_BATCHES: Final = table_of(Batches)

_INSERT_ANSWER: Final = insert_all(table_of(Answers))
_IS_PENDING: Final = Statement(select(_PENDING.c.epoch).where(_PENDING.c.enrollment_id == bindparam("key")))
_COUNT_ONE: Final = Statement(
    update(_BATCHES)
    .where(
        _BATCHES.c.name == bindparam("key"),
        _BATCHES.c.used < _BATCHES.c.quota,
        _BATCHES.c.closed_at_us.is_(None),
        _BATCHES.c.closes_at_us > bindparam("now"),
    )
    .values(used=_BATCHES.c.used + 1)
)
_COUNT_AGAIN: Final = Statement(
    update(_BATCHES).where(_BATCHES.c.name == bindparam("key")).values(used=_BATCHES.c.used + 1)
)


def commit_birth(tx: Transaction, birth: Birth) -> None:
    _take_pending(tx, birth)
    if birth.station_sha256:
        require_unrevoked(tx, birth.station_sha256)
    is_new = birth.expected_epoch == NOT_ON_RECORD
    device = _put_on_record(tx, birth) if is_new else _bring_home(tx, birth)
    if not is_new:
        forget_trust(tx, device.device_id)
    shown, by_batch = (birth.device.ek_sha256, *birth.device.other_ek_sha256), _is_by_batch(tx, device, is_new=is_new)
    denied = denied_match(tx, device.device_id, device.serial, shown, claims=shown[:1] if by_batch else ())
    if denied is not None:
        raise DeniedDevice(f"device {device.device_id} is denied: {denied.reason}")
    if birth.certificate is not None:
        if birth.certificate.device_id != device.device_id:
            raise ValueError(f"a certificate of {birth.certificate.device_id!r} in the birth of {device.device_id!r}")
        insert_certificate(tx, birth.certificate)
    issued = "" if birth.certificate is None else birth.certificate.sha256
    add_evidence(tx, birth.evidence, device_id=device.device_id, certificate_sha256=issued, at=birth.at)
    if by_batch:
        _count_in_batch(tx, birth)


def _take_pending(tx: Transaction, birth: Birth) -> None:
    taken = tx.run(
        _INSERT_ANSWER,
        enrollment_id=birth.enrollment_id,
        request_sha256=birth.request_sha256,
        answer=birth.answer,
        expires_at_us=to_us(birth.answer_expires_at),
    )
    if not taken:
        raise AlreadyConsumed(f"enrollment {birth.enrollment_id} was finished already")
    if tx.row(_IS_PENDING, key=birth.enrollment_id) is None:
        raise UnknownEnrollment(f"no enrollment {birth.enrollment_id!r}")


def _put_on_record(tx: Transaction, birth: Birth) -> Device:
    device = replace(
        birth.device,
        other_ek_sha256=kept_claims(birth.device.other_ek_sha256, proven=birth.device.ek_sha256),
        state=DeviceState.ACTIVE,
        epoch=FIRST_EPOCH,
        last_seen_at=birth.at,
    )
    insert_device(tx, device)
    tx.tell(device)
    return device


def _bring_home(tx: Transaction, birth: Birth) -> Device:
    """A device on record, attested again: with its key, with a new one, or (after a swap) on another board."""
    known, rekeyed_at_us = lock_device(tx, birth.device.device_id)
    if known.state is not DeviceState.ACTIVE:
        raise DeviceNotActive(f"device {known.device_id} is {known.state}")
    if known.epoch != birth.expected_epoch:
        raise EpochChanged(f"device {known.device_id} has epoch {known.epoch}, want {birth.expected_epoch}")
    _require_same_identity(known, birth)
    new_key = known.birth_spki_sha256 != birth.device.birth_spki_sha256
    if birth.swap is not None:
        use_swap(tx, known.device_id, ek_sha256=birth.device.ek_sha256, at=birth.at)
        drop_endorsements(tx, known)
        claims = kept_claims(birth.device.other_ek_sha256, proven=birth.device.ek_sha256)
        take_endorsements(tx, replace(birth.device, other_ek_sha256=claims))
        rekeyed_at_us = None
    else:
        claim(tx, known.device_id, birth.device.other_ek_sha256)
        claims = kept_claims(birth.device.other_ek_sha256, known.other_ek_sha256, proven=known.ek_sha256)
        if new_key:
            rekeyed_at_us = _count_rekey(birth, rekeyed_at_us)
    if new_key or birth.revoke_previous:
        if birth.certificate is None:
            raise ValueError(f"{known.device_id} would be left without a certificate")
        revoke_all(tx, known.device_id, RevocationReason.SUPERSEDED, birth.at, f"device:{known.device_id}")
    device = replace(
        known,
        model=birth.device.model,
        assurance=birth.device.assurance,
        ek_sha256=birth.device.ek_sha256,
        other_ek_sha256=claims,
        ak_public=birth.device.ak_public,
        birth_spki_sha256=birth.device.birth_spki_sha256,
    )
    if device != known or birth.revoke_previous:
        device = replace(device, epoch=known.epoch + 1)
        tx.tell(device)
    device = replace(device, last_seen_at=birth.at)
    update_device(tx, device, rekeyed_at_us=rekeyed_at_us)
    return device


def _require_same_identity(known: Device, birth: Birth) -> None:
    """Serial and, but for a swap, primary EK and model never change: a device may not take its id to another TPM."""
    told = birth.device
    if told.serial != known.serial:
        raise DuplicateDevice(f"device {known.device_id} has serial {known.serial}, not {told.serial}")
    if birth.swap is None and (told.ek_sha256, told.model) != (known.ek_sha256, known.model):
        raise DuplicateDevice(
            f"device {known.device_id} is a {known.model} with EK {known.ek_sha256}, "
            f"not a {told.model} with EK {told.ek_sha256}"
        )


def _count_rekey(birth: Birth, rekeyed_at_us: int | None) -> int:
    if rekeyed_at_us is not None:
        wait = from_us(rekeyed_at_us) + REKEY_EVERY - birth.at
        if wait > timedelta(0):
            raise RekeyQuota(
                f"device {birth.device.device_id} made a new birth key less than a day ago",
                retry_after_s=int(wait.total_seconds()) + 1,
            )
    return to_us(birth.at)


def _is_by_batch(tx: Transaction, device: Device, *, is_new: bool) -> bool:
    """Whether a batch window lets it in. A work order is its batch too, but then the manifest expects it by its EK."""
    return is_new and bool(device.batch) and not names_batch(tx, device.ek_sha256, device.batch)


def _count_in_batch(tx: Transaction, birth: Birth) -> None:
    if tx.run(_COUNT_ONE, key=birth.device.batch, now=to_us(birth.at)):
        return
    batch = get_batch(tx, birth.device.batch)
    if batch.closed_at is not None or batch.closes_at <= birth.at:
        raise BatchClosed(f"batch {batch.name} closed at {batch.closed_at or batch.closes_at}")
    raise QuotaExhausted(f"batch {batch.name} has admitted {batch.used} of {batch.quota}")


def count_again(tx: Transaction, batch: str) -> None:
    """Replay: a device of this batch is back on record, so its quota is used again."""
    tx.run(_COUNT_AGAIN, key=batch)
