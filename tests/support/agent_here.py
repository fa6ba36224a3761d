"""An agent that runs in this process, on a disk that can be full."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from birthmark_agent.files import Files, PosixDisk
from birthmark_agent.identity import Identities
from birthmark_agent.run import Agent
from birthmark_agent.settings import load_settings
from birthmark_agent.systemd import Notifier
from support.agent_site import Device


class FillableDisk(PosixDisk):
    """A disk that can be full."""

    full = False

    def create(self, name: str, data: bytes) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        super().create(name, data)


def on_fillable_disk(device: Device) -> tuple[FillableDisk, Identities]:
    """A device's disk and what it is, as an agent here has them."""
    settings = load_settings(device.config)
    disk = FillableDisk(settings.state)
    return disk, Identities(settings, files=Files(disk))


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
