"""What shares the agent's one loop with its MQTT sessions: the applications' socket, the hook, an answer from apart."""

import select
from collections.abc import Mapping
from typing import Protocol


class Waitable(Protocol):
    """What shares the loop with the sessions: files to wait for, and something to do when they are ready."""

    def interests(self) -> list[tuple[int, int]]:
        """Return file descriptors, each with the events of poll(2) that it waits for."""

    def step(self, ready: Mapping[int, int]) -> None:
        """Go on. ready: which of them have which events; called in every turn, often with none."""

    def wait_s(self) -> float:
        """Return after how long at most step() should be called though nothing is ready."""


class Readable:
    """A Waitable that only ends a wait, once its file can be read."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def interests(self) -> list[tuple[int, int]]:
        """See Waitable."""
        return [(self._descriptor, select.POLLIN)]

    def step(self, ready: Mapping[int, int]) -> None:
        """Whoever waits looks itself."""

    def wait_s(self) -> float:
        """See Waitable."""
        return float("inf")
