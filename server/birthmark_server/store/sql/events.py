"""What happened: the evidence behind each decision, what was refused, and the clearing away of what has expired."""

from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, ColumnExpressionArgument, Table, bindparam, delete, exists, func, select

from birthmark_server.domain import Evidence, Refusal
from birthmark_server.store.database import Database, Transaction
from birthmark_server.store.event_rows import evidence_from, evidence_values, refusal_from, refusal_values
from birthmark_server.store.rows import to_us
from birthmark_server.store.sql.idempotency import KEYS
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import Answers, EstNonces, EvidenceRows, Pending, Refusals, table_of

_EVIDENCE: Final = table_of(EvidenceRows)
_REFUSALS: Final = table_of(Refusals)
_PENDING: Final = table_of(Pending)
_ANSWERS: Final = table_of(Answers)
_NONCES: Final = table_of(EstNonces)

_PURGE_AT_ONCE: Final = 500
"""Rows per transaction, so that enrollments never wait long behind a purge."""

_INSERT_EVIDENCE: Final = insert_all(_EVIDENCE)
_OF_DEVICE: Final = Statement(
    select(
        _EVIDENCE.c.at_us,
        _EVIDENCE.c.kind,
        _EVIDENCE.c.verifier_version,
        _EVIDENCE.c.roots_version,
        _EVIDENCE.c.parts,
    )
    .where(_EVIDENCE.c.device_id == bindparam("key"))
    .order_by(_EVIDENCE.c.id)
)
_INSERT_REFUSAL: Final = insert_all(_REFUSALS)
_REFUSAL_COLUMNS: Final = tuple(column for column in _REFUSALS.columns if column.name != "id")


def _purge(table: Table, key: str, *expired: ColumnExpressionArgument[bool]) -> Statement:
    column = table.c[key]
    return Statement(delete(table).where(column.in_(select(column).where(*expired).limit(_PURGE_AT_ONCE))))


_PURGES: Final = (
    _purge(_ANSWERS, "enrollment_id", _ANSWERS.c.expires_at_us < bindparam("now")),
    _purge(
        _PENDING,
        "enrollment_id",
        _PENDING.c.expires_at_us < bindparam("now"),
        ~exists().where(_ANSWERS.c.enrollment_id == _PENDING.c.enrollment_id),
    ),
    _purge(_NONCES, "nonce", _NONCES.c.expires_at_us < bindparam("now")),
    Statement(delete(KEYS).where(KEYS.c.expires_at_us < bindparam("now"))),
)


REFUSAL_BYTES: Final = 512
"""What an entry takes beside its evidence and its detail: its other columns, and its places in three indexes."""

_REFUSAL_SIZES: Final = select(
    _REFUSALS.c.id,
    func.sum(func.length(_REFUSALS.c.evidence) + func.length(_REFUSALS.c.detail) + REFUSAL_BYTES)
    .over(order_by=((_REFUSALS.c.device_id == "").asc(), _REFUSALS.c.id.desc()))
    .label("so_far"),
).subquery()
_PURGE_OLD_REFUSALS: Final = _purge(_REFUSALS, "id", _REFUSALS.c.at_us < bindparam("limit"))
_PURGE_MANY_REFUSALS: Final = Statement(
    delete(_REFUSALS).where(
        _REFUSALS.c.id.in_(
            select(_REFUSAL_SIZES.c.id).where(_REFUSAL_SIZES.c.so_far > bindparam("limit")).limit(_PURGE_AT_ONCE)
        )
    )
)


def add_evidence(tx: Transaction, evidence: Evidence, *, device_id: str, certificate_sha256: str, at: datetime) -> None:
    """Keep what a decision rested on. certificate_sha256: what was issued on it, empty if nothing new was."""
    values = evidence_values(evidence, device_id=device_id, certificate_sha256=certificate_sha256, at=at)
    tx.run(_INSERT_EVIDENCE, **values)


def device_evidence(tx: Transaction, device_id: str) -> list[tuple[datetime, Evidence]]:
    return [evidence_from(row) for row in tx.rows(_OF_DEVICE, key=device_id)]


def record_refusal(tx: Transaction, refusal: Refusal) -> None:
    tx.run(_INSERT_REFUSAL, **refusal_values(refusal))


def list_refusals(tx: Transaction, code: str, device_id: str, since: datetime | None, limit: int) -> list[Refusal]:
    page = (
        select(*_REFUSAL_COLUMNS).where(*_wanted(code, device_id, since)).order_by(_REFUSALS.c.id.desc()).limit(limit)
    )
    return [refusal_from(row) for row in tx.rows(Statement(page))]


def _wanted(code: str, device_id: str, since: datetime | None) -> list[ColumnElement[bool]]:
    wanted: list[ColumnElement[bool]] = []
    if code:
        wanted.append(_REFUSALS.c.code == code)
    if device_id:
        wanted.append(_REFUSALS.c.device_id == device_id)
    if since is not None:
        wanted.append(_REFUSALS.c.at_us >= to_us(since))
    return wanted


def page_refusals(
    tx: Transaction, code: str, device_id: str, since: datetime | None, before: int, limit: int
) -> list[tuple[int, Refusal]]:
    wanted = _wanted(code, device_id, since)
    if before:
        wanted.append(_REFUSALS.c.id < before)
    page = select(_REFUSALS.c.id, *_REFUSAL_COLUMNS).where(*wanted).order_by(_REFUSALS.c.id.desc()).limit(limit)
    return [(row[0], refusal_from(row[1:])) for row in tx.rows(Statement(page))]


def purge_expired(database: Database, at: datetime) -> int:
    """Many small transactions; answers first, since a challenge stays as long as its answer may be asked for."""
    total = 0
    for statement in _PURGES:
        while gone := database.write(_run_purge, statement, at):
            total += gone
    return total


def _run_purge(tx: Transaction, statement: Statement, at: datetime) -> int:
    return tx.run(statement, now=to_us(at))


def purge_refusals(database: Database, before: datetime, most_bytes: int) -> int:
    total = 0
    for statement, limit in ((_PURGE_OLD_REFUSALS, to_us(before)), (_PURGE_MANY_REFUSALS, most_bytes)):
        while gone := database.write(_run_refusal_purge, statement, limit):
            total += gone
    return total


def _run_refusal_purge(tx: Transaction, statement: Statement, limit: int) -> int:
    return tx.run(statement, limit=limit)
