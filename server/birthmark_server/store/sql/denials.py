"""The deny list, and board swaps, which deny the old board.

A denial stands under one key per name that it matches: a device id, a serial, each EK; and apart from these each EK
that the denied device only claimed, which matches less (domain.DenyEntry). Denials and swaps look at many rows at once,
so they take the fleet lock: no birth is half-way while they look.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, or_, select, update

from birthmark_server.domain import BoardSwap, DenyEntry, Device, DeviceState, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists, DeviceNotActive, SameOperator, SwapNotApproved, UnknownSwap
from birthmark_server.store.journal_entries import to_json
from birthmark_server.store.rows import denial_from, denial_values, denied_keys, swap_from, swap_values, to_us
from birthmark_server.store.sql.certificates import revoke_all
from birthmark_server.store.sql.devices import devices_with, get_device, lock_device, set_state
from birthmark_server.store.sql.endorsements import claimers
from birthmark_server.store.statement import LookUp, Statement, insert_all, keys, one_of
from birthmark_server.store.tables import BoardSwaps, Denials, DeniedKeys, Manifest, table_of

DENIALS: Final = table_of(Denials)
DENIAL_COLUMNS: Final = tuple(column for column in DENIALS.columns if column.name != "denial_id")
DENIED_KEYS: Final = table_of(DeniedKeys)
SWAPS: Final = table_of(BoardSwaps)
_MANIFEST: Final = table_of(Manifest)

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
_LISTED: Final = Statement(select(_MANIFEST.c.device_id).where(_MANIFEST.c.ek_sha256 == bindparam("key")))

_INSERT_SWAP: Final = insert_all(SWAPS)
_GET_SWAP: Final = Statement(select(SWAPS).where(SWAPS.c.device_id == bindparam("key")))
_LOCK_SWAP: Final = Statement(select(SWAPS).where(SWAPS.c.device_id == bindparam("key")).with_for_update())
_SWAPS_TOUCHED: Final = Statement(
    select(SWAPS).where(or_(SWAPS.c.device_id == bindparam("device"), SWAPS.c.new_ek_sha256 == bindparam("ek")))
)
_DROP_SWAP: Final = Statement(delete(SWAPS).where(SWAPS.c.device_id == bindparam("key")))
_APPROVE: Final = Statement(
    update(SWAPS)
    .where(SWAPS.c.device_id == bindparam("key"))
    .values(approved_by=bindparam("by"), approved_at_us=bindparam("now"), expires_at_us=bindparam("until"))
)
_USE_SWAP: Final = Statement(
    delete(SWAPS).where(
        SWAPS.c.device_id == bindparam("key"),
        SWAPS.c.new_ek_sha256 == bindparam("ek"),
        SWAPS.c.approved_at_us.is_not(None),
        SWAPS.c.expires_at_us > bindparam("now"),
    )
)


# -- the deny list


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
        set_state(tx, locked, DeviceState.DENIED)
        revoke_all(tx, device.device_id, RevocationReason.PRIVILEGE_WITHDRAWN, entry.denied_at)
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


# -- board swaps


def request_swap(tx: Transaction, swap: BoardSwap) -> None:
    tx.lock_fleet()
    device, _ = lock_device(tx, swap.device_id)
    _require_active(device)
    _require_free_ek(tx, swap.new_ek_sha256)
    for known in map(swap_from, tx.rows(_SWAPS_TOUCHED, device=swap.device_id, ek=swap.new_ek_sha256)):
        expired = known.expires_at is not None and known.expires_at <= swap.requested_at
        mine_unapproved = known.device_id == swap.device_id and known.approved_at is None
        if not (expired or mine_unapproved):
            raise AlreadyExists(f"a swap of {known.device_id} to EK {known.new_ek_sha256} is pending")
        tx.run(_DROP_SWAP, key=known.device_id)
    tx.run(_INSERT_SWAP, **swap_values(replace(swap, approved_by="", approved_at=None, expires_at=None)))


def get_swap(tx: Transaction, device_id: str) -> BoardSwap | None:
    row = tx.row(_GET_SWAP, key=device_id)
    return None if row is None else swap_from(row)


def approve_swap(
    tx: Transaction, device_id: str, by: str, at: datetime, expires_at: datetime, new_ek_sha256: str
) -> BoardSwap:
    tx.lock_fleet()
    row = tx.row(_LOCK_SWAP, key=device_id)
    swap = None if row is None else swap_from(row)
    if swap is None or swap.approved_at is not None:
        raise UnknownSwap(f"no swap of {device_id} waits for approval")
    if new_ek_sha256 and new_ek_sha256 != swap.new_ek_sha256:
        raise UnknownSwap(f"{swap.requested_by} asked for EK {swap.new_ek_sha256}, not for {new_ek_sha256}")
    if swap.requested_by == by:
        raise SameOperator(f"{by} asked for the swap of {device_id}; someone else must approve it")
    device, _ = lock_device(tx, device_id)
    _require_active(device)
    _require_free_ek(tx, swap.new_ek_sha256)  # it was free when asked for; it must be still
    set_state(tx, device, DeviceState.ACTIVE)
    revoke_all(tx, device_id, RevocationReason.SUPERSEDED, at)
    why = f"board of {device_id} swapped"
    old_board = DenyEntry("", "", (device.ek_sha256,), why, by, at, claimed_ek_sha256=device.other_ek_sha256)
    put_denial(tx, old_board)
    tx.tell(old_board)
    tx.run(_APPROVE, key=device_id, by=by, now=to_us(at), until=to_us(expires_at))
    return replace(swap, approved_by=by, approved_at=at, expires_at=expires_at)


def use_swap(tx: Transaction, swap: BoardSwap, *, ek_sha256: str, at: datetime) -> None:
    """Take the approved swap of this device to this EK; raise SwapNotApproved if there is none any more."""
    if tx.run(_USE_SWAP, key=swap.device_id, ek=ek_sha256, now=to_us(at)) == 0:
        raise SwapNotApproved(f"no approved swap of {swap.device_id} to EK {ek_sha256} is open")


def drop_swap(tx: Transaction, device_id: str, *, ek_sha256: str) -> None:
    """Replay: a device that stands with this EK has used its swap to it."""
    row = tx.row(_LOCK_SWAP, key=device_id)
    if row is not None and swap_from(row).new_ek_sha256 == ek_sha256:
        tx.run(_DROP_SWAP, key=device_id)


def _require_active(device: Device) -> None:
    if device.state is not DeviceState.ACTIVE:
        raise DeviceNotActive(f"device {device.device_id} is {device.state}; its board cannot be swapped")


def _require_free_ek(tx: Transaction, ek_sha256: str) -> None:
    for other in devices_with(tx, "", "", (ek_sha256,)):
        raise AlreadyExists(f"EK {ek_sha256} belongs to device {other.device_id}")
    listed = tx.row(_LISTED, key=ek_sha256)
    if listed is not None:
        raise AlreadyExists(f"EK {ek_sha256} is on the manifest, as device {listed[0]}")
    denied = denied_match(tx, "", "", (ek_sha256,))
    if denied is not None:
        raise AlreadyExists(f"EK {ek_sha256} is denied: {denied.reason}")
