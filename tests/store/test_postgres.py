"""The contract on a real PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from birthmark_server.store.sql.store import SqlStore
from birthmark_server.store.tables import METADATA
from store.contract import StoreContract
from store.values import MODEL
from store.world import World, world
from support.postgres import fresh_database, postgres_server

pytestmark = pytest.mark.parts


@pytest.fixture(scope="module")
def databases() -> Iterator[tuple[str, str]]:
    """Two on one server: making one takes half a second, emptying it a hundredth."""
    with postgres_server() as server, fresh_database(server) as one, fresh_database(server) as other:
        yield one, other


class TestPostgresql(StoreContract):
    """Each test begins with empty tables."""

    @pytest.fixture(name="world")
    def a_world(self, databases: tuple[str, str], tmp_path: Path) -> Iterator[World]:
        with world(databases[0], tmp_path) as it:
            yield it

    @pytest.fixture
    def other_world(self, databases: tuple[str, str], tmp_path: Path) -> Iterator[World]:
        folder = tmp_path / "other"
        folder.mkdir()
        with world(databases[1], folder) as it:
            it.open(create=True)
            empty(databases[1])
            yield it

    @pytest.fixture
    def store(self, world: World) -> SqlStore:
        store = world.open(create=True)
        empty(world.url)
        store.add_model(MODEL, by="alice")
        return store


def empty(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        for table in reversed(METADATA.sorted_tables):
            connection.execute(f"DELETE FROM {table.name}".encode())
