"""Killed before every system call that writes: the device recovers by itself, and loses no identity that it had.

The kill is real (SIGKILL to a process that works with the real server, broker and TPM); torn writes are included. What
a power cut can lose beyond that is played by tests/agent_tpm.
"""

import itertools
import shutil
import subprocess
import sys

import pytest

from birthmark_agent.slots import Slots
from support.agent_site import AgentSite, Device, environment

pytestmark = [pytest.mark.parts, pytest.mark.timeout(300)]

WORK = """
import os, sys
from pathlib import Path
from birthmark_agent.files import Files, PosixDisk
from birthmark_agent.homecoming import Homecoming
from birthmark_agent.identity import Identities
from birthmark_agent.run import Agent
from birthmark_agent.settings import load_settings
from birthmark_agent.systemd import Notifier

class Dying(PosixDisk):
    left = int(sys.argv[3])
    def _step(self):
        if not self.left:
            os.kill(os.getpid(), 9)
        self.left -= 1
    def create(self, name, data):
        self._step()
        super().create(name, data[:len(data) // 2])
        self._step()
        super().create(name, data)
    def sync(self, name): self._step(); super().sync(name)
    def rename(self, source, target): self._step(); super().rename(source, target)
    def remove(self, name): self._step(); super().remove(name)
    def sync_folder(self): self._step(); super().sync_folder()

settings = load_settings(Path(sys.argv[1]))
identities = Identities(settings, files=Files(Dying(settings.state)))
if sys.argv[2] == "birth":
    Homecoming(identities).find()
else:
    Agent(identities, notifier=Notifier({}), on_message=lambda *_: None).renew_once()
"""


def work(device: Device, what: str, *, dies_at: int) -> bool:
    """Return whether the work came to its end."""
    command = [sys.executable, "-c", WORK, str(device.config), what, str(dies_at)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == 0


def test_a_birth_that_is_killed_at_any_write_is_made_good_by_the_next_start(site: AgentSite) -> None:
    device = site.device("KILL-1")
    with site.server(extra="[est]\nmost_per_day = 1000"):
        for step in itertools.count():
            shutil.rmtree(device.state, ignore_errors=True)
            device.tpm.clear()  # the copy in NV too: born again each time
            finished = work(device, "birth", dies_at=step)
            device.cli("enroll")
            assert device.identities().slots.best() is not None
            if finished:
                break
    assert step > 15


def test_a_rotation_that_is_killed_at_any_write_leaves_a_working_identity(site: AgentSite) -> None:
    device = site.device("KILL-2")
    with site.server(extra="[est]\nmost_per_day = 1000"):
        device.cli("enroll")
        for step in itertools.count():
            before = Slots(device.identities().files).best()
            assert before is not None
            finished = work(device, "rotate", dies_at=step)
            after = device.identities().slots.candidates()
            assert before.identity in [slot.identity for slot in after]
            assert device.cli("trace").returncode == 0  # what is current is what the broker accepts
            if finished:
                assert after[0].identity != before.identity
                break
    assert step > 15
