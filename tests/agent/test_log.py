"""Log lines: one style of times, the server's too."""

import logging
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from birthmark_agent import log


def test_times_in_a_line_are_written_as_the_one_at_its_beginning(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    log.set_up("info")
    elsewhere = datetime(2026, 3, 1, 14, 30, 5, 250_999, tzinfo=timezone(timedelta(hours=2)))
    log.info("slot-expired", not_after=elsewhere, now=datetime(2026, 3, 1, tzinfo=UTC))
    line = capsys.readouterr().err.strip()
    assert line.endswith("slot-expired not_after=2026-03-01T12:30:05.250Z now=2026-03-01T00:00:00.000Z")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z info ", line)
    logging.getLogger("birthmark-agent").handlers.clear()
