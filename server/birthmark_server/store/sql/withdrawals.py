"""Taking back what a station signed, when the manifest's line that it made is removed."""

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, update

from birthmark_server.store.database import Transaction
from birthmark_server.store.rows import to_us
from birthmark_server.store.statement import Statement
from birthmark_server.store.tables import table_of
from birthmark_server.store.workorder_tables import StationEntries

_ENTRIES: Final = table_of(StationEntries)

_WITHDRAW: Final = Statement(
    update(_ENTRIES)
    .where(
        _ENTRIES.c.withdrawn_at_us.is_(None),
        _ENTRIES.c.serial == bindparam("number"),
        _ENTRIES.c.ek_sha256 == bindparam("ek"),
        _ENTRIES.c.brought_at_us <= bindparam("now"),
    )
    .values(withdrawn_at_us=bindparam("now"), withdrawn_by=bindparam("who"))
)


def withdraw(tx: Transaction, *, serial: str, ek_sha256: str, at: datetime, by: str) -> bool:
    """The manifest's line of this serial number and EK is removed, and with it what a station had signed of it by
    then. Return whether it had."""
    return tx.run(_WITHDRAW, number=serial, ek=ek_sha256, now=to_us(at), who=by) > 0
