"""Operational certificates: the nonce, and the transaction in which one is issued."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from birthmark_server.domain import CertificateRecord, DeviceState, EstNonce
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import (
    AlreadyExists,
    DeviceNotActive,
    EpochChanged,
    NonceUnknown,
    TooManyCertificates,
)
from birthmark_server.store.protocol import Issuance
from birthmark_server.store.rows import to_us
from birthmark_server.store.sql.certificates import insert_certificate, issued_since, require_new_key
from birthmark_server.store.sql.devices import DEVICES, get_device
from birthmark_server.store.sql.events import add_evidence
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import EstNonces, table_of

_NONCES: Final = table_of(EstNonces)

_MOST_NONCES: Final = 8
_DAY: Final = timedelta(days=1)
_QUOTA_RETRY_S: Final = 3600
_INSERT_NONCE: Final = insert_all(_NONCES)
_TAKE_NONCE: Final = Statement(
    delete(_NONCES).where(
        _NONCES.c.nonce == bindparam("value"),
        _NONCES.c.device_id == bindparam("device"),
        _NONCES.c.expires_at_us > bindparam("now"),
    )
)
_USABLE_NONCES: Final = Statement(
    select(_NONCES.c.nonce)
    .where(_NONCES.c.device_id == bindparam("device"), _NONCES.c.expires_at_us > bindparam("now"))
    .order_by(_NONCES.c.expires_at_us.desc(), _NONCES.c.nonce)
    .limit(_MOST_NONCES)
)
_LOCK_ACTIVE: Final = Statement(
    update(DEVICES)
    .where(
        DEVICES.c.device_id == bindparam("key"),
        DEVICES.c.state == DeviceState.ACTIVE.value,
        DEVICES.c.epoch == bindparam("expected"),
    )
    .values(last_seen_at_us=bindparam("now"))
)
"""One statement for the lock and the check: PostgreSQL looks again at a row that it had to wait for."""


def add_est_nonce(tx: Transaction, nonce: EstNonce) -> None:
    expires_at_us = to_us(nonce.expires_at)
    if tx.run(_INSERT_NONCE, nonce=nonce.nonce, device_id=nonce.device_id, expires_at_us=expires_at_us) == 0:
        raise AlreadyExists("this EST nonce was given out before")


def est_nonces(tx: Transaction, device_id: str, at: datetime) -> list[bytes]:
    return [nonce for (nonce,) in tx.rows(_USABLE_NONCES, device=device_id, now=to_us(at))]


def commit_issuance(tx: Transaction, issuance: Issuance) -> None:
    certificate, device_id, now = issuance.certificate, issuance.device_id, to_us(issuance.at)
    if certificate.device_id != device_id:
        raise ValueError(f"a certificate of {certificate.device_id!r} in an issuance to {device_id!r}")
    if issuance.nonce is not None and tx.run(_TAKE_NONCE, value=issuance.nonce, device=device_id, now=now) == 0:
        raise NonceUnknown(f"the nonce is not one that {device_id} may use now")
    if tx.run(_LOCK_ACTIVE, key=device_id, expected=issuance.expected_epoch, now=now) == 0:
        raise _standing(tx, device_id, issuance.expected_epoch)
    _require_quota(tx, issuance)
    require_new_key(tx, device_id, certificate.spki_sha256)
    insert_certificate(tx, certificate)
    if issuance.evidence is not None:
        add_evidence(tx, issuance.evidence, device_id=device_id, certificate_sha256=certificate.sha256, at=issuance.at)


def _require_quota(tx: Transaction, issuance: Issuance) -> None:
    """Counted under the lock on the device's row: requests that come together are counted together."""
    most = issuance.most_per_day
    if most is not None and issued_since(tx, issuance.device_id, issuance.at - _DAY) >= most:
        raise TooManyCertificates(
            f"{issuance.device_id} fetched {most} certificates within 24 hours", retry_after_s=_QUOTA_RETRY_S
        )


def _standing(tx: Transaction, device_id: str, expected_epoch: int) -> DeviceNotActive | EpochChanged:
    """Why the device could not be locked as it was expected to stand. Raise UnknownDevice if it is not there."""
    device = get_device(tx, device_id)
    if device.state is not DeviceState.ACTIVE:
        return DeviceNotActive(f"device {device_id} is {device.state}")
    return EpochChanged(f"device {device_id} has epoch {device.epoch}, the request began under {expected_epoch}")


def add_infrastructure_certificate(tx: Transaction, certificate: CertificateRecord, by: str) -> None:
    if certificate.device_id:
        raise ValueError(f"a certificate of device {certificate.device_id} is not the infrastructure's")
    insert_certificate(tx, replace(certificate, issued_by=by))
