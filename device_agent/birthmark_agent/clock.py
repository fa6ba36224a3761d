"""What time it is, on a device that may have no clock, a wrong one, or a wrong one that looks right.

The floor is a moment that has certainly passed: the latest of the image's build time, the notBefore of our own
certificates, and the time that was last persisted. Three cases follow:

    SET     the kernel says that the clock is synchronised, or our server has told us the time since boot
    UNSURE  at or after the floor, but nobody vouches for it: 2099 looks like this too
    WRONG   before the floor: 1970 looks like this

TLS checks certificates at a moment. SET: at the clock's time, as everybody does. WRONG: at the floor, and a
certificate whose notBefore is later passes: chain, name and notAfter >= floor must be right. UNSURE: first as SET; only
if that fails because of the time, as WRONG. Once in, the server's signed answer to our nonce makes the clock SET.

What this does not stop: someone who holds a server key whose certificate ran out after the floor can, with a device
whose clock is not SET, pass for the server. The floor rises with each persist(), which bounds how old that key may be.
"""

import ctypes
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from birthmark_agent.errors import AgentError, StorageFailed
from birthmark_agent.files import Files
from birthmark_wire.errors import DecodeError
from birthmark_wire.time import read_time, write_time

_FILE: Final = "clock"
_PERSIST_EVERY: Final = timedelta(hours=1)
_TIME_ERROR: Final = 5  # adjtimex(2): the clock is not synchronised
_TIMEX_BYTES: Final = 512  # struct timex has 208 on 64-bit Linux
_LONG_AGO: Final = datetime(1970, 1, 1, tzinfo=UTC)


class TimeRefused(AgentError):
    """An answer that says what time it is does not stand."""

    code = "time-refused"
    advice = "set the clock or start NTP, and have the operator run `birthmark doctor` on the server"


class ClockState(StrEnum):
    """See the module's docstring."""

    SET = "set"
    UNSURE = "unsure"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class CheckTime:
    """When TLS shall judge certificates. at: None for the clock's now. not_yet_valid_passes: notBefore is ignored."""

    at: datetime | None
    not_yet_valid_passes: bool


@dataclass(frozen=True, slots=True)
class SignedTime:
    """The server's time, proven by timesync.verify_signed_time(). boot_time_s: CLOCK_BOOTTIME of the question."""

    at: datetime
    boot_time_s: float


class SystemClock(Protocol):
    """What the operating system knows."""

    def wall(self) -> datetime:
        """Return the clock's time, UTC: anything at all."""

    def boot_time_s(self) -> float:
        """Return seconds since boot, sleep included: never jumps."""

    def synchronised(self) -> bool:
        """Return whether something disciplines the clock (NTP, PTP, GNSS)."""


class LinuxClock:
    """The real one."""

    def wall(self) -> datetime:
        """See SystemClock. A clock beyond Python's calendar counts as never set."""
        try:
            return datetime.now(UTC)
        except (ValueError, OverflowError):
            return _LONG_AGO

    def boot_time_s(self) -> float:
        """See SystemClock."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def synchronised(self) -> bool:
        """See SystemClock. Asks the kernel (adjtimex), which forgets a synchronisation that is too long ago."""
        asked = ctypes.create_string_buffer(_TIMEX_BYTES)  # modes = 0: read only
        answer: int = ctypes.CDLL(None, use_errno=True).adjtimex(asked)
        return answer >= 0 and answer != _TIME_ERROR


class Clock:
    """The agent's clock. not_before: of our own certificates; asked each time, since they change."""

    def __init__(
        self,
        files: Files,
        *,
        image_time: datetime | None,
        not_before: Callable[[], Iterable[datetime]],
        system: SystemClock,
    ) -> None:
        self._files = files
        self._image_time = image_time or _LONG_AGO
        self._not_before = not_before
        self._system = system
        self._told: SignedTime | None = None

    def floor(self) -> datetime:
        """Return a moment that has certainly passed."""
        return max(self._image_time, self._persisted(), *self._not_before(), _LONG_AGO)

    def state(self) -> ClockState:
        """Say how far the clock can be trusted."""
        if self._told is not None:
            return ClockState.SET
        if self._system.wall() < self.floor():
            return ClockState.WRONG
        return ClockState.SET if self._system.synchronised() else ClockState.UNSURE

    def boot_time_s(self) -> float:
        """Return seconds since boot, sleep included: never jumps."""
        return self._system.boot_time_s()

    def now(self) -> datetime:
        """Return the best guess at the time, never before the floor. What the server told goes before the clock."""
        if self._told is not None:
            return self._told.at + timedelta(seconds=self._system.boot_time_s() - self._told.boot_time_s)
        return max(self._system.wall(), self.floor())

    def check_times(self) -> tuple[CheckTime, ...]:
        """Return when TLS shall judge certificates; the second, if any, only after a failure because of the time."""
        if self._told is not None:
            return (CheckTime(self.now(), not_yet_valid_passes=False),)
        at_floor = CheckTime(self.floor(), not_yet_valid_passes=True)
        by_clock = CheckTime(None, not_yet_valid_passes=False)
        return {
            ClockState.SET: (by_clock,),
            ClockState.UNSURE: (by_clock, at_floor),
            ClockState.WRONG: (at_floor,),
        }[self.state()]

    def learn(self, signed: SignedTime) -> None:
        """Take the server's time. It can't be before the floor: raise TimeRefused."""
        if signed.at < self.floor():
            raise TimeRefused(f"the server says {write_time(signed.at)}, but {write_time(self.floor())} has passed")
        self._told = signed

    def persist(self, *, peer_not_after: datetime) -> None:
        """Raise the floor for later boots; call it after a handshake that was verified at now().

        peer_not_after: the end of the peer's certificate. The floor never goes beyond it, so that a forged NTP answer
        can't raise it beyond every certificate that there will be. Does nothing while the clock is not SET, nor within
        an hour of the last time (flash memory wears), nor on a full disk.
        """
        moment = min(self.now(), peer_not_after)
        if self.state() is not ClockState.SET or moment < self._persisted() + _PERSIST_EVERY:
            return
        try:
            self._files.write(_FILE, write_time(moment).encode())
        except StorageFailed:
            return

    def _persisted(self) -> datetime:
        try:
            return read_time((self._files.read(_FILE) or b"").decode("ascii"))
        except (DecodeError, UnicodeDecodeError, StorageFailed):
            return _LONG_AGO
