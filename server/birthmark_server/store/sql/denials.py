"""The deny list.

A denial stands under one key per name that it matches: a device id, a serial, each EK; and apart from these each EK
that the denied device only claimed, which matches less (domain.DenyEntry). A denial looks at many rows at once, so it
takes the fleet lock: no birth is half-way while it looks.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from sqlalchemy import select

from birthmark_server.domain import DenyEntry, Device, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.device_states import Act, require_legal
from birthmark_server.store.journal_entries import to_json
from birthmark_server.store.rows import denial_from, denial_values, denied_keys
from birthmark_server.store.sql.certificates import revoke_all
from birthmark_server.store.sql.devices import devices_with, get_device, lock_device, set_state
from birthmark_server.store.sql.endorsements import claimers
from birthmark_server.store.statement import LookUp, Statement, insert_all, keys, one_of
from birthmark_server.store.tables import Denials, DeniedKeys, table_of

DENIALS: Final = table_of(Denials)
DENIAL_COLUMNS: Final = tuple(column for column in DENIALS.columns if column.name != "denial_id")
DENIED_KEYS: Final = table_of(DeniedKeys)

_INSERT_DENIAL: Final = insert_all(DENIALS)
_INSERT_KEY: Final = insert_all(DENIED_KEYS)
_LIST: Final = Statement(select(*DENIAL_COLUMNS).order_by(DENIALS.c.denied_at_us, DENIALS.c.denial_id))
_MATCHING: Final = LookUp(lambda number: select(DENIED_KEYS.c.denial_id).where(one_of(DENIED_KEYS.c.key, number)))
_OLDEST: Final = LookUp(
    lambda number: (
        select(*DENIAL_COLUMNS)
        .where(one_of(DENIALS.c.denial_id, number))
        .order_by(DENIALS.c.denied_at_us, DENIALS.c.denial_id)
        .limit(1)
    )
)


def deny(tx: Transaction, entry: DenyEntry) -> list[str]:
    tx.lock_fleet()
    met = devices_with(tx, entry.device_id, entry.serial, entry.ek_sha256)
    known = {device.device_id for device in met}
    met += [get_device(tx, claimer) for claimer in claimers(tx, entry.ek_sha256) if claimer not in known]
    extra: list[DenyEntry] = []
    for device in met:
        if entry.device_id in ("", device.device_id) and entry.serial in ("", device.serial):
            entry = _including(entry, device)
        else:  # the entry names two devices at once: each is denied under its own names
            nameless = replace(entry, device_id="", serial="", ek_sha256=(), claimed_ek_sha256=())
            extra.append(_including(nameless, device))
        locked, _ = lock_device(tx, device.device_id)
        set_state(tx, locked, require_legal(device.device_id, locked.state, Act.DENY))
        revoke_all(tx, device.device_id, RevocationReason.PRIVILEGE_WITHDRAWN, entry.denied_at, entry.denied_by)
    for each in (entry, *extra):
        put_denial(tx, each)
        tx.tell(each)
    return [device.device_id for device in met]


def _including(entry: DenyEntry, device: Device) -> DenyEntry:
    return replace(
        entry,
        device_id=device.device_id,
        serial=device.serial,
        ek_sha256=tuple(filter(None, dict.fromkeys((*entry.ek_sha256, device.ek_sha256)))),
        claimed_ek_sha256=tuple(dict.fromkeys((*entry.claimed_ek_sha256, *device.other_ek_sha256))),
    )


def put_denial(tx: Transaction, entry: DenyEntry) -> bool:
    """Write one entry and its keys; return False if this very entry is there."""
    denial_id = hashlib.sha256(json.dumps(to_json(entry), sort_keys=True).encode()).hexdigest()
    if tx.run(_INSERT_DENIAL, **denial_values(entry, denial_id=denial_id)) == 0:
        return False
    for key in denied_keys(entry.device_id, entry.serial, entry.ek_sha256, entry.claimed_ek_sha256):
        tx.run(_INSERT_KEY, key=key, denial_id=denial_id)
    return True


def list_denied(tx: Transaction) -> list[DenyEntry]:
    return [denial_from(row) for row in tx.rows(_LIST)]


def denied_match(
    tx: Transaction, device_id: str, serial: str, ek_sha256: Sequence[str] = (), *, claims: Sequence[str] = ()
) -> DenyEntry | None:
    """The oldest entry that matches any of these, or None. claims: EKs that no denied device may have claimed."""
    names = denied_keys(device_id, serial, ek_sha256, claims)
    found = [denial_id for (denial_id,) in tx.rows(_MATCHING.of(names), **keys(names))]
    if not found:  # nearly always: births come this way
        return None
    row = tx.row(_OLDEST.of(found), **keys(found))
    return None if row is None else denial_from(row)
