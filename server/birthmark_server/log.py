"""Log lines on stderr: one line per event, `key=value` (logfmt) or JSON.

A line is `logging`'s message (the event's name) plus the fields given as `extra={"fields": {...}}`. Values are quoted,
so nothing that a client sends can start a line of its own.
"""

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from typing import Final

_BARE: Final = re.compile(r"[A-Za-z0-9_.:/@+,-]+", re.ASCII)


class LineFormatter(logging.Formatter):
    """Formats one record as one line. style: `logfmt` or `json`."""

    def __init__(self, line_style: str) -> None:
        super().__init__()
        self._json = line_style == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        fields: dict[str, object] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        given = getattr(record, "fields", None)
        if isinstance(given, Mapping):
            fields.update(given)
        if record.exc_info:
            fields["trace"] = self.formatException(record.exc_info)
        if self._json:
            return json.dumps(fields, default=str)
        return " ".join(f"{name}={_value(value)}" for name, value in fields.items() if value != "")


def _value(value: object) -> str:
    text = str(value)
    return text if _BARE.fullmatch(text) else json.dumps(text)


def configure(line_style: str) -> None:
    """Send all log lines of this process to stderr in `line_style`."""
    # A line costs twice as much with the caller's file and line, thread and process, which it does not show
    # (Python's logging howto, "Optimization").
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(line_style))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells how it will do things, at every start
    logging.captureWarnings(True)
