"""Windows of time, in which devices may be told: `22:00-04:00`, `sat,sun 08:00-20:00`, in UTC."""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from birthmark_server.campaigns import BadCampaign, Window

_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY_MINUTES: Final = 1440
_TEXT: Final = re.compile(r"(?:([a-z,]+) )?([0-9]{2}):([0-5][0-9])-([0-9]{2}):([0-5][0-9])", re.ASCII)


def read_window(text: str) -> Window:
    """Return the window that `text` means, on every day unless it names some; raise BadCampaign."""
    match = _TEXT.fullmatch(text)
    if not match:
        raise BadCampaign(f"window: want 22:00-04:00 or sat,sun 08:00-20:00, got {text[:80]!r}")
    names = match[1].split(",") if match[1] else list(_DAYS)
    if unknown := [name for name in names if name not in _DAYS]:
        raise BadCampaign(f"window: want days of {','.join(_DAYS)}, got {unknown[0][:80]!r}")
    begins, ends = int(match[2]) * 60 + int(match[3]), int(match[4]) * 60 + int(match[5])
    return check_window(Window(begins, ends, tuple(sorted({_DAYS.index(name) for name in names}))))


def write_window(window: Window) -> str:
    """Return the text that `read_window` reads as this."""
    begins, ends = (f"{minute // 60:02}:{minute % 60:02}" for minute in (window.begins, window.ends))
    days = "" if len(window.days) == len(_DAYS) else ",".join(_DAYS[day] for day in window.days) + " "
    return f"{days}{begins}-{ends}"


def check_window(window: Window) -> Window:
    """Return it; raise BadCampaign where it is none."""
    if not (0 <= window.begins < _DAY_MINUTES and 0 <= window.ends < _DAY_MINUTES and window.begins != window.ends):
        raise BadCampaign("window: want two different times of the day, as 22:00-04:00")
    if not window.days or not set(window.days) <= set(range(len(_DAYS))):
        raise BadCampaign("window: want days from Monday (0) to Sunday (6)")
    return window


def within(windows: Sequence[Window], now: datetime) -> bool:
    """Return whether one of the windows is open; without any, always. now: UTC."""
    minute, today = now.hour * 60 + now.minute, now.weekday()
    for window in windows:
        if window.begins < window.ends:
            if today in window.days and window.begins <= minute < window.ends:
                return True
        elif (today in window.days and minute >= window.begins) or (
            (today - 1) % 7 in window.days and minute < window.ends
        ):
            return True
    return not windows
