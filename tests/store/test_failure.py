"""What goes wrong around the store: a full disk, a lost connection, a power cut, a restored backup."""

import logging
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import psycopg
import pytest

from birthmark_server.domain import Device, RevocationReason
from birthmark_server.errors import Malformed
from birthmark_server.store import sqlite
from birthmark_server.store.database import Transaction
from birthmark_server.store.errors import StoreBusy, StoreFailed, UnknownEnrollment
from birthmark_server.store.journal import Journal, read_journal
from birthmark_server.store.open import open_store
from birthmark_server.store.sql.store import SqlStore
from store.programs import run
from store.values import HOUR, MODEL, NOW, bear, birth, certificate, device, issuance, manifest_entry, pending
from store.world import World, outcomes, race, world
from support.postgres import fresh_database, postgres_server


@pytest.fixture
def a_world(tmp_path: Path) -> Iterator[World]:
    with world(f"sqlite:///{tmp_path}/birthmark.db", tmp_path) as it:
        yield it


@pytest.fixture
def store(a_world: World) -> SqlStore:
    store = a_world.open(create=True)
    store.add_model(MODEL, by="alice")
    return store


@pytest.mark.parametrize("full", ["wal", "journal"])
def test_a_full_disk_is_an_error_and_nothing_is_half_done(tmp_path: Path, full: str) -> None:
    done = run("full_disk.py", tmp_path, full)
    output, _ = done.communicate(timeout=100)
    assert done.returncode == 0, output
    assert "failed: " in output


def test_killed_at_any_moment_nothing_confirmed_is_lost(tmp_path: Path) -> None:
    confirmed: list[str] = []
    with run("bear_forever.py", tmp_path) as server:
        assert server.stdout is not None
        for line in server.stdout:
            confirmed.append(line.strip())
            if len(confirmed) == 20:
                os.kill(server.pid, signal.SIGKILL)
    store = open_store(f"sqlite:///{tmp_path}/birthmark.db", journal=tmp_path / "journal")
    on_record = {one.device_id for one in store.list_devices(limit=1000)}
    assert on_record >= set(confirmed)
    assert store.check() == []
    store.close()


