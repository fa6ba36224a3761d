"""Run by test_journal.py in several processes at once: appends to one journal.

python append_many.py JOURNAL NAME
"""

import sys
from pathlib import Path

from birthmark_server.store.journal import Journal
from birthmark_server.store.journal_entries import CrlNumberUsed

LINES = 50


def main(path: Path, name: str) -> None:
    journal = Journal(path)
    for number in range(LINES):
        journal.append([CrlNumberUsed(name, number)])
    journal.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
