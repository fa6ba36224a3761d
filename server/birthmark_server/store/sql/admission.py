"""What an enrollment begins with: all that is known of the EKs shown, and the challenge that is kept meanwhile."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Select, and_, bindparam, case, exists, func, literal, select

from birthmark_server.domain import AdmissionFacts, PendingEnrollment
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists, TooManyPending, UnknownEnrollment
from birthmark_server.store.rows import (
    denial_from,
    denied_keys,
    device_from,
    from_us,
    manifest_from,
    pending_from,
    pending_values,
    swap_from,
    to_us,
)
from birthmark_server.store.sql.denials import DENIAL_COLUMNS, DENIALS, DENIED_KEYS
from birthmark_server.store.sql.devices import DEVICE_COLUMNS, DEVICES
from birthmark_server.store.sql.endorsements import EKS
from birthmark_server.store.sql.swaps import SWAPS
from birthmark_server.store.statement import LookUp, Statement, insert_all, keys, one_of
from birthmark_server.store.tables import Answers, Manifest, Pending, table_of

_MANIFEST: Final = table_of(Manifest)
_PENDING: Final = table_of(Pending)
_ANSWERS: Final = table_of(Answers)

_ANCHOR: Final = select(literal(1).label("one")).subquery("anchor")


def _facts(number: int) -> Select[Any]:
    """One statement: one snapshot, one round trip, each part found by its index."""
    device_of_eks = (
        select(EKS.c.device_id)
        .where(one_of(EKS.c.ek_sha256, number))
        .order_by(case((EKS.c.ek_sha256 == bindparam("key0"), 0), else_=1), EKS.c.ek_sha256)
        .limit(1)
        .scalar_subquery()
    )
    denial_of_eks = (
        select(DENIED_KEYS.c.denial_id)
        .where(one_of(DENIED_KEYS.c.key, number, name="denied"))
        .limit(1)
        .scalar_subquery()
    )
    open_swap = and_(
        SWAPS.c.new_ek_sha256 == bindparam("key0"),
        SWAPS.c.approved_at_us.is_not(None),
        SWAPS.c.expires_at_us > bindparam("now"),
        SWAPS.c.ended_at_us.is_(None),
    )
    return select(*_MANIFEST.columns, *SWAPS.columns, *DEVICE_COLUMNS, *DENIAL_COLUMNS).select_from(
        _ANCHOR.outerjoin(_MANIFEST, _MANIFEST.c.ek_sha256 == bindparam("key0"))
        .outerjoin(SWAPS, open_swap)
        .outerjoin(DEVICES, DEVICES.c.device_id == device_of_eks)
        .outerjoin(DENIALS, DENIALS.c.denial_id == denial_of_eks)
    )


_FACTS: Final = LookUp(_facts)
_INSERT: Final = insert_all(_PENDING)
_OPEN_CHALLENGES: Final = Statement(
    select(func.count(), func.min(_PENDING.c.expires_at_us)).where(
        _PENDING.c.key_name == bindparam("key"),
        _PENDING.c.ak_name == bindparam("ak"),
        _PENDING.c.ek_sha256 == bindparam("ek"),
        _PENDING.c.source == bindparam("asker"),
        _PENDING.c.expires_at_us > bindparam("now"),
        ~exists().where(_ANSWERS.c.enrollment_id == _PENDING.c.enrollment_id),
    )
)
_GET: Final = Statement(
    select(*_PENDING.columns, _ANSWERS.c.request_sha256, _ANSWERS.c.answer, _ANSWERS.c.expires_at_us)
    .select_from(_PENDING.outerjoin(_ANSWERS, _ANSWERS.c.enrollment_id == _PENDING.c.enrollment_id))
    .where(_PENDING.c.enrollment_id == bindparam("key"))
)


def admission_facts(tx: Transaction, ek_sha256: Sequence[str], at: datetime) -> AdmissionFacts:
    denied = keys(denied_keys("", "", ek_sha256), name="denied")
    row = tx.row(_FACTS.of(ek_sha256), **keys(ek_sha256), **denied, now=to_us(at))
    if row is None:
        raise RuntimeError("a select from one row gave none")
    ends = (len(_MANIFEST.columns), len(SWAPS.columns), len(DEVICE_COLUMNS), len(DENIAL_COLUMNS))
    manifest, row = row[: ends[0]], row[ends[0] :]
    swap, row = row[: ends[1]], row[ends[1] :]
    device, denial = row[: ends[2]], row[ends[2] :]
    return AdmissionFacts(
        manifest=None if manifest[0] is None else manifest_from(manifest),
        device=None if device[0] is None else device_from(device),
        denied=None if denial[0] is None else denial_from(denial),
        swap=None if swap[0] is None else swap_from(swap),
    )


def add_pending(tx: Transaction, pending: PendingEnrollment, most_per_source: int) -> None:
    tx.lock_name(f"{pending.ek_sha256} {pending.key_name.hex()} {pending.source}")
    now = to_us(pending.created_at)
    ((number, first_expires),) = tx.rows(
        _OPEN_CHALLENGES,
        key=pending.key_name,
        ak=pending.ak_name,
        ek=pending.ek_sha256,
        asker=pending.source,
        now=now,
    )
    if number >= most_per_source:
        wait_s = int((from_us(first_expires) - pending.created_at).total_seconds()) + 1
        raise TooManyPending(
            f"{number} challenges for EK {pending.ek_sha256} and the same keys are open at {pending.source}, "
            f"at most {most_per_source}",
            retry_after_s=wait_s,
        )
    if tx.run(_INSERT, **pending_values(pending)) == 0:
        raise AlreadyExists(f"enrollment {pending.enrollment_id} has begun already")


def get_pending(tx: Transaction, enrollment_id: str) -> PendingEnrollment:
    row = tx.row(_GET, key=enrollment_id)
    if row is None:
        raise UnknownEnrollment(f"no enrollment {enrollment_id!r}")
    return pending_from(row)
