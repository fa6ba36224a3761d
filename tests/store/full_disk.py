"""Run by test_failure.py in a process of its own: a store whose disk fills up, is noticed, and has room again.

    python full_disk.py FOLDER wal|journal

RLIMIT_FSIZE stands in for the disk: a write beyond it fails as it does on a full one, for the biggest file first.
"""

import resource
import sys
from pathlib import Path

from birthmark_server.store.errors import StoreFailed
from birthmark_server.store.journal import Journal
from birthmark_server.store.journal_entries import BatchClosed
from birthmark_server.store.open import open_store
from store.values import MODEL, NOW, bear


def main(folder: Path, full: str) -> None:
    journal = folder / "journal"
    if full == "journal":  # bigger than all else, so that the limit meets it first
        grown = Journal(journal)
        grown.append([BatchClosed("x" * 20_000_000, NOW)])
        grown.close()
    store = open_store(f"sqlite:///{folder}/birthmark.db", journal=journal, create=True)
    store.add_model(MODEL, by="alice")
    biggest = max(path.stat().st_size for path in folder.iterdir())
    _limit(biggest + (300_000 if full == "wal" else 20_000))
    born: list[str] = []
    try:
        for number in range(1000):
            born.append(bear(store, number).device_id)
    except StoreFailed as error:
        print("failed:", error)
    _limit(resource.RLIM_INFINITY)
    on_record = [one.device_id for one in store.list_devices(limit=2000)]
    if on_record != born or not born:
        raise SystemExit(f"{len(born)} were confirmed, {len(on_record)} are on record")
    if store.check():
        raise SystemExit(f"damaged: {store.check()}")
    bear(store, 5000)  # there is room again, and the same store goes on
    store.close()


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
