"""The contract on a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from birthmark_server.store.sql.store import SqlStore
from store.contract import StoreContract
from store.values import MODEL
from store.world import World, world
from support.postgres import fresh_database, postgres_server

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


class TestPostgresql(StoreContract):
    """Each test has a database of its own on the one server."""

    @pytest.fixture(name="world")
    def a_world(self, server: str, tmp_path: Path) -> Iterator[World]:
        with fresh_database(server) as url, world(url, tmp_path) as it:
            yield it

    @pytest.fixture
    def other_world(self, server: str, tmp_path: Path) -> Iterator[World]:
        folder = tmp_path / "other"
        folder.mkdir()
        with fresh_database(server) as url, world(url, folder) as it:
            yield it

    @pytest.fixture
    def store(self, world: World) -> SqlStore:
        store = world.open(create=True)
        store.add_model(MODEL)
        return store
