"""Opening and migrating, on both back ends: the migrations make what tables.py says, and nothing opens on a guess."""

import json
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import MetaData, select, text
from sqlalchemy.engine import make_url

from birthmark_server.campaigns import DeviceState
from birthmark_server.domain import UNKNOWN, BoardSwap, DeviceRevocation, RevocationReason
from birthmark_server.errors import Misconfigured
from birthmark_server.fleet import DeviceFilter
from birthmark_server.store import migrate
from birthmark_server.store.database import Transaction
from birthmark_server.store.driver import BackEnd
from birthmark_server.store.errors import StoreFailed
from birthmark_server.store.open import open_store
from birthmark_server.store.postgresql import PostgresqlBackEnd
from birthmark_server.store.rows import (
    batch_values,
    certificate_values,
    device_values,
    model_values,
    revocation_values,
    swap_values,
)
from birthmark_server.store.sql import (
    admission,
    births,
    campaign_views,
    certificates,
    crl,
    devices,
    endorsements,
    events,
    issuance,
    jobs,
    revocation,
    status,
)
from birthmark_server.store.sql.selection import conditions
from birthmark_server.store.sqlite import SqliteBackEnd
from birthmark_server.store.statement import LookUp, Row, Statement, Value, keys
from birthmark_server.store.tables import METADATA
from store.values import DAY, MODEL, NOW, batch, certificate, device, ek
from store.world import race
from support.postgres import fresh_database, postgres_server


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/birthmark.db"


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    path = tmp_path / "birthmark.db"
    path.touch(mode=0o600)
    return path


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with postgres_server() as server:
        yield server


def assert_migrations_make_the_tables(back_end: BackEnd) -> None:
    assert migrate.schema_version(back_end) == ""
    assert "birthmark database upgrade" in migrate.schema_problem(back_end)
    for _ in range(2):
        migrate.upgrade(back_end)
        assert migrate.schema_version(back_end) == migrate.wanted_version()
    assert migrate.schema_problem(back_end) == ""
    with back_end.schema_connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_migrations_make_the_tables_on_sqlite(sqlite_file: Path) -> None:
    assert_migrations_make_the_tables(SqliteBackEnd(sqlite_file))


@pytest.mark.parts
def test_migrations_make_the_tables_on_postgresql(postgres: str) -> None:
    with fresh_database(postgres) as url:
        assert_migrations_make_the_tables(PostgresqlBackEnd(make_url(url)))


def test_migrations_make_on_sqlite_exactly_what_the_tables_would(sqlite_file: Path, tmp_path: Path) -> None:
    """compare_metadata sees neither partial indexes nor WITHOUT ROWID: the SQL does."""
    migrated, direct = SqliteBackEnd(sqlite_file), SqliteBackEnd(tmp_path / "direct.db")
    direct.path.touch(mode=0o600)
    migrate.upgrade(migrated)
    with direct.schema_connection() as connection:
        METADATA.create_all(connection)
    assert schema_sql(migrated) == schema_sql(direct)


def schema_sql(back_end: SqliteBackEnd) -> set[str]:
    connection = back_end.connect()
    rows = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name <> 'alembic_version'")
    statements = {" ".join(sorted(sql.replace(",", " ").split())) for (sql,) in rows}
    connection.close()
    return statements


KNOWN = device(1, other_ek_sha256=())
ISSUED = certificate("x", KNOWN.device_id, revoked_at=NOW, reason=RevocationReason.SUPERSEDED)
REVOKED = DeviceRevocation(KNOWN.device_id, 1, RevocationReason.SUPERSEDED, NOW, UNKNOWN, NOW, UNKNOWN)
SWAP = BoardSwap(KNOWN.device_id, ek(50), "alice", NOW, "bob", NOW, NOW + DAY)
CLOSED = batch(closed_at=NOW)
FIRST_SCHEMA_ROWS: dict[str, dict[str, Value]] = {
    "models": model_values(MODEL),
    "batches": batch_values(CLOSED),
    "devices": device_values(KNOWN, rekeyed_at_us=None),
    "endorsement_keys": {"ek_sha256": KNOWN.ek_sha256, "device_id": KNOWN.device_id},
    "certificates": certificate_values(ISSUED),
    "device_revocations": revocation_values(REVOKED),
    "board_swaps": swap_values(SWAP),
}


