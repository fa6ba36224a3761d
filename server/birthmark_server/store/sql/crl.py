"""What CRLs are made of: the revoked, as a list names them; a number for each list, and when the last one was made.

A list may have a million entries. They are read page by page from an index that has all that an entry says
(tables.Certificates), as the rows are: no record is made of each.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, func, select

from birthmark_server.domain import CrlIssue, RevokedEntry
from birthmark_server.store.database import Database, Transaction
from birthmark_server.store.journal_entries import CrlNumberUsed
from birthmark_server.store.rows import from_us_or_none, to_us
from birthmark_server.store.sql.certificates import CERTIFICATES
from birthmark_server.store.statement import Row, Statement
from birthmark_server.store.tables import CrlNumbers, table_of

_NUMBERS: Final = table_of(CrlNumbers)
_PAGE: Final = 10_000

_ENTRIES: Final = Statement(
    select(CERTIFICATES.c.serial_number, CERTIFICATES.c.revoked_at_us, CERTIFICATES.c.reason)
    .where(
        CERTIFICATES.c.issuer_sha256 == bindparam("issuer"),
        CERTIFICATES.c.revoked_at_us.is_not(None),
        CERTIFICATES.c.not_after_us >= bindparam("since"),
        CERTIFICATES.c.serial_number > bindparam("after"),
    )
    .order_by(CERTIFICATES.c.serial_number)
    .limit(_PAGE)
)
_COUNT: Final = Statement(
    select(func.count()).where(
        CERTIFICATES.c.issuer_sha256 == bindparam("issuer"), CERTIFICATES.c.revoked_at_us.is_not(None)
    )
)
_MADE_AT: Final = Statement(
    select(_NUMBERS.c.made_at_us).where(_NUMBERS.c.issuer_sha256 == bindparam("issuer")).with_for_update()
)
_NEXT: Final = Statement(
    lambda insert: (
        insert(_NUMBERS)
        .values(issuer_sha256=bindparam("issuer"), number=1, made_at_us=bindparam("now"))
        .on_conflict_do_update(
            index_elements=[_NUMBERS.c.issuer_sha256],
            set_={"number": _NUMBERS.c.number + 1, "made_at_us": bindparam("now")},
        )
        .returning(_NUMBERS.c.number)
    )
)
_RAISE: Final = Statement(
    lambda insert: (
        insert(_NUMBERS)
        .values(issuer_sha256=bindparam("issuer"), number=bindparam("used"))
        .on_conflict_do_update(
            index_elements=[_NUMBERS.c.issuer_sha256],
            set_={"number": bindparam("used")},
            where=_NUMBERS.c.number < bindparam("used"),
        )
    )
)


def revoked_entries(database: Database, issuer_sha256: str, since: datetime) -> Iterator[RevokedEntry]:
    """By pages: a revocation is never undone, so whatever was revoked before the first page is on one of them."""
    after, since_us = "", to_us(since)
    while page := database.read(_page, issuer_sha256, since_us, after):
        yield from page
        after = page[-1][0]


def _page(tx: Transaction, issuer_sha256: str, since: int, after: str) -> list[Row]:
    return tx.rows(_ENTRIES, issuer=issuer_sha256, since=since, after=after)


def count_revoked(tx: Transaction, issuer_sha256: str) -> int:
    ((number,),) = tx.rows(_COUNT, issuer=issuer_sha256)
    return int(number)


def next_crl(tx: Transaction, issuer_sha256: str, at: datetime) -> CrlIssue:
    previous_at = crl_made_at(tx, issuer_sha256)
    ((number,),) = tx.rows(_NEXT, issuer=issuer_sha256, now=to_us(at))
    tx.tell(CrlNumberUsed(issuer_sha256, number))
    return CrlIssue(int(number), previous_at)


def crl_made_at(tx: Transaction, issuer_sha256: str) -> datetime | None:
    row = tx.row(_MADE_AT, issuer=issuer_sha256)
    return None if row is None else from_us_or_none(row[0])


# -- replay


def raise_crl_number(tx: Transaction, entry: CrlNumberUsed) -> bool:
    return tx.run(_RAISE, issuer=entry.issuer_sha256, used=entry.number) == 1
