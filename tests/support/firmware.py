"""Our firmware, built once for all tests and workers: firmware_stubs/Makefile in a folder of the tests' own.

build = Firmware.in_folder(shared)
build.image("1.2.0")           # for MCUboot, signed with the build's key
build.make("test")
"""

import fcntl
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parents[2] / "firmware_stubs"


@dataclass(frozen=True, slots=True)
class Firmware:
    """One build folder. Several processes may ask at once: they wait for one another."""

    folder: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "Firmware":
        """Build there."""
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    @property
    def key(self) -> Path:
        """The PEM of the key that signs its images."""
        return self.folder / "all" / "image.key"

    def make(self, *arguments: str, below: str = "all", timeout_s: float = 110) -> str:
        """Run make, and return what it printed. below: of which folder of the build."""
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            command = ["make", "-s", "-C", str(SOURCES), f"BUILD={self.folder / below}", f"KEY={self.key}", *arguments]
            environment = {**os.environ, "MAKEFLAGS": ""}
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def image(self, version: str) -> Path:
        """Return a signed image of that version."""
        image = self.folder / version / "mps2" / "app.signed.bin"
        if not image.exists():
            self._make_key()
            self.make("mps2", f"VERSION={version}", below=version)
        return image

    def _make_key(self) -> None:
        if not self.key.exists():
            self.make(str(self.key))
