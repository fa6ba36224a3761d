"""`birthmark factory run` and `status`, as they are typed: what is wrong is said before anything is begun."""

import io
import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from rich.console import Console

from birthmark_server.cli import application, run
from birthmark_server.cli.exits import Exit
from birthmark_server.domain import CertificateProfile
from birthmark_server.factory.station.record import RECORD_FILE, Record, read_record
from birthmark_server.factory.station.targets import TargetKind, register
from support.factory_plant import IMAGE, Plant
from support.factory_sim import SimulatedTarget
from support.pki import Leaf, Pki
from support.ports import free_port

NOW = datetime.now(UTC)


@dataclass
class Typed:
    """A station in a folder, and what is typed at it."""

    folder: Path
    plant: Plant
    pki: Pki

    def operator(self, leaf: Leaf, name: str = "alice") -> Path:
        path = self.folder / f"{name}.pem"
        path.write_bytes(leaf.chain_pem + leaf.key_pem)
        path.chmod(0o600)
        return path

    def factory(self, *words: str) -> int:
        return run(lambda: application()(["factory", *words], standalone_mode=True))

    def run(self, *words: str, operator: Path | None = None) -> int:
        who = operator or self.operator(self.pki.infra(CertificateProfile.FACTORY, "alice"))
        return self.factory("run", "--workorder", "W1", "--operator", str(who), "--station", str(self.folder), *words)


@pytest.fixture
def typed(tmp_path: Path, make_plant: Callable[[int], Plant], pki: Pki, monkeypatch: pytest.MonkeyPatch) -> Typed:
    """A station with three devices to make, and a server in memory; no server answers to who badges in."""
    plant = make_plant(3)
    monkeypatch.setattr("birthmark_server.cli.factory_run.station_desk", lambda here: plant.desk)
    register("sim", TargetKind(lambda place: plant.open(1)(place.serial), proves_itself_later=False))
    folder = tmp_path / "line"
    folder.mkdir()
    pki.infra(CertificateProfile.STATION, "st-1").write(folder, "station")
    (folder / "image").write_bytes(IMAGE)
    (folder / "station.toml").write_text(
        f'server = "https://localhost:{free_port()}"\ncertificate = "station.pem"\nkey = "station.key"\n'
        f'root = "{pki.root_pem}"\nimage = "image"\n[[slot]]\ntarget = "sim:{{serial}}"\n'
    )
    feeding = plant.next_device(1)

    def open_next(slot: int) -> Callable[[str], SimulatedTarget]:
        def target(serial: str) -> SimulatedTarget:
            feeding(plant.stopping)
            return SimulatedTarget(plant.device(), plant.desk, plant.steps)

        return target

    plant.open = open_next  # type: ignore[method-assign]
    return Typed(folder, plant, pki)


