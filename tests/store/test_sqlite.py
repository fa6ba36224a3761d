"""The contract on SQLite."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server.store.sql.store import SqlStore
from store.contract import StoreContract
from store.values import MODEL
from store.world import World, world


class TestSqlite(StoreContract):
    """Each test has a database file of its own."""

    @pytest.fixture(name="world")
    def a_world(self, tmp_path: Path) -> Iterator[World]:
        with world(f"sqlite:///{tmp_path}/birthmark.db", tmp_path) as it:
            yield it

    @pytest.fixture
    def other_world(self, tmp_path: Path) -> Iterator[World]:
        folder = tmp_path / "other"
        folder.mkdir()
        with world(f"sqlite:///{folder}/birthmark.db", folder) as it:
            yield it

    @pytest.fixture
    def store(self, world: World) -> SqlStore:
        store = world.open(create=True)
        store.add_model(MODEL, by="alice")
        return store
