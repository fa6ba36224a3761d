"""The demo itself, with real parts: it gets through, it cleans up, and what it tells people to type works."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.parts

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".birthmark"
STAGES = {"proven", "born", "operational", "connected", "rotated"}
ENVIRONMENT = {**os.environ, "PYTHONPATH": f"{ROOT / 'scripts'}:{ROOT / 'tests'}", "COLUMNS": "200"}


def demo(*words: str) -> list[str]:
    return [sys.executable, "-m", "demo_story", *words]


def folders() -> set[Path]:
    return set(HOME.glob("demo-*"))


def processes_below(folder: Path) -> list[str]:
    """Command lines that name the folder: whatever was started in there and still runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


@contextmanager
def kept(tmp_path: Path, *words: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the demo with --keep until it stays; yield the process and what it printed."""
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            demo("--devices", "1", "--keep", *words), stdout=output, stderr=output, env=ENVIRONMENT, cwd=ROOT
        )
    try:
        deadline = time.monotonic() + 60
        while "stays up until" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield process, log.read_text()
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(60)


def test_every_device_gets_through_and_nothing_is_left(tmp_path: Path) -> None:
    before = folders()
    picture = tmp_path / "demo.svg"
    done = subprocess.run(
        demo("--devices", "2", "--json", "--picture", str(picture)),
        capture_output=True, env=ENVIRONMENT, cwd=ROOT, check=False, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    told = json.loads(done.stdout)
    assert told["complete"] is True
    assert [set(device["stages"]) for device in told["devices"]] == [STAGES, STAGES]
    assert {device["model"] for device in told["devices"]} == {"GATEWAY-2", "SENSOR-7"}
    for device in told["devices"]:
        stages = device["stages"]
        assert stages["connected"]["evidence"] == stages["operational"]["evidence"]
        assert stages["rotated"]["evidence"] != stages["operational"]["evidence"]
    assert "2 of 2 devices" in picture.read_text().replace("&#160;", " ")
    assert folders() == before


def test_what_it_tells_people_to_type_works_and_ctrl_c_ends_it_all(tmp_path: Path) -> None:
    before = folders()
    with kept(tmp_path) as (process, told):
        (folder,) = folders() - before
        exports = " && ".join(re.findall(r"^export .*$", told, re.MULTILINE))
        commands = re.findall(r"^(birthmark.*)$", told, re.MULTILINE)
        assert len(commands) >= 6
        for command in commands:
            ran = subprocess.run(
                ["bash", "-c", f"{exports} && {command}"], capture_output=True, check=False, timeout=60
            )
            assert ran.returncode == 0, (command, ran.stdout, ran.stderr)
        assert processes_below(folder)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    assert not folder.exists()
    assert processes_below(folder) == []


def test_a_revoked_device_is_off_the_broker(tmp_path: Path) -> None:
    before = folders()
    with kept(tmp_path):
        (folder,) = folders() - before
        birthmark = [str(Path(sys.executable).parent / "birthmark"), "--config", f"{folder}/server/birthmark.toml"]
        subprocess.run([*birthmark, "device", "revoke", "gateway-001"], check=True, capture_output=True, timeout=60)
        log = folder / "server" / "mosquitto.log"
        deadline = time.monotonic() + 20
        while "denied" not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.05)


def test_a_number_of_devices_that_makes_no_sense_is_refused() -> None:
    done = subprocess.run(demo("--devices", "0"), capture_output=True, env=ENVIRONMENT, check=False, timeout=60)
    assert done.returncode == 2
    assert b"want 1 to 200" in done.stderr
