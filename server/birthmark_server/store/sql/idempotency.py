"""Idempotency keys: a request that is repeated is answered as it was, and done once."""

from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, delete, select, update

from birthmark_server.fleet import KeptAnswer
from birthmark_server.store.database import Transaction
from birthmark_server.store.fleet_tables import IdempotencyKeys
from birthmark_server.store.rows import to_us
from birthmark_server.store.statement import Statement, insert_all
from birthmark_server.store.tables import table_of

KEYS: Final = table_of(IdempotencyKeys)

_THIS: Final = (KEYS.c.caller == bindparam("who"), KEYS.c.key == bindparam("word"))
_INSERT: Final = insert_all(KEYS)
_GET: Final = Statement(select(KEYS.c.request_sha256, KEYS.c.status, KEYS.c.media_type, KEYS.c.body).where(*_THIS))
_DROP_EXPIRED: Final = Statement(delete(KEYS).where(*_THIS, KEYS.c.expires_at_us <= bindparam("now")))
_TAKE_AGAIN: Final = Statement(
    update(KEYS)
    .where(
        *_THIS,
        KEYS.c.status == 0,
        KEYS.c.request_sha256 == bindparam("digest"),
        KEYS.c.lease_until_us <= bindparam("now"),
    )
    .values(lease_until_us=bindparam("lease"))
)
_KEEP: Final = Statement(
    update(KEYS)
    .where(*_THIS)
    .values(status=bindparam("number"), media_type=bindparam("kind"), body=bindparam("answer"))
)
_DROP: Final = Statement(delete(KEYS).where(*_THIS, KEYS.c.status == 0))


def take_key(
    tx: Transaction, caller: str, key: str, request_sha256: str, at: datetime, lease_until: datetime, expires: datetime
) -> KeptAnswer | None:
    now, lease = to_us(at), to_us(lease_until)
    tx.run(_DROP_EXPIRED, who=caller, word=key, now=now)
    taken = tx.run(
        _INSERT,
        caller=caller,
        key=key,
        request_sha256=request_sha256,
        status=0,
        media_type="",
        body=b"",
        lease_until_us=lease,
        expires_at_us=to_us(expires),
    )
    if taken or tx.run(_TAKE_AGAIN, who=caller, word=key, digest=request_sha256, now=now, lease=lease):
        return None
    row = tx.row(_GET, who=caller, word=key)
    if row is None:
        raise RuntimeError("a key that could not be inserted is not there")
    return KeptAnswer(*row)


def keep_answer(tx: Transaction, caller: str, key: str, status: int, media_type: str, body: bytes) -> None:
    tx.run(_KEEP, who=caller, word=key, number=status, kind=media_type, answer=body)


def drop_key(tx: Transaction, caller: str, key: str) -> None:
    tx.run(_DROP, who=caller, word=key)
