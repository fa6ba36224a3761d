"""Who knows the trust bundle, as they say themselves: devices, brokers, servers. See store/authority_protocol.py."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Table, and_, bindparam, case, delete, exists, func, literal_column, or_, select, update

from birthmark_server.authorities import Laggard, PeerReport, TrustCount
from birthmark_server.domain import DeviceState
from birthmark_server.store.authority_tables import BrokerReports, DeviceTrust, ReplicaReports, TrustBundles
from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import from_us, joined, split, to_us
from birthmark_server.store.sql.devices import DEVICES
from birthmark_server.store.statement import LookUp, Statement, keys, one_of
from birthmark_server.store.tables import table_of
from birthmark_wire.trust import TRUST_STALE, TrustAck

_TRUST: Final = table_of(DeviceTrust)
_BUNDLES: Final = table_of(TrustBundles)
_BROKERS: Final = table_of(BrokerReports)
_REPLICAS: Final = table_of(ReplicaReports)

_NOTE: Final = Statement(
    lambda insert: (
        insert(_TRUST)
        .from_select(
            [column.name for column in _TRUST.columns],
            select(
                DEVICES.c.device_id,
                bindparam("held"),
                bindparam("said"),
                bindparam("words"),
                bindparam("now"),
                literal_column("0"),  # offered, sends, send_at_us
                literal_column("0"),
                literal_column("0"),
            ).where(DEVICES.c.device_id == bindparam("device")),
        )
        .on_conflict_do_update(
            index_elements=[_TRUST.c.device_id],
            set_={
                "version": bindparam("held"),
                "code": bindparam("said"),
                "detail": bindparam("words"),
                "heard_at_us": bindparam("now"),
            },
            where=or_(_TRUST.c.heard_at_us.is_(None), _TRUST.c.heard_at_us <= bindparam("now")),
        )
    )
)
_FORGET: Final = Statement(delete(_TRUST).where(_TRUST.c.device_id == bindparam("device")))
_STALE: Final = _TRUST.c.code == TRUST_STALE
"""It was sent a version that it had already, and had another one: with this number, it may have anything."""
_VERSION: Final = Statement(select(_TRUST.c.version).where(_TRUST.c.device_id == bindparam("device"), ~_STALE))
_KNOW_OF: Final = LookUp(
    lambda number: select(DEVICES.c.device_id).where(
        one_of(DEVICES.c.device_id, number), ~exists().where(_TRUST.c.device_id == DEVICES.c.device_id)
    )
)
_BEGIN: Final = Statement(
    lambda insert: insert(_TRUST).on_conflict_do_nothing().inline(), columns=[column.name for column in _TRUST.columns]
)
_DUE: Final = LookUp(
    lambda number: (
        select(_TRUST.c.device_id, _TRUST.c.sends, _TRUST.c.offered)
        .where(
            one_of(_TRUST.c.device_id, number),
            or_(_TRUST.c.version < bindparam("wanted"), _STALE),
            or_(_TRUST.c.offered < bindparam("wanted"), _TRUST.c.send_at_us <= bindparam("now")),
        )
        .order_by(_TRUST.c.device_id)
        .with_for_update(skip_locked=True)
    )
)
_TAKE: Final = Statement(
    update(_TRUST)
    .where(_TRUST.c.device_id == bindparam("device"))
    .values(offered=bindparam("wanted"), sends=bindparam("times"), send_at_us=bindparam("later"))
)
_SEEN_AT: Final = func.coalesce(DEVICES.c.last_seen_at_us, DEVICES.c.enrolled_at_us)
_HELD: Final = func.coalesce(_TRUST.c.version, 0)
_LATEST: Final = select(func.coalesce(func.max(_BUNDLES.c.version), 0)).scalar_subquery()
_KNOWS: Final = and_(bindparam("wanted") <= _HELD, _HELD <= _LATEST, or_(_TRUST.c.code.is_(None), ~_STALE))
"""A version above all that are on record is of another history, as is one on record by which ours is stale: what is in
it, nobody here knows."""
_WANTED_DEVICES: Final = (DEVICES.c.state == DeviceState.ACTIVE.value, bindparam("since") <= _SEEN_AT)
_JOINED: Final = DEVICES.outerjoin(_TRUST, _TRUST.c.device_id == DEVICES.c.device_id)
_COUNT: Final = Statement(
    select(func.count(), func.coalesce(func.sum(case((_KNOWS, 1), else_=0)), 0))
    .select_from(_JOINED)
    .where(*_WANTED_DEVICES)
)
_LAGGARDS: Final = Statement(
    select(
        DEVICES.c.device_id,
        _SEEN_AT,
        _HELD,
        func.coalesce(_TRUST.c.code, ""),
        func.coalesce(_TRUST.c.detail, ""),
    )
    .select_from(_JOINED)
    .where(*_WANTED_DEVICES, ~_KNOWS, DEVICES.c.device_id > bindparam("after"))
    .order_by(DEVICES.c.device_id)
    .limit(bindparam("most"))
)


def note_trust(tx: Transaction, device_id: str, ack: TrustAck, at: datetime) -> None:
    tx.run(_NOTE, device=device_id, held=ack.version, said=ack.code, words=ack.detail, now=to_us(at))


def forget_trust(tx: Transaction, device_id: str) -> None:
    """Part of a birth: see AuthorityStore.note_trust."""
    tx.run(_FORGET, device=device_id)


def trust_of(tx: Transaction, device_id: str) -> int:
    row = tx.row(_VERSION, device=device_id)
    return 0 if row is None else int(row[0])


def claim_pushes(
    tx: Transaction, device_ids: Sequence[str], version: int, at: datetime, again: Callable[[int], timedelta]
) -> list[str]:
    for (device_id,) in tx.rows(_KNOW_OF.of(device_ids), **keys(device_ids)):
        tx.run(
            _BEGIN,
            device_id=device_id,
            version=0,
            code="",
            detail="",
            heard_at_us=None,
            offered=0,
            sends=0,
            send_at_us=0,
        )
    due = tx.rows(_DUE.of(device_ids), **keys(device_ids), wanted=version, now=to_us(at))
    for device_id, sends, offered in due:
        before = int(sends) if offered == version else 0
        tx.run(_TAKE, device=device_id, wanted=version, times=before + 1, later=to_us(at + again(before)))
    return [device_id for device_id, _, _ in due]


def count_trust(tx: Transaction, version: int, seen_since: datetime) -> TrustCount:
    ((seen, known),) = tx.rows(_COUNT, wanted=version, since=to_us(seen_since))
    return TrustCount(int(seen), int(known))


def page_laggards(tx: Transaction, version: int, seen_since: datetime, after: str, limit: int) -> list[Laggard]:
    found = tx.rows(_LAGGARDS, wanted=version, since=to_us(seen_since), after=after, most=limit)
    return [Laggard(device_id, from_us(seen), int(held), code, detail) for device_id, seen, held, code, detail in found]


# -- brokers and servers


def _note_in(table: Table) -> Statement:
    return Statement(
        lambda insert: (new := insert(table)).on_conflict_do_update(
            index_elements=[table.c.name],
            set_={name: new.excluded[name] for name in ("issuers", "heard_at_us", "detail")},
            where=table.c.heard_at_us <= new.excluded.heard_at_us,
        ),
        columns=[column.name for column in table.columns],
    )


def _heard_in(table: Table) -> Statement:
    return Statement(select(table).where(table.c.heard_at_us >= bindparam("since")).order_by(table.c.name))


_NOTE_BROKER, _NOTE_REPLICA = _note_in(_BROKERS), _note_in(_REPLICAS)
_HEARD_BROKERS, _HEARD_REPLICAS = _heard_in(_BROKERS), _heard_in(_REPLICAS)


def note_broker(tx: Transaction, report: PeerReport) -> None:
    _note(tx, _NOTE_BROKER, report)


def note_replica(tx: Transaction, report: PeerReport) -> None:
    _note(tx, _NOTE_REPLICA, report)


def brokers(tx: Transaction, since: datetime) -> list[PeerReport]:
    return _heard(tx, _HEARD_BROKERS, since)


def replicas(tx: Transaction, since: datetime) -> list[PeerReport]:
    return _heard(tx, _HEARD_REPLICAS, since)


def _note(tx: Transaction, statement: Statement, report: PeerReport) -> None:
    tx.run(
        statement,
        name=report.name,
        issuers=joined(report.issuers),
        heard_at_us=to_us(report.heard_at),
        detail=report.detail,
    )


def _heard(tx: Transaction, statement: Statement, since: datetime) -> list[PeerReport]:
    return [
        PeerReport(name, split(issuers), from_us(heard), detail)
        for name, issuers, heard, detail in tx.rows(statement, since=to_us(since))
    ]
