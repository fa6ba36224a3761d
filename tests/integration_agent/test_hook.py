"""The hook at each rotation."""

import pytest

from support.agent_site import AgentSite, Device
from support.rotation_peer import RotationPeer
from support.server import Server

pytestmark = pytest.mark.parts


HOOK = """#!/bin/sh
env | sort >"$BIRTHMARK_STATE/../hook-env"
readlink /proc/self/fd/0 >"$BIRTHMARK_STATE/../hook-stdin"
"""


def hooked(site: AgentSite, serial: str, text: str, timeout_s: float = 5) -> Device:
    program = site.folder / f"hook-{serial}"
    program.write_text(text)
    program.chmod(0o755)
    return site.device(serial, extra=f'[hook]\ncommand = "{program}"\ntimeout_s = {timeout_s}\n')


def test_a_hook_runs_at_each_rotation_in_a_clean_environment(site: AgentSite, server: Server) -> None:
    device = hooked(site, "HOOK-1", HOOK)
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        old = device.identities().slots.best()
        active = peer.wait_active(device, peer.order(device))
        agent.wait_log("hook-ended")
        lines = (device.folder / "hook-env").read_text().splitlines()
        said = dict(line.split("=", 1) for line in lines)
        assert old is not None
        slot = device.identities().slots.best()
        assert slot is not None
        wanted = {
            "BIRTHMARK_EVENT": "rotated",
            "BIRTHMARK_DEVICE_ID": device.device_id,
            "BIRTHMARK_OLD_SERIAL": old.identity.serial_number,
            "BIRTHMARK_NEW_SERIAL": active.serial,
            "BIRTHMARK_IDENTITY": str(device.state / slot.name),
            "BIRTHMARK_STATE": str(device.state),
        }
        assert wanted.items() <= said.items()
        assert set(said) - set(wanted) <= {"PATH", "LANG", "PWD", "_", "SHLVL", "OLDPWD"}
        assert (device.folder / "hook-stdin").read_text() == "/dev/null\n"
    device.cli("renew")  # without a running agent, too
    assert active.serial in (device.folder / "hook-env").read_text()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("#!/bin/sh\nexit 3\n", "it ended with 3"),
        ("#!/bin/sh\nsleep 600 & sleep 600\n", "was killed"),
        ("", "Exec format"),
    ],
)
def test_a_hook_that_fails_changes_nothing(site: AgentSite, server: Server, text: str, reason: str) -> None:
    device = hooked(site, f"HOOK-2-{len(text)}", text, timeout_s=0.5)
    with RotationPeer.running(site) as peer, device.running() as agent:
        peer.wait_for(device, "hello")
        first = peer.wait_active(device, peer.order(device))
        agent.wait_log("hook-failed")
        assert reason in agent.log
        second = peer.wait_active(device, peer.order(device))
        assert second.serial != first.serial
        assert "hook-failed" in agent.log