def assert_a_filled_first_schema_is_upgraded(back_end: BackEnd, url: str, folder: Path) -> None:
    migrate.upgrade(back_end, version="0001")
    assert "back it up and run `birthmark database upgrade`" in migrate.schema_problem(back_end)
    with back_end.schema_connection() as connection:
        tables = MetaData()
        tables.reflect(connection)
        for name, values in FIRST_SCHEMA_ROWS.items():
            there = {column: value for column, value in values.items() if column in tables.tables[name].columns}
            connection.execute(tables.tables[name].insert(), there)
    for _ in range(2):
        store = open_store(url, journal=folder / "journal", create=True)
        assert store.check() == []
        assert store.get_model(MODEL.name) == replace(MODEL, added_by=UNKNOWN)
        assert store.get_batch(CLOSED.name) == CLOSED
        assert store.certificate_by_sha256(ISSUED.sha256) == (ISSUED, KNOWN)
        assert store.device_revocations(KNOWN.device_id) == [REVOKED]
        assert store.get_swap(KNOWN.device_id) == SWAP
        store.close()
        with back_end.schema_connection() as connection, migrate._config(connection) as config:
            command.downgrade(config, "0001")


def test_a_filled_first_schema_is_upgraded_on_sqlite(sqlite_file: Path, url: str, tmp_path: Path) -> None:
    assert_a_filled_first_schema_is_upgraded(SqliteBackEnd(sqlite_file), url, tmp_path)


@pytest.mark.parts
def test_a_filled_first_schema_is_upgraded_on_postgresql(postgres: str, tmp_path: Path) -> None:
    with fresh_database(postgres) as url:
        assert_a_filled_first_schema_is_upgraded(PostgresqlBackEnd(make_url(url)), url, tmp_path)


OLD_SELECTOR = {
    "device_ids": ["dev-1"],
    "model": "edge-1",
    "batch": "",
    "issued_by": "15" * 32,
    "expiring_before": "2026-03-01T12:00:00Z",
    "never_rotated": True,
}
EVERY_DEVICE = OLD_SELECTOR | {
    "device_ids": [], "model": "", "issued_by": "", "expiring_before": None, "never_rotated": False,
}  # fmt: skip


def assert_campaigns_select_as_before(back_end: BackEnd, url: str, folder: Path) -> None:
    migrate.upgrade(back_end, version="0005")
    with back_end.schema_connection() as connection:
        tables = MetaData()
        tables.reflect(connection)
        for name, selector in (("some", OLD_SELECTOR), ("all", EVERY_DEVICE)):
            row = {column.name: 0 for column in tables.tables["campaigns"].columns if not column.nullable}
            words = {"campaign_id": name, "state": "running", "created_by": "alice", "reason": "", "strategy": "{}"}
            connection.execute(tables.tables["campaigns"].insert(), row | words | {"selector": json.dumps(selector)})
    store = open_store(url, journal=folder / "journal", create=True)
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    only = DeviceFilter(("dev-1",), None, "edge-1", "", (), ("15" * 32,), at, None, True)
    assert store.campaigns.get_campaign("some").selector == (only,)
    assert store.campaigns.get_campaign("all").selector == ()
    tagged = replace(store.campaigns.get_campaign("all"), campaign_id="new", selector=(DeviceFilter(tags=("x",)),))
    store.campaigns.add_campaign(tagged, [])
    store.close()
    with back_end.schema_connection() as connection, migrate._config(connection) as config:
        command.downgrade(config, "0005")
    with back_end.schema_connection() as connection:
        found = connection.execute(text("SELECT campaign_id, selector FROM campaigns"))
        selectors = {name: json.loads(selector) for name, selector in found}
    assert selectors == {
        "some": OLD_SELECTOR,
        "all": EVERY_DEVICE,
        "new": EVERY_DEVICE | {"device_ids": ["-"]},  # what it selects can't be said: nobody
    }


