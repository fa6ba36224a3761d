"""Telling a journal to a database again: whatever it lacks is added, nothing is ever taken back.

Entries of one journal are in order. Journals of several replicas are merged by clocks that agree only roughly, so an
entry may come before what it rests on (a revocation before its certificate, a certificate before its device): it
waits, and what still waits at the end is reported. Devices are told whole: the highest epoch wins, whatever the order.
Last of all what was revoked or denied is held against the outcome (settlement.py, late_certificates.py).
"""

import logging
from collections.abc import Iterable
from itertools import islice
from typing import Final

from birthmark_server.authorities import AuthorityHappening, BundleRecord, KnownAuthority
from birthmark_server.domain import (
    Batch,
    BoardSwap,
    CertificateRecord,
    DenyEntry,
    Device,
    DeviceModel,
    ManifestEntry,
)
from birthmark_server.store.database import Database, Transaction
from birthmark_server.store.errors import DuplicateDevice
from birthmark_server.store.journal_entries import (
    BatchClosed,
    CertificateRevoked,
    CrlNumberUsed,
    DeviceRevoked,
    Entry,
    ManifestRemoved,
    RevocationLifted,
    WorkOrderEnded,
)
from birthmark_server.store.sql import (
    authorities,
    certificates,
    crl,
    denials,
    devices,
    manifest,
    revocation,
    setup,
    station_entries,
    swaps,
    workorders,
)
from birthmark_server.store.sql.births import count_again
from birthmark_server.store.sql.late_certificates import revoke_late
from birthmark_server.store.sql.settlement import settle
from birthmark_server.workorders import SerialBlock, StationEntry, WorkOrder

_log = logging.getLogger(__name__)

_AT_ONCE: Final = 500


def replay(database: Database, entries: Iterable[Entry]) -> int:
    """Apply what is not in the database; return how many entries were not."""
    applied = 0
    waiting: list[Entry] = []
    stream = iter(entries)
    while page := list(islice(stream, _AT_ONCE)):
        changed, early = database.replay(_apply_all, page)
        applied += changed
        waiting += early
    while waiting:
        changed, still = database.replay(_apply_all, waiting)
        applied += changed
        if len(still) == len(waiting):
            _log.warning("replay: %d journal entries rest on something in no journal, first %r", len(still), still[0])
            break
        waiting = still
    return applied + database.replay(settle) + database.replay(revoke_late)


def _apply_all(tx: Transaction, page: list[Entry]) -> tuple[int, list[Entry]]:
    changed = 0
    early: list[Entry] = []
    for entry in page:
        outcome = _apply(tx, entry)
        if outcome is None:
            early.append(entry)
        else:
            changed += outcome
    return changed, early


def _apply(tx: Transaction, entry: Entry) -> bool | None:
    """Return whether it changed anything, or None if what it rests on is not there yet."""
    match entry:
        case Device():
            return _put_device(tx, entry)
        case CertificateRecord():
            if entry.device_id and devices.find_device(tx, entry.device_id) is None:
                return None
            return certificates.put_certificate(tx, entry)
        case CertificateRevoked():
            if certificates.revoke_one(tx, entry.sha256, entry.reason, entry.at, entry.by):
                return True
            return False if certificates.certificate_is_known(tx, entry.sha256) else None
        case DeviceRevoked():
            if devices.find_device(tx, entry.device_id) is None:
                return None
            return revocation.put_revocation(tx, entry)
        case RevocationLifted():
            if revocation.lift_revocation(tx, entry):
                return True
            return False if revocation.revocation_is_known(tx, entry) else None
        case DenyEntry():
            return denials.put_denial(tx, entry)
        case ManifestRemoved():
            return manifest.remove_again(tx, entry)
        case WorkOrder():
            return workorders.put_workorder(tx, entry)
        case WorkOrderEnded():
            return workorders.close_again(tx, entry)
        case SerialBlock():
            return workorders.put_block(tx, entry)
        case StationEntry():
            return station_entries.put_entry(tx, entry)
        case BoardSwap():
            return swaps.put_swap(tx, entry)
        case DeviceModel():
            return setup.put_model(tx, entry)
        case ManifestEntry():
            return manifest.put_manifest_entry(tx, entry)
        case Batch():
            return setup.put_batch(tx, entry)
        case BatchClosed():
            return setup.close_batch_again(tx, entry)
        case CrlNumberUsed():
            return crl.raise_crl_number(tx, entry)
        case KnownAuthority():
            return authorities.put_authority(tx, entry)
        case AuthorityHappening():
            return authorities.put_act(tx, entry)
        case BundleRecord():
            return authorities.put_bundle(tx, entry)


def _put_device(tx: Transaction, device: Device) -> bool:
    try:
        changed, is_new = devices.put_device(tx, device)
    except (
        DuplicateDevice
    ) as error:  # only an operator's hand in the database makes this: the rest must not wait for it
        _log.error("replay: left out: %s", error)
        return False
    if is_new and device.batch:
        count_again(tx, device.batch)
    if changed:
        swaps.drop_swap(tx, device.device_id, ek_sha256=device.ek_sha256)
    return changed
