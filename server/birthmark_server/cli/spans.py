"""Spans as people type them: minutes m, hours h, days d."""

import re
from typing import Final

import typer

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400}
_MOST_S: Final = 366 * 86_400


def seconds(span: str, *, option: str = "--for") -> int:
    """Return a span such as 90m, 8h or 3d in seconds; raise BadParameter naming the option."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", span)
    if not match:
        raise typer.BadParameter(f"want a number and m, h or d, as in 90m or 8h; got {span!r}", param_hint=option)
    found = int(match[1]) * _UNITS[match[2]]
    if found > _MOST_S:
        raise typer.BadParameter(f"want at most 366d, got {span}", param_hint=option)
    return found
