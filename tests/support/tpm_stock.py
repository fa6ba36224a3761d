"""Emulated TPMs made once and copied: to give a TPM its endorsement keys and certificates costs a second of CPU.

A copy is the TPM as it left its vendor. One installation must not get two of the same, for they look like one device;
several installations may: they know nothing of each other. Workers that run at the same time share one stock.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.swtpm import Swtpm, VendorCa


class TpmStock:
    """TPMs of one vendor, kept in `folder`, each made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self.vendor = VendorCa.create(self._folder / "vendor")
            if not self.vendor.root_pem.exists():
                self._make(0)

    def copy(self, number: int, state: Path) -> Swtpm:
        """Return a copy of TPM `number` (from 0), its state in `state` (created); it is not running."""
        with self._locked():
            original = self._path(number)
            if not original.exists():
                self._make(number)
        return Swtpm(original).copy(state)

    def _make(self, number: int) -> None:
        making = self._folder / "making"
        shutil.rmtree(making, ignore_errors=True)  # of a worker that was killed at it
        self.vendor.make(making)
        making.rename(self._path(number))

    def _path(self, number: int) -> Path:
        return self._folder / f"tpm-{number}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
