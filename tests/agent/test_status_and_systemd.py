"""What the agent says: to systemd, to its log, and to whoever asks for its status."""

import logging
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

import pytest

from birthmark_agent import log, status, status_text
from birthmark_agent.errors import AgentError
from birthmark_agent.mqtt import status_payload
from birthmark_agent.status import AlreadyRunning, Phase, StatusBoard, hold_lock, is_running, running_pid
from birthmark_agent.systemd import Notifier

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_systemd_hears_ready_once_and_the_watchdog_in_time(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(1)
        notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "60000000"})
        notifier.ready()
        notifier.ready()
        notifier.alive()
        notifier.alive()
        notifier.status("two\nlines")
        notifier.stopping()
        said = [heard.recv(100).decode() for _ in range(4)]
    assert said == ["READY=1", "WATCHDOG=1", "STATUS=two lines", "STOPPING=1"]


def test_without_systemd_nothing_is_said_and_nothing_breaks(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone")}, {"NOTIFY_SOCKET": "@birthmark-gone"}):
        notifier = Notifier(environment)
        notifier.ready()
        notifier.alive()
    assert Notifier({"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"})._watchdog_s == 0.0


def test_log_lines_are_one_line_each_whatever_a_peer_sent(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_up("info")
    log.info("connected", broker="localhost:8883", reason='a "quoted"\nsecond line')
    log.debug("hidden")
    log.failed("not-connected", AgentError("it is down"), tries=3)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].endswith('connected broker=localhost:8883 reason="a \\"quoted\\"\\nsecond line"')
    assert lines[1].endswith('not-connected tries=3 code=agent-failed reason="it is down"')
    logging.getLogger("birthmark-agent").handlers.clear()


def test_under_systemd_lines_begin_with_their_priority(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    log.set_up("info")
    log.failed("x", AgentError("y"))
    assert capsys.readouterr().err.startswith("<4>x ")
    logging.getLogger("birthmark-agent").handlers.clear()


def test_the_board_is_written_whole_and_a_full_disk_does_not_stop_it(tmp_path: Path) -> None:
    board = StatusBoard(tmp_path)
    board.phase(Phase.CONNECTED, NOW, broker="b:1")
    board.renewal_failed(AgentError("no"), NOW, serial="ab")
    board.renewed(NOW, serial="cd")
    assert (board.report.renewals, board.report.renewal_attempts) == (1, 2)
    assert '"phase": "connected"' in (tmp_path / status.STATUS_FILE).read_text()
    StatusBoard(tmp_path / "gone").phase(Phase.WAITING, NOW)


def test_one_agent_per_state_folder(tmp_path: Path) -> None:
    assert not is_running(tmp_path)
    with hold_lock(tmp_path):
        assert is_running(tmp_path)
        assert running_pid(tmp_path) == os.getpid()
        with pytest.raises(AlreadyRunning, match=str(os.getpid())), hold_lock(tmp_path):
            pass
    assert running_pid(tmp_path) is None


def test_what_is_published_is_small_plain_json() -> None:
    assert status_payload("offline", "lost") == b'{"state":"offline","reason":"lost"}'


@pytest.mark.parametrize(
    ("end", "shown"),
    [
        ("2026-03-01T12:00:30Z", "30 s"),
        ("2026-03-01T13:30:00Z", "90 min"),
        ("2026-03-02T12:00:00Z", "24 h"),
        ("2026-03-31T12:00:00Z", "30 d"),
        ("2026-02-01T12:00:00Z", "0 s"),
        ("9999-12-31T23:59:59Z", "ever"),
    ],
)
def test_times_are_shown_in_the_unit_that_matters(end: str, shown: str) -> None:
    assert status_text._span(status.stamp(NOW), end) == shown


def test_status_reads_well_for_people() -> None:
    held = status.Certificate("ab12", status.stamp(NOW), "2026-03-31T12:00:00Z", False, "a", "2026-03-21T12:00:00Z")
    report = status.Report(phase="connected", broker="b:8883", renewal_at=status.stamp(NOW), renewal_result="renewed")
    whole = status.Status(
        device_id="dev-1",
        running=True,
        certificate=held,
        spare=held,
        born=True,
        clock="set",
        now=status.stamp(NOW),
        next_action="renew",
        next_at="2026-03-21T12:00:00Z",
        report=report,
    )
    lines = status_text.status_lines(whole)
    assert lines[0] == "device       dev-1"
    assert lines[-1] == "next         renew at 2026-03-21T12:00:00Z (in 20 d)"
    assert "agent        runs, connected" in lines


def shown(report: status.Report, *, serial: str = "ab12") -> str:
    held = status.Certificate(serial, status.stamp(NOW), "2026-03-31T12:00:00Z", False, "a", "2026-03-21T12:00:00Z")
    whole = status.Status("dev-1", True, held, None, True, "set", status.stamp(NOW), "renew", "", report)
    return "\n".join(status_text.status_lines(whole))


def test_a_failure_is_overcome_once_connected(tmp_path: Path) -> None:
    board = StatusBoard(tmp_path)
    board.failed(AgentError("refused"), NOW)
    board.phase(Phase.WAITING, NOW)
    assert "failure      agent-failed at 2026-03-01T12:00:00Z: refused" in shown(board.report).splitlines()
    board.phase(Phase.CONNECTED, NOW)
    assert not board.report.failure_current
    assert "last failure agent-failed at 2026-03-01T12:00:00Z, overcome: refused" in shown(board.report).splitlines()


def test_a_renewal_is_shown_only_beside_the_certificate_that_it_gave(tmp_path: Path) -> None:
    board = StatusBoard(tmp_path)
    board.renewed(NOW, serial="ab12")
    assert "renewal      renewed" in shown(board.report)
    assert "renewal" not in shown(board.report, serial="cd34")  # another enrollment gave that one
    board.renewal_failed(AgentError("disk full"), NOW, serial="")
    assert "disk full" in shown(board.report, serial="cd34")
