"""The folder that one demo works in: its own while it runs, gone afterwards, however it ended.

A demo that was killed (SIGKILL, power) could not remove its folder, so the next one does. Whose demo is dead shows the
kernel's lock on the folder's file, which dies with its process; nothing is judged by its name, or by a process id that
may be somebody else's by now. A dead demo's processes are gone already: the kernel ended them with it (parts.py).
"""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from support.swtpm import MOST_RUN_BYTES

_PREFIX: Final = "demo-"
_LOCK: Final = "lock"
_ELSEWHERE: Final = "run-folder"
_MOST_DIGITS: Final = len("/200")


@contextmanager
def workshop(home: Path) -> Iterator[Path]:
    """Remove what dead demos left in `home`, and make a folder there for the length of a with block."""
    home.mkdir(exist_ok=True)
    sweep(home)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
    try:
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        _remove(folder)


def sweep(home: Path) -> None:
    """Remove the folders of demos that are dead. One without a lock file is being made just now, and stays."""
    for path in home.glob(f"{_PREFIX}*/{_LOCK}"):
        try:
            with path.open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path.parent)
        except OSError:  # it lives, it is another user's, or another demo sweeps too
            continue


def run_folder(folder: Path) -> Path:
    """Return a folder for the TPMs' sockets: in `folder`, unless its path is too long for a socket's."""
    run = folder / "run"
    if len(str(run).encode()) + _MOST_DIGITS <= MOST_RUN_BYTES:
        run.mkdir()
        return run
    run = Path(tempfile.mkdtemp(prefix="birthmark-demo-"))
    (folder / _ELSEWHERE).write_text(str(run))
    return run


def _remove(folder: Path) -> None:
    elsewhere = folder / _ELSEWHERE
    if elsewhere.exists():
        shutil.rmtree(elsewhere.read_text(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
