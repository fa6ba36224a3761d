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
from birthmark_server.domain import CertificateProfile
from support.agent_site import AgentSite, Device, environment
from support.new_root import NewRoot, bundle, sign_bundle
from support.rotation_peer import RotationPeer

pytestmark = [pytest.mark.parts, pytest.mark.timeout(900)]  # dozens of starts of a program

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
elif sys.argv[2] == "rotate":
    Agent(identities, notifier=Notifier({})).renew_once()
elif sys.argv[2] == "trust":  # take bundles that are pushed, until the one of this version is pinned
    from threading import Thread
    from time import sleep
    agent = Agent(identities, notifier=Notifier({}))
    def watch():
        while identities.trust.version != int(sys.argv[4]):
            sleep(0.02)
        agent.stop()
    Thread(target=watch, daemon=True).start()
    agent.run()
else:  # obey a command: until its job is over and the server has heard so
    from threading import Thread
    from time import sleep
    from birthmark_agent.job import read_job
    agent = Agent(identities, notifier=Notifier({}))
    def watch():
        job = None
        while job is None or not job.reported or job.job_id != sys.argv[5]:
            sleep(0.02)
            job = read_job(Files.at(settings.state), sys.argv[4])
        agent.stop()
    Thread(target=watch, daemon=True).start()
    agent.run()
"""


def work(device: Device, what: str, *more: str, dies_at: int) -> bool:
    """Return whether the work came to its end."""
    command = [sys.executable, "-c", WORK, str(device.config), what, str(dies_at), *more]
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


def test_a_command_that_is_killed_at_any_write_is_finished_after_the_restart(site: AgentSite) -> None:
    device = site.device("KILL-3")
    with site.server(), RotationPeer.running(site) as peer:
        device.cli("enroll")
        for step in itertools.count():
            before = device.identities().slots.best()
            assert before is not None
            job = peer.order(device)
            finished = work(device, "obey", device.device_id, job, dies_at=step)
            held = [slot.identity for slot in device.identities().slots.candidates()]
            assert before.identity in held  # nothing is lost before the next rotation
            if not finished:
                assert work(device, "obey", device.device_id, job, dies_at=1_000_000)
            active = peer.wait_active(device, job)
            after = device.identities().slots.best()
            assert after is not None
            assert after.identity.serial_number == active.serial != before.identity.serial_number
            if finished:
                break
    assert step > 25


@pytest.mark.timeout(600)  # some fifteen starts of an agent
def test_a_trust_bundle_that_is_killed_at_any_write_leaves_the_old_roots_or_the_new(site: AgentSite) -> None:
    pki, device = site.installation.pki, site.device("KILL-4")
    new, signer = NewRoot.of(pki), pki.infra(CertificateProfile.COMMAND, "srv-command")
    with site.server(), RotationPeer.running(site) as peer:
        with device.running():
            peer.wait_for(device, "hello")  # from here on what is sent waits at the broker
        for step in itertools.count():
            before = device.identities().trust.version
            staged = bundle(step + 1, new.old.der, new.new.der, links=(new.new_with_old,))
            peer.send(device, "trust", sign_bundle(staged, signer))
            finished = work(device, "trust", str(step + 1), dies_at=step)
            after = device.identities()
            assert before <= after.trust.version <= step + 1
            assert len(after.anchors) == (2 if after.trust.version else 1)
            if finished:
                assert after.trust.version == step + 1
                break
    assert step > 5
