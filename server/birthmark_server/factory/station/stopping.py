"""How a line is stopped: first gently, phases end; then at once, targets are let go."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from birthmark_server.factory.station.errors import Stopped


class Stopping:
    """Shared by all slots. `ask` once: each slot ends its phase, and a flash is broken off; twice, or after a while:
    `now`, and what blocks in a target is let go of."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._asked = threading.Event()
        self._now = threading.Event()
        self._closers: list[Callable[[], None]] = []

    @property
    def asked(self) -> bool:
        """Whether no phase begins any more."""
        return self._asked.is_set()

    @property
    def now(self) -> bool:
        """Whether nothing is waited for any more."""
        return self._now.is_set()

    def ask(self) -> None:
        """Let phases end; asked again, break them off."""
        if self.asked:
            self.break_off()
        self._asked.set()

    def break_off(self) -> None:
        """Let go of all targets: whatever blocks in them raises."""
        self._asked.set()
        self._now.set()
        with self._turn:
            closers = list(self._closers)
        for close in closers:
            close()

    def check(self) -> None:
        """Raise Stopped where the line is to stop."""
        if self.asked:
            raise Stopped("the line was stopped")

    def wait(self, seconds: float) -> bool:
        """Sleep, until it is asked at the latest; return whether it is."""
        return self._asked.wait(seconds)

    @contextmanager
    def closing(self, close: Callable[[], None]) -> Iterator[None]:
        """For the length of a with block, let `break_off` close this."""
        with self._turn:
            self._closers.append(close)
        try:
            yield
        finally:
            with self._turn:
                self._closers.remove(close)
