"""The house itself: locks that name versions and hashes and nothing of a machine, scripts that can be run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PINNED = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][^ ]*( ;.*)? \\")
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}( \\)?")
COMMENT = re.compile(r"    # ( +|via.*).*")


def pins(lock: Path) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", lock.read_text(), re.MULTILINE))


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_holds_versions_and_hashes_and_nothing_of_a_machine(lock: Path) -> None:
    for line in lock.read_text().splitlines():
        assert PINNED.fullmatch(line) or HASH.fullmatch(line) or COMMENT.fullmatch(line), line


def test_the_locks_of_server_and_agent_are_subsets_of_the_one_that_is_tested() -> None:
    everything = pins(ROOT / "requirements" / "dev.lock")
    for lock in (one for one in LOCKS if one.stem != "smpmgr"):  # a stranger, in a home of its own
        assert pins(lock).items() <= everything.items()


def test_a_device_gets_nothing_of_the_server() -> None:
    assert not {"aiohttp", "sqlalchemy", "sqlmodel", "typer", "pydantic"} & set(
        pins(ROOT / "requirements" / "agent.lock")
    )


@pytest.mark.parametrize("name", ["demo", "test", "check", "lock"])
def test_a_script_can_be_run_and_says_what_it_does(name: str) -> None:
    script = ROOT / "scripts" / name
    assert os.access(script, os.X_OK)
    first, second, *_ = script.read_text().splitlines()
    assert first == "#!/usr/bin/env bash"
    assert second.startswith("# ")


def test_the_demo_says_what_it_can_do_without_setting_anything_up(tmp_path: Path) -> None:
    script = tmp_path / "scripts" / "demo"
    script.parent.mkdir()
    script.write_text((ROOT / "scripts" / "demo").read_text())  # beside it there is nothing to set up with
    said = subprocess.run(["bash", script, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    program = subprocess.run(
        [sys.executable, "-m", "demo_story", "--help"],
        capture_output=True, text=True, check=True, timeout=60, cwd=ROOT / "scripts",
    ).stdout  # fmt: skip
    options = set(re.findall(r"--[a-z]+", program))
    assert options == set(re.findall(r"--[a-z]+", said))


def test_setting_up_sends_colours_to_a_terminal_only(tmp_path: Path) -> None:
    program = f"source '{ROOT}/scripts/lib/setup.sh'; say hello; printf 'Collecting a\nCollecting b\n' | pip_progress 2"
    said = subprocess.run(["bash", "-c", program], capture_output=True, check=True, timeout=60).stderr
    assert said == b"hello\n  downloading (2 packages)\n"