def test_a_work_order_is_made_and_its_status_shown(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed.run() == Exit.DONE
    told = capsys.readouterr()
    assert "SN-0003: PASS" in told.out
    assert "W1: 3 of 3 made, 0 failed, 0 awaiting birth, first-pass yield 100.0%" in told.err
    assert "<title>SN-0001</title>" in (typed.folder / "labels" / "SN-0001.svg").read_text()
    assert typed.factory("status", "--station", str(typed.folder), "--json") == Exit.DONE
    (order,) = json.loads(capsys.readouterr().out)
    assert (order["workorder"], order["made"], order["first_pass_yield"]) == ("W1", 3, 1.0)


def test_events_are_lines_of_json(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed.run("--json") == Exit.DONE
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["serial"] for event in events if event["kind"] == "ended"] == ["SN-0001", "SN-0002", "SN-0003"]
    assert {event["operator"] for event in events if event["kind"] == "attempt"} == {"alice"}


def test_on_a_terminal_the_board_is_live(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    terminal = partial(Console, file=shown, force_terminal=True, width=140)
    monkeypatch.setattr("birthmark_server.cli.factory_run.Console", terminal)
    assert typed.run() == Exit.DONE
    assert "W1: 3 of 3 made" in shown.getvalue()
    assert "SN-0003 PASS" in shown.getvalue()


def test_metrics_are_written_beside(typed: Typed) -> None:
    path = typed.folder / "line.prom"
    assert typed.run("--metrics", str(path)) == Exit.DONE
    assert 'birthmark_factory_units_made{workorder="W1"} 3.0' in path.read_text()


def test_a_failed_unit_is_the_exit_status(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    typed.plant.desk.refuses["SN-0002"] = ("duplicate-ek", "the EK is that of SN-0001")
    assert typed.run() == Exit.NO
    assert "SN-0002: the server will not have it, it is in quarantine (duplicate-ek)" in capsys.readouterr().out


@pytest.mark.parametrize("profile", [CertificateProfile.VIEWER, CertificateProfile.FLEET_OPERATOR])
def test_an_operator_without_the_role_begins_nothing(
    typed: Typed, profile: CertificateProfile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed.run(operator=typed.operator(typed.pki.infra(profile, "bob"), "bob")) == Exit.NO_PERMISSION
    assert "want one for factory or security-officer" in capsys.readouterr().err
    assert not (typed.folder / RECORD_FILE).exists()


def test_a_station_whose_certificate_ended_begins_nothing(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    old = typed.pki.infra(CertificateProfile.STATION, "st-1", now=NOW - timedelta(days=9), lifetime=timedelta(days=7))
    old.write(typed.folder, "station")
    assert typed.run() == Exit.NO_PERMISSION
    assert "station.pem ended at " in capsys.readouterr().err
    assert not (typed.folder / RECORD_FILE).exists()


def test_a_clock_that_is_wrong_by_a_year_begins_nothing(
    typed: Typed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late(datetime):
        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]
            return datetime.now(tz) - timedelta(days=365)

    monkeypatch.setattr("birthmark_server.cli.factory_run.datetime", Late)
    assert typed.run() == Exit.CONFIGURATION
    assert "begins at" in capsys.readouterr().err
    assert not (typed.folder / RECORD_FILE).exists()


def test_a_full_disk_begins_nothing(
    typed: Typed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birthmark_server.cli.factory_station.ROOM_BYTES", 1 << 60)
    assert typed.run() == Exit.IO
    assert "No space left on device: " in capsys.readouterr().err
    assert not (typed.folder / RECORD_FILE).exists()


def test_a_damaged_record_is_refused_by_its_line(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed.run() == Exit.DONE
    path = typed.folder / RECORD_FILE
    path.write_bytes(path.read_bytes().replace(b'"quantity":3', b'"quantity":4'))
    assert typed.run() == Exit.DATA
    assert f"{path}, line 3: prev: want the hash of the line before" in capsys.readouterr().err
    assert typed.factory("status", "--station", str(typed.folder)) == Exit.DATA


def test_two_runs_at_once_are_refused(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    record = Record.open(typed.folder / RECORD_FILE, station="st-1", now=lambda: NOW)
    assert typed.run() == Exit.TRY_AGAIN
    record.close()
    assert "another `birthmark factory run`" in capsys.readouterr().err


def test_a_first_run_without_the_server_says_that_it_needs_it(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    typed.plant.desk.is_down = True
    assert typed.run() == Exit.UNAVAILABLE
    assert "work order W1 is not known here yet" in capsys.readouterr().err


def test_sigterm_ends_the_phase_and_is_recorded(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    class Slow(SimulatedTarget):
        def self_test(self, *, limit: timedelta) -> dict[str, str]:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)  # the phase ends after it was asked to, in its own time
            return {"topic": "hello"}

    register("sim", TargetKind(lambda place: Slow(typed.plant.device(), typed.plant.desk), False))
    assert typed.run() == Exit.INTERRUPTED
    assert "stopped; the same command goes on where it stood" in capsys.readouterr().err
    ended = [line.event for line in read_record(typed.folder / RECORD_FILE)][-1]
    assert (ended.outcome, ended.code) == ("ABORTED", "stopped")  # type: ignore[union-attr]


def test_what_is_missing_is_named(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed.run("--slots", "0", "--image", str(typed.folder / "none")) == Exit.NO_INPUT
    (typed.folder / "station.key").chmod(0o644)
    assert typed.run() == Exit.CONFIGURATION
    assert "chmod 600" in capsys.readouterr().err
    (typed.folder / "station.toml").unlink()
    assert typed.run() == Exit.NO_INPUT
    assert "birthmark station init makes it" in capsys.readouterr().err
