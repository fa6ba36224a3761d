"""When to try again: full jitter, a cap, and a floor between attempts that a restart does not reset.

    wait(backoff.wait_s()); backoff.begin(); ...; backoff.succeeded()

Full jitter (each wait drawn evenly from 0 to a window that doubles with each failure) spreads a fleet that lost its
server at one moment. The first attempt after a start has a window too: a power cut ends for everybody at once. The
floor stops loops that succeed, say a renewal whose certificate is always too old, and crash loops alike: begin() writes
before the attempt.

No wall clock: it jumps. Times are CLOCK_BOOTTIME within one boot (known by its boot id); after a reboot the time since
boot stands for the time since the last attempt, which it can only understate: the floor holds.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from random import SystemRandom
from typing import Final, Protocol

from birthmark_agent.errors import StorageFailed
from birthmark_agent.files import Files

_MOST_DOUBLINGS: Final = 32
_MOST_HELD_S: Final = 100_000_000.0
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_RANDOM: Final = SystemRandom()  # seeded per device: images that boot alike must not draw alike


class BootClock(Protocol):
    """Time that never jumps, and which boot it counts from."""

    def boot_time_s(self) -> float:
        """Return seconds since boot, sleep included."""

    def boot_id(self) -> str:
        """Return what differs with each boot."""


class LinuxBootClock:
    """The real one."""

    def boot_time_s(self) -> float:
        """See BootClock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def boot_id(self) -> str:
        """See BootClock."""
        return _BOOT_ID.read_text().strip()


@dataclass(frozen=True, slots=True)
class Pace:
    """first_s: the first window. most_s: the largest. floor_s: the least time from one attempt's start to the next."""

    first_s: float
    most_s: float
    floor_s: float


@dataclass(frozen=True, slots=True)
class _Past:
    failures: int
    boot_id: str
    begun_s: float
    held_s: float = 0.0  # what the server asked for, with its jitter: so long from begun_s at least


class Backoff:
    """The pace of one kind of attempt. name: its file's name, as `broker`."""

    def __init__(
        self,
        name: str,
        pace: Pace,
        *,
        files: Files,
        clock: BootClock | None = None,
        random: Callable[[], float] = _RANDOM.random,
    ) -> None:
        """random: returns 0 <= x < 1. Reads what an earlier run persisted; what is not readable counts as nothing."""
        self._file = f"backoff-{name}"
        self._pace = pace
        self._files = files
        self._clock = clock or LinuxBootClock()
        self._random = random
        self._past = self._read()

    @property
    def failures(self) -> int:
        """How many attempts in a row have not succeeded, those of earlier runs included."""
        return self._past.failures if self._past else 0

    def wait_s(self, *, retry_after_s: float = 0.0) -> float:
        """Draw how long to wait before the next attempt.

        retry_after_s: what the server asked for, if anything; kept to, over restarts too.
        """
        window_s = min(self._pace.most_s, self._pace.first_s * 2.0 ** min(self.failures, _MOST_DOUBLINGS))
        wait_s = self._random() * window_s
        if retry_after_s > 0:
            wait_s += retry_after_s  # added: a server that tells a fleet "in 120 s" does not mean all at once
            self._hold(wait_s)
        return max(wait_s, self.floor_left_s())

    def floor_left_s(self) -> float:
        """Return how long the floor, or the server's word, forbids the next attempt; 0 or less where nothing does."""
        held_s = self._past.held_s if self._past else 0.0
        return max(self._pace.floor_s, held_s) - self._since_begun_s()

    def spread(self, wait_s: float) -> float:
        """Return wait_s and up to half as much again: for what is asked again, where no attempt was made."""
        return wait_s * (1.0 + self._random() / 2)

    def begin(self) -> None:
        """Note, durably, that an attempt begins; it counts as a failure until succeeded()."""
        self._write(_Past(self.failures + 1, self._clock.boot_id(), self._clock.boot_time_s()))

    def succeeded(self) -> None:
        """Note that it went well: the window is the first again. The floor stays."""
        if self._past and self._past.failures:
            self._write(_Past(0, self._past.boot_id, self._past.begun_s))

    def _hold(self, wait_s: float) -> None:
        past = self._past or _Past(0, self._clock.boot_id(), self._clock.boot_time_s())
        self._write(replace(past, held_s=self._since_begun_s() + wait_s if self._past else wait_s))

    def _since_begun_s(self) -> float:
        if self._past is None:
            return self._pace.floor_s
        now_s = self._clock.boot_time_s()
        return max(now_s - self._past.begun_s, 0.0) if self._past.boot_id == self._clock.boot_id() else now_s

    def _write(self, past: _Past) -> None:
        """Keep it in memory in any case: a full disk must not stop the device, nor set its pace free."""
        self._past = past
        try:
            self._files.write(self._file, json.dumps(asdict(past)).encode())
        except StorageFailed:
            return

    def _read(self) -> _Past | None:
        try:
            members = json.loads(self._files.read(self._file) or b"null")
            if members is None:
                return None
            failures, begun_s = int(members["failures"]), float(members["begun_s"])
            held_s = float(members.get("held_s", 0.0))
            sound = failures >= 0 and isfinite(begun_s) and 0 <= held_s <= _MOST_HELD_S
            return _Past(failures, str(members["boot_id"]), begun_s, held_s) if sound else None
        except (StorageFailed, ValueError, TypeError, KeyError, OverflowError, AttributeError):
            return None
