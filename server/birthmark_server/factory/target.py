"""A device in a slot, as the station drives it: one protocol, whatever is flashed and however it is reached.

`disk:PATH` is a Linux device's disk or an image file (disk/), `smp:ADDRESS` a microcontroller that speaks SMP (smp/).
Each method is one phase's work: it blocks, in the thread of its slot, for at most the phase's limit, and raises
FactoryError.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from birthmark_wire.factory import DeviceIdentity, ProvisionRecord

Progress = Callable[[int, int], None]
"""done, all: in bytes. Called as often as it likes."""


@dataclass(frozen=True, slots=True)
class Flashed:
    """What was written and read back. image_sha256: of the image as it was given; written: bytes; took: of the writing
    and the reading back."""

    image_sha256: str
    written: int
    took: timedelta


@dataclass(frozen=True, slots=True)
class Born:
    """A device that has proven itself. certificate: its IDevID, DER."""

    device_id: str
    certificate: bytes


class Target(Protocol):
    """One device, from blank to locked; used once."""

    def flash(self, image: Path, record: ProvisionRecord, progress: Progress) -> Flashed:
        """Write image and record, read both back and compare."""

    def identify(self, *, limit: timedelta) -> DeviceIdentity:
        """Start what was flashed and ask who it is. Nothing is asked of the server yet."""

    def attest(self, *, limit: timedelta) -> Born:
        """Have it prove itself to the server and be born. The server expects it by now."""

    def self_test(self, *, limit: timedelta) -> Mapping[str, str]:
        """Have it get its operational certificate, connect to the real broker and say something there; return what
        was seen."""

    def lock(self) -> Mapping[str, str]:
        """Take it out of factory mode, for good, and power it off; return what was seen."""

    def close(self) -> None:
        """Let go of it, however far it came. Never raises."""
