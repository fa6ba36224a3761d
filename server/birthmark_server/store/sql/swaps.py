"""Board swaps: one operator asks, another approves, the new board uses it up.

A swap is named by device, new EK and the moment when it was asked for. It only goes on: asked, approved, ended (used,
or replaced by another request); each step is told to the journal whole. Those that have ended stay on record and permit
nothing. Asking and approving look at many rows at once, so they take the fleet lock (denials.py).
"""

from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, or_, select, update

from birthmark_server.domain import BoardSwap, DenyEntry, Device, DeviceState, RevocationReason
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists, DeviceNotActive, SameOperator, SwapNotApproved, UnknownSwap
from birthmark_server.store.rows import swap_from, swap_values, to_us
from birthmark_server.store.sql.certificates import revoke_all
from birthmark_server.store.sql.denials import denied_match, put_denial
from birthmark_server.store.sql.devices import devices_with, find_device, lock_device, set_state
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import BoardSwaps, Manifest, table_of

SWAPS: Final = table_of(BoardSwaps)
_MANIFEST: Final = table_of(Manifest)

_OPEN: Final = SWAPS.c.ended_at_us.is_(None)
_THIS_ONE: Final = (
    SWAPS.c.device_id == bindparam("device"),
    SWAPS.c.new_ek_sha256 == bindparam("ek"),
    SWAPS.c.requested_at_us == bindparam("asked"),
)

_LISTED: Final = Statement(select(_MANIFEST.c.device_id).where(_MANIFEST.c.ek_sha256 == bindparam("key")))
_INSERT: Final = insert_all(SWAPS)
_GET_OPEN: Final = Statement(select(SWAPS).where(SWAPS.c.device_id == bindparam("key"), _OPEN))
_LOCK_OPEN: Final = Statement(select(SWAPS).where(SWAPS.c.device_id == bindparam("key"), _OPEN).with_for_update())
_OF_DEVICE: Final = Statement(
    select(SWAPS)
    .where(SWAPS.c.device_id == bindparam("key"))
    .order_by(SWAPS.c.requested_at_us.desc(), SWAPS.c.new_ek_sha256)
)
_TOUCHED: Final = Statement(
    select(SWAPS).where(or_(SWAPS.c.device_id == bindparam("device"), SWAPS.c.new_ek_sha256 == bindparam("ek")), _OPEN)
)
_LOCK: Final = Statement(select(SWAPS).where(*_THIS_ONE).with_for_update())
_GO_ON: Final = Statement(
    update(SWAPS)
    .where(*_THIS_ONE)
    .values(
        approved_by=bindparam("approver"),
        approved_at_us=bindparam("approved"),
        expires_at_us=bindparam("until"),
        ended_at_us=bindparam("ended"),
    )
)
_USE: Final = Statement(
    update(SWAPS)
    .where(
        SWAPS.c.device_id == bindparam("key"),
        SWAPS.c.new_ek_sha256 == bindparam("ek"),
        SWAPS.c.approved_at_us.is_not(None),
        SWAPS.c.expires_at_us > bindparam("now"),
        _OPEN,
    )
    .values(ended_at_us=bindparam("now"))
    .returning(*SWAPS.columns)
)
_DROP_OPEN: Final = Statement(
    delete(SWAPS).where(SWAPS.c.device_id == bindparam("key"), SWAPS.c.new_ek_sha256 == bindparam("ek"), _OPEN)
)


