"""Log lines: one per event, and nothing that a client sends starts a line of its own."""

import json
import logging
import subprocess
import sys

import pytest

from birthmark_server.log import LineFormatter


def line(style: str, message: str = "request", **fields: object) -> str:
    record = logging.LogRecord("birthmark.web", logging.INFO, "", 0, message, (), None)
    record.fields = fields
    return LineFormatter(style).format(record)


def test_logfmt_names_every_field_and_quotes_what_needs_it() -> None:
    said = line("logfmt", status=201, path="/v1/enrollments", detail="want 1, got 2", empty="")
    assert said.endswith('level=info event=request status=201 path=/v1/enrollments detail="want 1, got 2"')


@pytest.mark.parametrize("style", ["logfmt", "json"])
@pytest.mark.parametrize("sent", ["a\nat=forged", "\x1b[31mred", 'quote" and \\', "\u2028separator", "\r\n"])
def test_a_value_never_leaves_its_line_or_its_quotes(style: str, sent: str) -> None:
    said = line(style, path=sent)
    assert said.isprintable()
    assert len(said.splitlines()) == 1
    if style == "json":
        assert json.loads(said)["path"] == sent


def test_a_trace_stays_on_one_line() -> None:
    try:
        raise ValueError("no")
    except ValueError:
        record = logging.LogRecord("birthmark.web", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    said = LineFormatter("logfmt").format(record)
    assert "\n" not in said
    assert "ValueError: no" in said


def test_a_process_logs_to_stderr() -> None:
    code = "import logging; from birthmark_server.log import configure; configure('json'); logging.info('hello')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b""
    assert json.loads(done.stderr)["event"] == "hello"
