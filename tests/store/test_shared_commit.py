"""Store.together on SQLite: one commit for all that a thread writes, and each write undone by itself."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server.store import database
from birthmark_server.store.errors import DuplicateDevice, StoreBusy, StoreFailed, UnknownDevice, UnknownEnrollment
from birthmark_server.store.journal import Journal, read_journal
from birthmark_server.store.sql.store import SqlStore
from store.values import MODEL, bear, birth, device, pending
from store.world import World, world


@pytest.fixture
def a_world(tmp_path: Path) -> Iterator[World]:
    with world(f"sqlite:///{tmp_path}/birthmark.db", tmp_path) as it:
        yield it


@pytest.fixture
def store(a_world: World) -> SqlStore:
    store = a_world.open(journal="journal", create=True)
    store.add_model(MODEL, by="alice")
    return store


def lines(world: World) -> int:
    return len(list(read_journal(world.folder / "journal")))


def test_many_births_are_one_line_of_the_journal(store: SqlStore, a_world: World) -> None:
    before = lines(a_world)
    with store.together():
        for number in range(3):
            bear(store, number)
    assert lines(a_world) == before + 1
    assert [store.get_device(device(number).device_id) for number in range(3)]


def test_nobody_else_sees_anything_before_the_end(store: SqlStore, a_world: World) -> None:
    other = a_world.open()
    with store.together():
        born = bear(store, 1)
        assert store.get_device(born.device_id)
        with pytest.raises(UnknownDevice):
            other.get_device(born.device_id)
    assert other.get_device(born.device_id)


def test_what_is_refused_is_undone_alone(store: SqlStore, a_world: World) -> None:
    with store.together():
        bear(store, 1)
        begun = pending(2)
        store.add_pending(begun, most_per_source=8)
        with pytest.raises(DuplicateDevice):
            store.commit_birth(birth(begun, device(2, ek_sha256=device(1).ek_sha256)))
        bear(store, 3)
    with pytest.raises(UnknownDevice):
        store.get_device(device(2).device_id)
    assert store.get_device(device(1).device_id)
    assert store.get_device(device(3).device_id)
    told = [entry for line in read_journal(a_world.folder / "journal") for entry in line.entries]
    assert not [entry for entry in told if device(2).device_id in repr(entry)]


def test_a_bug_in_one_write_is_undone_alone_too(store: SqlStore) -> None:
    with store.together():
        begun = pending(1)
        store.add_pending(begun, most_per_source=8)
        with pytest.raises(ValueError, match="in the birth of"):
            store.commit_birth(birth(begun, device(1), certificate=birth(pending(9), device(9)).certificate))
        bear(store, 2)
    assert store.get_device(device(2).device_id)
    with pytest.raises(UnknownDevice):
        store.get_device(device(1).device_id)


def test_a_journal_that_fails_fails_them_all(store: SqlStore, a_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreFailed("cannot write the journal: disk full")

    def two_births() -> None:
        with store.together():
            bear(store, 1)
            bear(store, 2)

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", full)
        with pytest.raises(StoreFailed, match="disk full"):
            two_births()
    assert not store.list_devices()
    bear(store, 3)
    assert len(store.list_devices()) == 1


def test_trouble_that_undoes_the_transaction_is_everybodys(store: SqlStore) -> None:
    """As SQLite does when the disk is full: it rolls back by itself."""

    def broken(tx: database.Transaction) -> None:
        tx.command("ROLLBACK")
        raise sqlite3.OperationalError("database or disk is full")

    def births_around_it() -> None:
        with store.together():
            bear(store, 1)
            with pytest.raises(StoreFailed, match="full"):
                store._database.write(broken)
            with pytest.raises(StoreFailed, match="another's trouble"):
                bear(store, 2, "b")

    with pytest.raises(StoreFailed, match="another's trouble"):
        births_around_it()
    assert not store.list_devices()


def test_trouble_while_reading_that_undoes_the_transaction_is_everybodys_too(store: SqlStore, tmp_path: Path) -> None:
    """A savepoint outside a transaction begins one, and its release commits it: before the journal, and alone."""

    def broken(tx: database.Transaction) -> None:
        tx.command("ROLLBACK")
        raise sqlite3.OperationalError("disk I/O error")

    def births_around_it() -> None:
        with store.together():
            bear(store, 1)
            with pytest.raises(StoreFailed, match="I/O"):
                store._database.read(broken)
            with pytest.raises(StoreFailed, match="another's trouble"):
                bear(store, 2, "b")

    with pytest.raises(StoreFailed):
        births_around_it()
    assert not store.list_devices()


def test_a_writer_elsewhere_is_waited_for_once(store: SqlStore, tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "birthmark.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with store.together():
        store.count_devices()
    (connection, _), *_ = store._database._idle
    connection.execute("PRAGMA busy_timeout = 1")  # type: ignore[attr-defined]
    with store.together():
        for number in range(2):
            with pytest.raises(StoreBusy):
                store.add_pending(pending(number), most_per_source=8)
        assert not store.list_devices()
    other.close()
    bear(store, 1)


def test_an_interruption_writes_nothing_and_lets_others_write(store: SqlStore) -> None:
    def interrupted() -> None:
        with store.together():
            bear(store, 1)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not store.list_devices()
    bear(store, 1)


def test_reading_alone_takes_nobodys_turn(store: SqlStore, a_world: World) -> None:
    other = a_world.open()
    with store.together():
        with pytest.raises(UnknownEnrollment):
            store.get_pending("none")
        bear(other, 1)
        assert store.get_device(device(1).device_id)