def request_swap(tx: Transaction, swap: BoardSwap) -> None:
    tx.lock_fleet()
    device, _ = lock_device(tx, swap.device_id)
    _require_active(device)
    _require_free_ek(tx, swap.new_ek_sha256)
    asked = replace(swap, approved_by="", approved_at=None, expires_at=None, ended_at=None)
    for known in map(swap_from, tx.rows(_TOUCHED, device=swap.device_id, ek=swap.new_ek_sha256)):
        expired = known.expires_at is not None and known.expires_at <= swap.requested_at
        mine_unapproved = known.device_id == swap.device_id and known.approved_at is None
        if not (expired or mine_unapproved):
            raise AlreadyExists(f"a swap of {known.device_id} to EK {known.new_ek_sha256} is pending")
        if _name(known) == _name(asked):
            return  # asked for twice in one moment
        _go_on(tx, replace(known, ended_at=swap.requested_at))
    tx.run(_INSERT, **swap_values(asked))
    tx.tell(asked)


def get_swap(tx: Transaction, device_id: str) -> BoardSwap | None:
    row = tx.row(_GET_OPEN, key=device_id)
    return None if row is None else swap_from(row)


def device_swaps(tx: Transaction, device_id: str) -> list[BoardSwap]:
    return [swap_from(row) for row in tx.rows(_OF_DEVICE, key=device_id)]


def approve_swap(
    tx: Transaction, device_id: str, by: str, at: datetime, expires_at: datetime, new_ek_sha256: str
) -> BoardSwap:
    tx.lock_fleet()
    row = tx.row(_LOCK_OPEN, key=device_id)
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
    revoke_all(tx, device_id, RevocationReason.SUPERSEDED, at, by)
    why = f"board of {device_id} swapped"
    old_board = DenyEntry("", "", (device.ek_sha256,), why, by, at, claimed_ek_sha256=device.other_ek_sha256)
    put_denial(tx, old_board)
    tx.tell(old_board)
    approved = replace(swap, approved_by=by, approved_at=at, expires_at=expires_at)
    _go_on(tx, approved)
    return approved


def use_swap(tx: Transaction, device_id: str, *, ek_sha256: str, at: datetime) -> None:
    """Take the approved swap of this device to this EK; raise SwapNotApproved if there is none any more."""
    row = tx.row(_USE, key=device_id, ek=ek_sha256, now=to_us(at))
    if row is None:
        raise SwapNotApproved(f"no approved swap of {device_id} to EK {ek_sha256} is open")
    tx.tell(swap_from(row))


def _go_on(tx: Transaction, swap: BoardSwap) -> None:
    """Write a swap that is on record as it stands now, and tell it."""
    _write(tx, swap)
    tx.tell(swap)


def _write(tx: Transaction, swap: BoardSwap) -> None:
    values = swap_values(swap)
    tx.run(
        _GO_ON,
        device=swap.device_id,
        ek=swap.new_ek_sha256,
        asked=values["requested_at_us"],
        approver=swap.approved_by,
        approved=values["approved_at_us"],
        until=values["expires_at_us"],
        ended=values["ended_at_us"],
    )


def _name(swap: BoardSwap) -> tuple[str, str, datetime]:
    return swap.device_id, swap.new_ek_sha256, swap.requested_at


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


# -- replay


def put_swap(tx: Transaction, swap: BoardSwap) -> bool | None:
    """Return whether it had not come so far yet; None if its device is not there, or another one is open still."""
    if find_device(tx, swap.device_id) is None:
        return None
    row = tx.row(_LOCK, device=swap.device_id, ek=swap.new_ek_sha256, asked=to_us(swap.requested_at))
    if row is None:
        return True if tx.run(_INSERT, **swap_values(swap)) else None
    known = swap_from(row)
    if _steps(known) >= _steps(swap):
        return False
    if swap.approved_at is None:
        swap = replace(swap, approved_by=known.approved_by, approved_at=known.approved_at, expires_at=known.expires_at)
    _write(tx, swap)
    return True


def drop_swap(tx: Transaction, device_id: str, *, ek_sha256: str) -> None:
    """A device that stands with this EK has used its swap to it. A journal that knows of swaps says when."""
    tx.run(_DROP_OPEN, key=device_id, ek=ek_sha256)


def _steps(swap: BoardSwap) -> tuple[bool, bool]:
    return swap.ended_at is not None, swap.approved_at is not None
