"""Run by test_failure.py in a process of its own, to be killed: bears devices and prints each once it is confirmed.

python bear_forever.py FOLDER
"""

import sys
from itertools import count
from pathlib import Path

from birthmark_server.store.open import open_store
from store.values import MODEL, bear


def main(folder: Path) -> None:
    store = open_store(f"sqlite:///{folder}/birthmark.db", journal=folder / "journal", create=True)
    store.add_model(MODEL, by="alice")
    for number in count():
        print(bear(store, number).device_id, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
