"""What the store makes of a driver's errors, and the corners that a healthy database never shows."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import errors
from sqlalchemy.engine import make_url

from birthmark_server.domain import CertificateProfile
from birthmark_server.errors import Misconfigured
from birthmark_server.store import migrate, sqlite
from birthmark_server.store.database import Database, Transaction
from birthmark_server.store.driver import Trouble
from birthmark_server.store.errors import JournalDamaged, StoreBusy, StoreFailed
from birthmark_server.store.event_rows import pack_parts, unpack_parts
from birthmark_server.store.journal import Journal
from birthmark_server.store.open import open_store
from birthmark_server.store.postgresql import PostgresqlBackEnd
from birthmark_server.store.sql.store import SqlStore
from birthmark_server.store.sqlite import SqliteBackEnd
from store.values import MODEL, bear, certificate, device


class ContendedBackEnd(SqliteBackEnd):
    """SQLite that takes several writers' word for it, as PostgreSQL does, and says what the test wants of an error."""

    one_writer = False
    says = Trouble.CONFLICT

    def trouble(self, error: Exception) -> Trouble:
        return self.says


@pytest.fixture
def back_end(tmp_path: Path) -> ContendedBackEnd:
    path = tmp_path / "birthmark.db"
    path.touch(mode=0o600)
    back_end = ContendedBackEnd(path)
    migrate.upgrade(back_end)
    return back_end


@pytest.fixture
def database(back_end: ContendedBackEnd, tmp_path: Path) -> Iterator[Database]:
    database = Database(back_end, Journal(tmp_path / "journal"))
    yield database
    database.close()


class Failing:
    """Work that fails so many times, then succeeds."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.runs = 0

    def __call__(self, tx: Transaction) -> str:
        self.runs += 1
        if self.runs <= self.times:
            raise sqlite3.OperationalError("deadlock detected")
        return "done"


@pytest.mark.parametrize("says", [Trouble.CONFLICT, Trouble.LOST])
def test_what_was_undone_by_contention_or_a_lost_connection_runs_again(
    back_end: ContendedBackEnd, database: Database, says: Trouble
) -> None:
    back_end.says = says
    work = Failing(3)
    assert database.write(work) == "done"
    assert work.runs == 4


def test_it_does_not_run_for_ever(database: Database) -> None:
    work = Failing(99)
    with pytest.raises(StoreBusy, match="contended"):
        database.write(work)
    assert work.runs == 5


def test_a_connection_lost_in_the_commit_is_not_tried_again(
    back_end: ContendedBackEnd, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been committed or not: only the journal's replay can make it so."""
    back_end.says = Trouble.LOST

    def lose(*_: object) -> None:
        raise sqlite3.OperationalError("connection lost")

    monkeypatch.setattr(Journal, "append", lose)
    store = SqlStore(database)
    with pytest.raises(StoreFailed, match="connection lost"):
        store.add_infrastructure_certificate(certificate("x", profile=CertificateProfile.SERVER), by="alice")


def test_a_database_that_cannot_be_reached_any_more_is_a_failure(
    back_end: ContendedBackEnd, database: Database
) -> None:
    back_end.path.unlink()
    with pytest.raises(StoreFailed, match="cannot connect"):
        database.read(Failing(0))


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (errors.DeadlockDetected(), Trouble.CONFLICT),
        (errors.SerializationFailure(), Trouble.CONFLICT),
        (errors.LockNotAvailable(), Trouble.BUSY),
        (errors.AdminShutdown(), Trouble.LOST),
        (psycopg.OperationalError("server closed the connection"), Trouble.LOST),
        (psycopg.DataError("NUL"), Trouble.TEXT),
        (errors.DiskFull(), Trouble.FAILED),
        (errors.UniqueViolation(), Trouble.FAILED),
    ],
    ids=lambda value: value.name if isinstance(value, Trouble) else type(value).__name__,
)
def test_postgresqls_errors_are_told_apart(error: Exception, wanted: Trouble) -> None:
    assert PostgresqlBackEnd(make_url("postgresql+psycopg:///x")).trouble(error) is wanted


def test_a_setting_that_does_not_hold_stops_the_store(
    back_end: ContendedBackEnd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "_SETTINGS", (("synchronous", "NORMAL", 2),))
    with pytest.raises(Misconfigured, match="synchronous is 1, must be 2"):
        back_end.connect()


def test_damage_in_the_database_is_reported(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/birthmark.db", journal=tmp_path / "journal", create=True)
    store.add_model(MODEL, by="alice")
    bear(store, 1)
    with sqlite3.connect(tmp_path / "birthmark.db") as connection:
        connection.execute("DELETE FROM endorsement_keys")
        connection.execute("UPDATE certificates SET device_id = 'dev-9'")
    connection.close()
    told = store.check()
    store.close()
    assert told == [
        "a row of certificates points at a missing row of devices",
        "the EK of device dev-000001 is missing from endorsement_keys",
    ]


def test_a_journal_damaged_at_its_end_stops_the_store(tmp_path: Path) -> None:
    url, journal = f"sqlite:///{tmp_path}/birthmark.db", tmp_path / "journal"
    store = open_store(url, journal=journal, create=True)
    store.add_infrastructure_certificate(certificate("x"), by="alice")
    store.close()
    journal.write_bytes(journal.read_bytes().replace(b'"sha256"', b'"sha257"'))
    with pytest.raises(JournalDamaged, match="cannot be read"):
        open_store(url, journal=journal)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="cannot open"):
        open_store(f"sqlite:///{tmp_path}", journal=tmp_path / "journal", create=True)


def test_a_told_device_with_anothers_serial_is_left_out_and_the_rest_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(f"sqlite:///{tmp_path}/birthmark.db", journal=tmp_path / "journal", create=True)
    store.add_model(MODEL, by="alice")
    bear(store, 1)
    assert store.replay([device(2, serial="SN-000001"), device(3)]) == 1
    store.close()
    assert "left out: serial SN-000001" in caplog.text


@given(st.lists(st.tuples(st.text(), st.binary())))
def test_evidence_parts_come_back_as_they_went_in(parts: list[tuple[str, bytes]]) -> None:
    assert unpack_parts(pack_parts(parts)) == tuple(parts)


@given(st.binary(max_size=64))
def test_any_bytes_are_evidence_parts_or_refused(packed: bytes) -> None:
    try:
        parts = unpack_parts(packed)
    except ValueError:
        return
    assert pack_parts(parts) == packed
