"""Groups: saved queries. Who is in one is asked of sql/fleet.py each time."""

from typing import Final

from sqlalchemy import bindparam, delete, select

from birthmark_server.fleet import Group
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import AlreadyExists, UnknownGroup
from birthmark_server.store.fleet_tables import Groups
from birthmark_server.store.rows import from_us, to_us
from birthmark_server.store.statement import Row, Statement, insert_all
from birthmark_server.store.tables import table_of

_GROUPS: Final = table_of(Groups)
_INSERT: Final = insert_all(_GROUPS)
_GET: Final = Statement(select(_GROUPS).where(_GROUPS.c.name == bindparam("key")))
_LIST: Final = Statement(select(_GROUPS).order_by(_GROUPS.c.name))
_REMOVE: Final = Statement(delete(_GROUPS).where(_GROUPS.c.name == bindparam("key")))


def save_group(tx: Transaction, group: Group) -> None:
    values = {"name": group.name, "query": group.query, "saved_by": group.saved_by}
    if tx.run(_INSERT, **values, saved_at_us=to_us(group.saved_at)) == 0:
        known = get_group(tx, group.name)
        if known.query != group.query:
            raise AlreadyExists(f"group {group.name} is there already, with {known.query}")


def get_group(tx: Transaction, name: str) -> Group:
    row = tx.row(_GET, key=name)
    if row is None:
        raise UnknownGroup(f"no group {name!r}")
    return _from(row)


def list_groups(tx: Transaction) -> list[Group]:
    return [_from(row) for row in tx.rows(_LIST)]


def remove_group(tx: Transaction, name: str) -> None:
    if tx.run(_REMOVE, key=name) == 0:
        raise UnknownGroup(f"no group {name!r}")


def _from(row: Row) -> Group:
    name, query, saved_by, saved_at = row
    return Group(name, query, saved_by, from_us(saved_at))
