"""The demo's campaign, with fewer devices: what it shows is what happened, and nothing of it is left."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

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
        capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, check=False, timeout=170,
    )  # fmt: skip


@pytest.mark.parts
@pytest.mark.timeout(180)
def test_a_campaign_survives_a_device_that_fails_and_one_that_is_revoked(tmp_path: Path) -> None:
    before = set(HOME.glob("demo-*"))
    picture = tmp_path / "campaign.svg"
    done = demo("--devices", "6", "--json", "--picture", str(picture))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["complete"] is True
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
    assert "5 of 6 devices" in picture.read_text().replace("&#160;", " ")
    assert set(HOME.glob("demo-*")) == before


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
