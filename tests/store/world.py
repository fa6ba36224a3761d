"""One database under test, and as many openings of it as a test wants: each is another process to the database."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from typing import Any

from birthmark_server.store.open import open_store
from birthmark_server.store.sql.store import SqlStore


@dataclass
class World:
    """url: of an empty database. folder: where journals go, one per opening."""

    url: str
    folder: Path
    opened: list[SqlStore] = field(default_factory=list)

    def open(self, *, journal: str = "", create: bool = False) -> SqlStore:
        """Open the store once more, with a journal of its own unless one is named."""
        name = journal or f"journal-{len(self.opened)}"
        store = open_store(self.url, journal=self.folder / name, create=create)
        self.opened.append(store)
        return store


@contextmanager
def world(url: str, folder: Path) -> Iterator[World]:
    it = World(url, folder)
    try:
        yield it
    finally:
        for store in it.opened:
            store.close()


def race(*works: Callable[[], Any]) -> list[Any]:
    """Run all at the same moment, each in its thread; return what each returned or raised."""
    start = Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        start.wait()
        try:
            return work()
        except Exception as error:  # noqa: BLE001  # the outcome under test
            return error

    with ThreadPoolExecutor(len(works)) as pool:
        return list(pool.map(run, works))


def outcomes(results: list[Any]) -> dict[str, int]:
    """Count results by kind: "ok" or the class of the error."""
    counted: dict[str, int] = {}
    for result in results:
        name = type(result).__name__ if isinstance(result, Exception) else "ok"
        counted[name] = counted.get(name, 0) + 1
    return counted
