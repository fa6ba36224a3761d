"""Whose EK is whose: the one that each device has proven, and those that it only claims.

A proven EK belongs to one device. A claim is an EK certificate that a device showed beside its own; certificates are no
secret, so it may be anybody's, and it counts against nobody but the one who makes it: who claims another device's
proven EK is refused, and nobody is refused for an EK that somebody else claimed (ADR 0036).
"""

from typing import Final

from sqlalchemy import bindparam, delete, exists, select

from birthmark_server.domain import MOST_CLAIMS, Device
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import DuplicateDevice
from birthmark_server.store.statement import LookUp, Statement, insert_all, keys, one_of
from birthmark_server.store.tables import EndorsementClaims, EndorsementKeys, Manifest, table_of

EKS: Final = table_of(EndorsementKeys)
_CLAIMS: Final = table_of(EndorsementClaims)
_MANIFEST: Final = table_of(Manifest)

_INSERT: Final = insert_all(EKS)
_TAKE: Final = Statement(
    lambda insert: insert(EKS).on_conflict_do_update(
        index_elements=[EKS.c.ek_sha256], set_={"device_id": bindparam("owner")}
    ),
    columns=("ek_sha256", "device_id"),
)
_DROP: Final = Statement(delete(EKS).where(EKS.c.ek_sha256 == bindparam("key"), EKS.c.device_id == bindparam("device")))
_INSERT_CLAIM: Final = insert_all(_CLAIMS)
_DROP_CLAIMS: Final = Statement(delete(_CLAIMS).where(_CLAIMS.c.device_id == bindparam("device")))
_OF_ANOTHER: Final = LookUp(
    lambda number: select(EKS.c.ek_sha256).where(
        one_of(EKS.c.ek_sha256, number), EKS.c.device_id != bindparam("device")
    )
)
_CLAIMERS: Final = LookUp(
    lambda number: (
        select(_CLAIMS.c.device_id)
        .where(
            one_of(_CLAIMS.c.ek_sha256, number),
            ~exists().where(EKS.c.ek_sha256 == _CLAIMS.c.ek_sha256),
            ~exists().where(_MANIFEST.c.ek_sha256 == _CLAIMS.c.ek_sha256),
        )
        .distinct()
        .order_by(_CLAIMS.c.device_id)
    )
)


def kept_claims(shown: tuple[str, ...], known: tuple[str, ...] = (), *, proven: str) -> tuple[str, ...]:
    """Return what is kept of the EKs that a device shows: those known first, so that no repetition adds any."""
    return tuple(ek for ek in dict.fromkeys((*known, *shown)) if ek and ek != proven)[:MOST_CLAIMS]


def take_endorsements(tx: Transaction, device: Device) -> None:
    """Put EK and claims of a new device, or of a new board, on record. Raise DuplicateDevice."""
    if device.ek_sha256 and tx.run(_INSERT, ek_sha256=device.ek_sha256, device_id=device.device_id) == 0:
        raise DuplicateDevice(f"EK {device.ek_sha256}, proven for {device.device_id}, is on record already")
    claim(tx, device.device_id, device.other_ek_sha256)


def claim(tx: Transaction, device_id: str, ek_sha256: tuple[str, ...]) -> None:
    """Put claims of a device on record, again or for the first time. Raise DuplicateDevice for another device's EK."""
    if not ek_sha256:
        return
    others = tx.row(_OF_ANOTHER.of(ek_sha256), device=device_id, **keys(ek_sha256))
    if others is not None:
        raise DuplicateDevice(f"EK {others[0]}, shown for {device_id}, is another device's on record")
    for ek in ek_sha256:
        tx.run(_INSERT_CLAIM, ek_sha256=ek, device_id=device_id)


def drop_endorsements(tx: Transaction, device: Device) -> None:
    """Take from a device the EK and the claims that it has on record."""
    tx.run(_DROP, key=device.ek_sha256, device=device.device_id)
    tx.run(_DROP_CLAIMS, device=device.device_id)


def take_told_endorsements(tx: Transaction, device: Device) -> None:
    """Replay: the device has this EK, whoever had it, and these claims."""
    if device.ek_sha256:
        tx.run(_TAKE, ek_sha256=device.ek_sha256, device_id=device.device_id, owner=device.device_id)
    for ek in device.other_ek_sha256:
        tx.run(_INSERT_CLAIM, ek_sha256=ek, device_id=device.device_id)


def claimers(tx: Transaction, ek_sha256: tuple[str, ...]) -> list[str]:
    """Return the ids of devices that claim any of these EKs, where no device has proven it and no manifest lists it."""
    return [device_id for (device_id,) in tx.rows(_CLAIMERS.of(ek_sha256), **keys(ek_sha256))]
