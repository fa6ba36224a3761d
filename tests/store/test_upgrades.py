"""From each schema there ever was, with a row in every table, to this program's: nothing is lost on the way.

Whatever step is added to the migrations is upgraded from here by itself.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Boolean, Column, Connection, Float, Integer, LargeBinary, MetaData, Table, insert, select
from sqlalchemy.engine import make_url

from birthmark_server.campaigns import Campaign, CampaignState, Strategy
from birthmark_server.domain import DeviceState
from birthmark_server.store import migrate
from birthmark_server.store.driver import BackEnd
from birthmark_server.store.open import open_store
from birthmark_server.store.postgresql import PostgresqlBackEnd
from birthmark_server.store.sqlite import SqliteBackEnd
from birthmark_server.store.statement import Value
from store.test_schema import FIRST_SCHEMA_ROWS, ISSUED, KNOWN
from store.values import NOW
from support.postgres import fresh_database, postgres_server

Rows = dict[str, dict[str, Value]]


def _older() -> list[str]:
    with migrate._config(None) as config:
        steps = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    return sorted(steps)[:-1]


OLDER = _older()
CAMPAIGN: dict[str, Value] = {"campaign_id": "spring", "state": CampaignState.DONE.value, "strategy": "{}"}
"""What a table's row must say to be read again; all else may be anything of its type."""
_EVERY_DEVICE = {
    "0005": '{"device_ids":[],"model":"","batch":"","issued_by":"","expiring_before":null,"never_rotated":false}'
}
"""How a campaign's selector said so in that schema; in all later ones as it does today."""


def test_there_is_something_to_upgrade_from() -> None:
    assert OLDER[:5] == ["0001", "0002", "0003", "0004", "0005"][: len(OLDER)]
    assert len(OLDER) >= 4


def _fill(connection: Connection, version: str) -> Rows:
    """Put a row into every table of the schema as it is, parents first; return them."""
    tables, rows = MetaData(), Rows()
    tables.reflect(connection)
    for table in tables.sorted_tables:
        if table.name == "alembic_version":
            continue
        known = FIRST_SCHEMA_ROWS.get(table.name, {})
        if table.name == "campaigns":
            known = CAMPAIGN | {"selector": _EVERY_DEVICE.get(version, "[]")}
        row = {column.name: _value(column, rows) for column in table.columns if column.name not in known}
        rows[table.name] = row | {name: value for name, value in known.items() if name in table.columns}
        connection.execute(insert(table), rows[table.name])
    return rows


def _value(column: Column[Any], rows: Rows) -> Value:
    """Anything that such a column may hold; of what it refers to, the row that is there."""
    for key in column.foreign_keys:
        return rows[key.column.table.name][key.column.name]
    if column.name == "device_id":
        return KNOWN.device_id
    if isinstance(column.type, LargeBinary):
        return b"\x07" * 32
    if isinstance(column.type, Boolean):
        return True
    return 7 if isinstance(column.type, Integer | Float) else "seven"


def _read(connection: Connection, name: str) -> list[dict[str, Value]]:
    table = Table(name, MetaData(), autoload_with=connection)
    return [dict(row) for row in connection.execute(select(table)).mappings()]


def assert_nothing_is_lost(back_end: BackEnd, url: str, version: str, folder: Path) -> None:
    migrate.upgrade(back_end, version=version)
    with back_end.schema_connection() as connection:
        before = _fill(connection, version)
    assert f"has schema {version}" in migrate.schema_problem(back_end)
    store = open_store(url, journal=folder / "journal", create=True)
    try:
        assert store.check() == []
        assert store.certificate_by_sha256(ISSUED.sha256) == (ISSUED, KNOWN)
        assert store.count_devices()[DeviceState.ACTIVE] == 1
        if "campaigns" in before:
            (kept,) = store.campaigns.page_campaigns()
            assert (kept.campaign_id, kept.state, kept.selector, kept.strategy) == (
                "spring",
                CampaignState.DONE,
                (),
                Strategy(),
            )
        later = Campaign("later", CampaignState.RUNNING, (), Strategy(), "alice", NOW + timedelta(days=1))
        store.campaigns.add_campaign(later, [[KNOWN.device_id]])
        assert store.campaigns.get_campaign(later.campaign_id) == later
    finally:
        store.close()
    with back_end.schema_connection() as connection:
        before.get("campaigns", {}).pop("selector", None)  # looked at above: a step may say the same in other words
        for name, row in before.items():
            after = _read(connection, name)
            assert any(row.items() <= one.items() for one in after if one.keys() >= row.keys()), (name, row, after)


@pytest.mark.parametrize("version", OLDER)
def test_a_filled_schema_is_upgraded_on_sqlite(version: str, tmp_path: Path) -> None:
    path = tmp_path / "birthmark.db"
    path.touch(mode=0o600)
    assert_nothing_is_lost(SqliteBackEnd(path), f"sqlite:///{path}", version, tmp_path)


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as server:
        yield server


@pytest.mark.parts
@pytest.mark.parametrize("version", OLDER)
def test_a_filled_schema_is_upgraded_on_postgresql(version: str, postgres: str, tmp_path: Path) -> None:
    with fresh_database(postgres) as url:
        assert_nothing_is_lost(PostgresqlBackEnd(make_url(url)), url, version, tmp_path)
