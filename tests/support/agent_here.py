"""An agent that runs in this process, on a disk that can be full."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from birthmark_agent.files import PosixDisk
from birthmark_agent.identity import Identities
from birthmark_agent.run import Agent
from birthmark_agent.systemd import Notifier


class FillableDisk(PosixDisk):
    """A disk that can be full."""

    full = False

    def create(self, name: str, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().create(name, data)


@contextmanager
def running(identities: Identities) -> Iterator[Agent]:
    """Run an agent in a thread until the end of the with block."""
    agent = Agent(identities, notifier=Notifier({}))
    thread = threading.Thread(target=agent.run)
    thread.start()
    try:
        yield agent
    finally:
        agent.stop()
        thread.join()