def test_campaigns_of_before_select_as_they_did_on_sqlite(sqlite_file: Path, url: str, tmp_path: Path) -> None:
    assert_campaigns_select_as_before(SqliteBackEnd(sqlite_file), url, tmp_path)


@pytest.mark.parts
def test_campaigns_of_before_select_as_they_did_on_postgresql(postgres: str, tmp_path: Path) -> None:
    with fresh_database(postgres) as url:
        assert_campaigns_select_as_before(PostgresqlBackEnd(make_url(url)), url, tmp_path)


def test_what_hangs_on_the_certificate_in_use_reads_no_certificate(sqlite_file: Path) -> None:
    back_end = SqliteBackEnd(sqlite_file)
    migrate.upgrade(back_end)
    connection = back_end.connect()
    for wanted in (DeviceFilter(expiring_before=NOW), DeviceFilter(issued_by=("15" * 32,))):
        statement = Statement(select(devices.DEVICES.c.device_id).where(*conditions([wanted])))
        sql = statement.sql(back_end.dialect)
        plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?")).fetchall()
        reads = [row[3] for row in plan if "certificates" in row[3]]
        assert reads
        assert all("USING COVERING INDEX ix_certificates_standing" in read for read in reads), reads
    connection.close()


@dataclass
class Asked:
    """A transaction in which nothing is found: it explains what it was asked for."""

    back_end: SqliteBackEnd
    plans: list[str] = field(default_factory=list)

    def rows(self, statement: Statement, **_: Value) -> list[Row]:
        sql = statement.sql(self.back_end.dialect)
        connection = self.back_end.connect()
        self.plans += [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?"))]
        connection.close()
        return []


def test_no_page_of_a_campaign_looks_through_all_devices_of_all_campaigns(sqlite_file: Path) -> None:
    back_end = SqliteBackEnd(sqlite_file)
    migrate.upgrade(back_end)
    for state in (None, *DeviceState):
        asked = Asked(back_end)
        campaign_views.members(cast("Transaction", asked), "c", state, "dev-1", 500)
        reads = [plan for plan in asked.plans if "campaign_members" in plan or "jobs" in plan]
        assert len(reads) == 2
        assert all(plan.startswith("SEARCH") for plan in reads), reads
        assert "campaign_id=? AND device_id>?" in reads[0], "in the order of the page, so that it ends with it"
    asked = Asked(back_end)
    campaign_views.counts(cast("Transaction", asked), "c")
    campaign_views.page_campaigns(cast("Transaction", asked), None, "dev-1", "c", 100)
    assert [plan for plan in asked.plans if plan.startswith("SCAN") and plan != "SCAN campaigns"] == []


def test_jobs_under_way_are_counted_without_looking_at_the_others(sqlite_file: Path) -> None:
    back_end = SqliteBackEnd(sqlite_file)
    migrate.upgrade(back_end)
    asked = Asked(back_end)
    with pytest.raises(ValueError, match="unpack"):
        jobs.count_under_way(cast("Transaction", asked), NOW)
    assert asked.plans == ["SEARCH jobs USING INDEX ix_jobs_nonce_expires_at_us (nonce_expires_at_us>?)"]


def assert_upgrades_at_once_make_one_schema(url: str, folder: Path) -> None:
    stores = race(*(lambda i=i: open_store(url, journal=folder / f"j{i}", create=True) for i in range(4)))
    assert [store for store in stores if isinstance(store, Exception)] == []
    for store in stores:
        assert store.check() == []
        store.close()


def test_upgrades_at_once_make_one_schema_on_sqlite(tmp_path: Path) -> None:
    """Of several that turn a new file to WAL at once SQLite refuses some outright, about once in ten rounds."""
    for number in range(30):
        folder = tmp_path / str(number)
        folder.mkdir()
        assert_upgrades_at_once_make_one_schema(f"sqlite:///{folder}/birthmark.db", folder)


@pytest.mark.parts
def test_upgrades_at_once_make_one_schema_on_postgresql(postgres: str, tmp_path: Path) -> None:
    with fresh_database(postgres) as url:
        assert_upgrades_at_once_make_one_schema(url, tmp_path)


def test_without_create_a_missing_or_empty_database_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="birthmark database upgrade"):
        open_store(url, journal=tmp_path / "j")
    (tmp_path / "birthmark.db").touch(mode=0o600)
    with pytest.raises(Misconfigured, match=r"empty.*birthmark database upgrade"):
        open_store(url, journal=tmp_path / "j")
    assert not (tmp_path / "j").exists()