def test_a_restored_backup_catches_up_by_itself_when_opened(
    store: SqlStore, a_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = bear(store, 1)
    with sqlite3.connect(tmp_path / "birthmark.db") as live, sqlite3.connect(tmp_path / "backup") as copy:
        live.backup(copy)
    live.close()
    copy.close()
    later = issuance(known, "after the backup", None)
    store.commit_issuance(later)
    store.revoke_device(known.device_id, reason=RevocationReason.KEY_COMPROMISE, at=NOW, by="alice")
    bear(store, 2)
    for number in range(200):  # more than a look at the end of the journal sees
        store.add_infrastructure_certificate(certificate(f"op-{number}"), by="alice")
    wanted = (store.list_devices(), store.list_certificates(limit=1000))
    store.close()

    (tmp_path / "backup").chmod(0o600)
    (tmp_path / "backup").rename(tmp_path / "birthmark.db")
    with caplog.at_level(logging.WARNING):
        restored = a_world.open(journal="journal-0")
    assert "knows more than the database" in caplog.text
    revoked = restored.get_device(known.device_id)
    assert revoked.state == "revoked"
    assert (restored.list_devices(), restored.list_certificates(limit=1000)) == wanted
    restored.close()
    caplog.clear()
    a_world.open(journal="journal-0")
    assert caplog.text == ""


def test_what_a_backup_lacked_is_counted_once_and_whole(
    store: SqlStore, a_world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(tmp_path / "birthmark.db") as live, sqlite3.connect(tmp_path / "backup") as copy:
        live.backup(copy)
    live.close()
    copy.close()
    store.add_infrastructure_certificate(certificate("op-1"), by="alice")
    store.close()
    (tmp_path / "backup").chmod(0o600)
    (tmp_path / "backup").rename(tmp_path / "birthmark.db")
    with caplog.at_level(logging.WARNING):
        a_world.open(journal="journal-0").close()
    assert "replayed 1 journal entries that the database lacked" in caplog.text


def test_a_journal_line_whose_commit_failed_is_applied_at_the_next_start(a_world: World, store: SqlStore) -> None:
    store.close()
    journal = Journal(a_world.folder / "journal-0")
    journal.append([certificate("unreleased")])
    journal.close()
    again = a_world.open(journal="journal-0")
    assert again.certificate_by_sha256(certificate("unreleased").sha256) == (certificate("unreleased"), None)


def test_a_closed_store_says_so(store: SqlStore) -> None:
    store.close()
    store.close()
    for use in (store.list_models, partial(store.add_model, MODEL, by="alice")):
        with pytest.raises(StoreFailed, match="closed"):
            use()


def test_a_database_held_by_another_process_is_busy_not_broken(
    store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = sqlite3.connect(tmp_path / "birthmark.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store._database._idle[0][0].execute("PRAGMA busy_timeout = 50")  # type: ignore[attr-defined]
    with pytest.raises(StoreBusy) as caught:
        store.import_manifest([manifest_entry(1)])
    assert caught.value.retry_after_s > 0
    assert store.list_manifest() == []
    holder.execute("ROLLBACK")
    holder.close()
    assert store.import_manifest([manifest_entry(1)]) == 1


# -- writers of one process


def test_threads_that_write_at_once_take_turns_and_each_gets_its_own_outcome(store: SqlStore, a_world: World) -> None:
    for number in range(8):
        store.add_pending(pending(number), most_per_source=8)
    twice = [partial(store.commit_birth, birth(pending(number), device(number))) for number in range(8)] * 2
    unknown = partial(store.commit_birth, birth(pending(99), device(99)))
    bad: list[Callable[[], object]] = [
        partial(store.get_model, "\ud800"),
        partial(store.close_batch, "\ud800", at=NOW, by="alice"),
    ]
    results = race(*twice, unknown, *bad)
    assert outcomes(results) == {"ok": 8, "AlreadyConsumed": 8, "UnknownEnrollment": 1, "Malformed": 2}
    assert len(store.list_devices()) == 8
    told = [entry for line in read_journal(a_world.folder / "journal-0") for entry in line.entries]
    assert len([entry for entry in told if isinstance(entry, Device)]) == 8


def test_a_thread_waits_for_a_workers_batch_not_in_the_busy_handler(
    a_world: World, store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own patience is over at once, so that only our turns can have made it wait."""
    monkeypatch.setattr(sqlite, "_BUSY_TIMEOUT_S", 0)
    store = a_world.open()
    bear(store, 0)
    with ThreadPoolExecutor(1) as other, store.together():
        bear(store, 1)
        waiting = other.submit(store.touch_device, device(0).device_id, at=NOW + HOUR)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.1)
    waiting.result()
    assert store.get_device(device(0).device_id).last_seen_at == NOW + HOUR


def test_an_interrupted_writer_leaves_nobody_waiting(store: SqlStore) -> None:
    def interrupted(tx: Transaction) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store._database.write(interrupted)
    bear(store, 1)


# -- PostgreSQL


@pytest.mark.parts
def test_a_postgresql_that_comes_back_is_used_again(tmp_path: Path) -> None:
    with postgres_server() as server, fresh_database(server) as url, world(url, tmp_path) as it:
        store = it.open(create=True)
        store.add_model(MODEL, by="alice")
        race(*[partial(bear, store, number) for number in range(4)])  # several connections
        with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%%'", prepare=False
            )
        assert store.get_model(MODEL.name) == MODEL
        bear(store, 9)
        assert len(store.list_devices()) == 5
        with pytest.raises(Malformed):
            store.get_pending("a\0b")
        with pytest.raises(UnknownEnrollment):
            store.get_pending("a")


@pytest.mark.parts
def test_a_postgresql_that_may_lose_what_it_confirms_is_reported(tmp_path: Path) -> None:
    with postgres_server(fsync="off") as server, world(server, tmp_path) as it:
        (problem,) = it.open(create=True).check()
        assert "fsync = off" in problem
