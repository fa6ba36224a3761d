"""Taking away, and letting back in. The device row is locked first, so that no issuance slips past."""

from datetime import datetime

from birthmark_server.domain import CertificateRecord, Device, DeviceState, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import DeviceNotRevoked
from birthmark_server.store.sql.certificates import get_certificate, revoke_all, revoke_one
from birthmark_server.store.sql.devices import lock_device, set_state


def revoke_device(tx: Transaction, device_id: str, reason: RevocationReason, at: datetime) -> list[CertificateRecord]:
    device, _ = lock_device(tx, device_id)
    denied = device.state is DeviceState.DENIED  # stays so: a revoked device can be readmitted, a denied one cannot
    set_state(tx, device, DeviceState.DENIED if denied else DeviceState.REVOKED)
    return revoke_all(tx, device_id, reason, at)


def readmit_device(tx: Transaction, device_id: str) -> Device:
    device, _ = lock_device(tx, device_id)
    if device.state is not DeviceState.REVOKED:
        raise DeviceNotRevoked(f"device {device_id} is {device.state}; only a revoked one can be readmitted")
    return set_state(tx, device, DeviceState.ACTIVE)


def revoke_certificate(tx: Transaction, sha256: str, reason: RevocationReason, at: datetime) -> CertificateRecord:
    """The epoch rises too: a renewal that began under this very certificate must not end well."""
    device_id = get_certificate(tx, sha256).device_id
    device = lock_device(tx, device_id)[0] if device_id else None
    if revoke_one(tx, sha256, reason, at) and device is not None:
        set_state(tx, device, device.state)
    return get_certificate(tx, sha256)