def test_a_newer_schema_is_refused_with_what_to_do(url: str, tmp_path: Path) -> None:
    store = open_store(url, journal=tmp_path / "j", create=True)
    with sqlite3.connect(tmp_path / "birthmark.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    (problem,) = store.check()
    store.close()
    assert "9999" in problem
    with pytest.raises(Misconfigured, match="run a newer one"):
        open_store(url, journal=tmp_path / "j")


def test_what_others_could_read_is_not_opened(url: str, tmp_path: Path) -> None:
    open_store(url, journal=tmp_path / "j", create=True).close()
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()} == {
        "birthmark.db": "0o600",
        "j": "0o600",
    }
    for name in ("birthmark.db", "j"):
        (tmp_path / name).chmod(0o640)
        with pytest.raises(Misconfigured, match=f"chmod 600 .*{name}"):
            open_store(url, journal=tmp_path / "j")
        (tmp_path / name).chmod(0o600)


@pytest.mark.parametrize(
    "bad",
    ["sqlite://", "sqlite:///:memory:", "sqlite:///x.db?mode=ro", "mysql://x/y", "no url", "postgresql+asyncpg:///x"],
)
def test_a_url_that_cannot_be_served_is_refused(bad: str, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured):
        open_store(bad, journal=tmp_path / "j", create=True)


def test_an_unreachable_postgresql_is_named_without_its_password(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="cannot open the database") as caught:
        open_store(f"postgresql+psycopg://u:secret@/db?host={tmp_path}", journal=tmp_path / "j")
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_reported(url: str, tmp_path: Path) -> None:
    path = tmp_path / "birthmark.db"
    path.write_bytes(os.urandom(8192))
    path.chmod(0o600)
    with pytest.raises(StoreFailed, match="not a database"):
        open_store(url, journal=tmp_path / "j")


def test_no_request_looks_through_a_whole_table(sqlite_file: Path) -> None:
    """Every statement on the way of an enrollment or a renewal finds its rows by an index."""
    back_end = SqliteBackEnd(sqlite_file)
    migrate.upgrade(back_end)
    connection = back_end.connect()
    seen = 0
    for module in (admission, births, certificates, crl, devices, endorsements, events, issuance, revocation, status):
        for name, thing in vars(module).items():
            if name in {"_COUNT", "_ORPHANS", "_PURGE_MANY_REFUSALS"} or not isinstance(thing, Statement | LookUp):
                continue  # an operator's, or housekeeping's
            statement = thing.of(["a", "b"]) if isinstance(thing, LookUp) else thing
            sql = statement.sql(back_end.dialect)
            plan = connection.execute(f"EXPLAIN QUERY PLAN {sql}", [None] * sql.count("?")).fetchall()
            scans = [row[3] for row in plan if row[3].startswith("SCAN ") and row[3] not in ("SCAN CONSTANT ROW",)]
            assert [scan for scan in scans if "anchor" not in scan] == [], f"{module.__name__}.{name}"
            seen += 1
    connection.close()
    assert seen > 20


def test_look_ups_take_any_number_of_keys() -> None:
    assert keys([]) == {"key0": None}
    assert keys(["a", "b"], name="n") == {"n0": "a", "n1": "b"}
