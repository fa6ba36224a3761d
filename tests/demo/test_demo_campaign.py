"""The demo's campaign and the rollover after it, in one run with fewer devices: what it shows is what happened, and
nothing of it is left."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from demo_story.parts import PartFailed
from demo_story.screen import Screen
from demo_story.sockets import WatchedSocket

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".birthmark"
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}", "COLUMNS": "200"}


def demo(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "demo_story", "--campaign", *words],
        capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, check=False, timeout=280,
    )  # fmt: skip


@dataclass(frozen=True)
class Told:
    """What one run said, drew and left."""

    result: dict[str, Any]
    picture: str
    left: set[Path]


@pytest.fixture(scope="module")
def told_once(tmp_path_factory: pytest.TempPathFactory) -> Told:
    before = set(HOME.glob("demo-*"))
    picture = tmp_path_factory.mktemp("campaign") / "campaign.svg"
    done = demo("--devices", "6", "--json", "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["complete"] is True
    drawn = picture.read_text().replace("&#160;", " ").replace("&#x27;", "'")
    return Told(result, drawn, set(HOME.glob("demo-*")) - before)


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_campaign_survives_a_device_that_fails_and_one_that_is_revoked(told_once: Told) -> None:
    told = told_once.result
    assert [one["event"] for one in told["campaign"]["happenings"]] == [
        "started", "paused", "resumed", "paused", "retried", "finished"
    ]  # fmt: skip
    by_itself = told["campaign"]["happenings"][3]
    assert by_itself["by"] == ""
    assert by_itself["reason"].startswith("stage 2: 1 of 2 done, want 100 %")
    assert told["failed_code"] == "tpm-unavailable"
    assert 0 < told["cut_ms"] < 10_000  # how soon it is on an idle machine, docs/benchmarks.md says
    assert told["refused"] >= 1
    devices = {one["device_id"]: one for one in told["devices"]}
    revoked = devices.pop(told["revoked_device"])
    assert (revoked["outcome"], revoked["detail"], revoked["live"]) == ("skipped", "the device is revoked", "")
    assert len(devices) == 5
    for one in devices.values():
        assert (one["outcome"], one["retired"]) == ("done", True), one
        assert one["live"] == one["after"] != one["before"]
    assert devices[told["failed_device"]]["stage"] == 2
    assert "5 of 6 devices" in told_once.picture
    assert not told_once.left


@pytest.mark.parts
@pytest.mark.timeout(300)
def test_a_fleet_ca_is_replaced_while_two_devices_sleep(told_once: Told) -> None:
    told = told_once.result
    rollover = told["rollover"]
    old, new, sleepers = rollover["old"], rollover["new"], rollover["sleepers"]
    assert int(new.removeprefix("fleet-")) == int(old.removeprefix("fleet-")) + 1
    assert f"{new} can't issue yet: server " in rollover["too_early"]
    assert "has not loaded it" in rollover["too_early"]
    assert f"{old} can't be retired yet: 2 certificates below it stand" in rollover["kept"]
    assert sorted(re.findall(r"ldevid of ([a-z0-9-]+)", rollover["kept"])) == sorted(sleepers)
    assert (rollover["states"][old], rollover["states"][new]) == ("retired", "active")
    homes = rollover["homes"]
    assert set(homes) == {one["device_id"] for one in told["devices"]} - {told["revoked_device"]}
    for one in told["devices"]:
        if one["device_id"] == told["revoked_device"]:
            continue
        home = homes[one["device_id"]]
        assert (home["below"], home["bundle"]) == (new, rollover["version"]), one
        assert home["live"] == home["serial"] not in (one["before"], one["after"])
        assert (home["home_s"] is not None) == (one["device_id"] in sleepers)
    assert f" then moved from {old} (retired) to {new} (active), 2 of them after a sleep; " in told_once.picture
    assert told_once.picture.count("slept; home after") == 2


def test_a_campaign_of_too_few_devices_is_refused() -> None:
    done = demo("--devices", "5")
    assert done.returncode == 2
    assert "want 6 to 200, got 5" in done.stderr


def test_a_story_that_was_interrupted_tells_nothing_more() -> None:
    for as_json in (False, True):
        with pytest.raises(KeyboardInterrupt):
            Screen(as_json=as_json, interrupted=lambda: True).chapter("more")


def test_a_socket_is_closed_when_its_peer_closes_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            peer, _ = listener.accept()
            watched = WatchedSocket(os.getpid(), port=port)
            with pytest.raises(PartFailed, match=re.escape("still open after 0.2 s")):
                watched.wait_closed(0.2)
            closed_at_s = time.monotonic()
            peer.close()
            assert 0 <= watched.wait_closed(30) - closed_at_s < 20


def test_a_process_without_a_connection_has_no_socket_to_watch() -> None:
    with pytest.raises(PartFailed, match="0 connections to port 1, want 1"):
        WatchedSocket(os.getpid(), port=1)
