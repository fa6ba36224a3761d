"""Log lines: one event per line, `event key=value ...`, on standard error.

Under systemd (JOURNAL_STREAM is set) each line begins with its priority (sd-daemon(3)); elsewhere with the time.
Values that are not plain words are quoted, so a line can be read by a machine, and nothing that a peer sent can
begin a line of its own. Secrets and key files are never values.
"""

import json
import logging
import os
import re
import sys
from datetime import UTC, datetime
from typing import Final

from birthmark_agent.errors import AgentError

_LOGGER: Final = logging.getLogger("birthmark-agent")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_.:/+@,-]+", re.ASCII)
_PRIORITY: Final = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


class _Lines(logging.Formatter):
    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        if self._journal:
            return f"<{_PRIORITY.get(record.levelno, 6)}>{record.getMessage()}"
        return (
            f"{_moment(datetime.fromtimestamp(record.created, UTC))} {record.levelname.lower():7} {record.getMessage()}"
        )


def set_up(level: str) -> None:
    """Send lines of `level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(journal="JOURNAL_STREAM" in os.environ))
    _LOGGER.handlers = [handler]
    _LOGGER.propagate = False
    _LOGGER.setLevel(level.upper())


def info(event: str, **values: object) -> None:
    """Log something that happened as it should."""
    _LOGGER.info("%s", _line(event, values))


def debug(event: str, **values: object) -> None:
    """Log something that only someone searching for a fault wants to see."""
    _LOGGER.debug("%s", _line(event, values))


def failed(event: str, error: AgentError, **values: object) -> None:
    """Log a failure with its stable code and its sentence."""
    _LOGGER.warning("%s", _line(event, {**values, "code": error.code, "reason": str(error)}))


def _line(event: str, values: dict[str, object]) -> str:
    return " ".join([event, *(f"{name}={_quoted(_text(value))}" for name, value in values.items())])


def _text(value: object) -> str:
    return _moment(value) if isinstance(value, datetime) else str(value)


def _moment(at: datetime) -> str:
    """Return a time as every log line of Birthmark writes it: RFC 3339, UTC, milliseconds."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else json.dumps(text)
