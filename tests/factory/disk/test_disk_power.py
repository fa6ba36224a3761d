"""A slot's power: what is switched on is off in the end, with all that it started."""

import shlex
import time
from pathlib import Path

import pytest

from birthmark_server.factory.disk.errors import PowerFailed
from birthmark_server.factory.disk.power import Power


def power(tmp_path: Path, on: str, off: str = "") -> Power:
    return Power(on, off, log=tmp_path / "power.log", environment={"BIRTHMARK_SERIAL": "SN-1"})


def shell(script: str) -> str:
    return f"sh -c {shlex.quote(script)}"


def lives(pid_file: Path) -> bool:
    stat = Path(f"/proc/{pid_file.read_text().strip()}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_relays_command_ends_and_its_environment_names_the_unit(tmp_path: Path) -> None:
    switch = power(tmp_path, shell("echo on $BIRTHMARK_SERIAL"), shell("echo off $BIRTHMARK_SERIAL"))
    switch.on()
    assert switch.wait_off(0)
    switch.off()
    assert (tmp_path / "power.log").read_text() == "on SN-1\noff SN-1\n"


def test_what_runs_as_long_as_the_device_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    """An emulator behind a shell that ends first, and that does not listen to SIGTERM."""
    inner = f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.1; done"
    switch = power(tmp_path, shell(f"sh -c {shlex.quote(inner)} & sleep 60"))
    switch.on()
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert lives(tmp_path / "pid")
    switch.off()
    deadline = time.monotonic() + 20
    while lives(tmp_path / "pid"):
        assert time.monotonic() < deadline, "the shell ended, and what it had started runs on"
        time.sleep(0.02)
    switch.off()


def test_a_device_that_powers_off_by_itself_is_seen(tmp_path: Path) -> None:
    switch = power(tmp_path, "sleep 0.6")
    switch.on()
    assert not switch.wait_off(0)
    assert switch.wait_off(20)
    switch.off()


def test_where_a_person_switches_nothing_is_run(tmp_path: Path) -> None:
    switch = power(tmp_path, "")
    switch.on()
    assert switch.wait_off(0)
    switch.off()
    assert not (tmp_path / "power.log").exists()


def test_a_command_that_fails_says_its_words(tmp_path: Path) -> None:
    with pytest.raises(PowerFailed, match="power_on ended with 3: no such port"):
        power(tmp_path, shell("echo no such port >&2; exit 3")).on()
    with pytest.raises(PowerFailed, match="/nonexistent/switch: No such file"):
        power(tmp_path, "/nonexistent/switch").on()


def test_a_power_off_that_is_not_there_hides_nothing(tmp_path: Path) -> None:
    power(tmp_path, "", "/nonexistent/switch").off()
