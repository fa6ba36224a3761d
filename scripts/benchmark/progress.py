"""What is going on, on stderr: one line that changes for a person, few lines for a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

_LOG_EVERY_S: Final = 5.0


@contextmanager
def saying(section: str) -> Iterator[Callable[[str], None]]:
    """Return what shows what is being done. Into a log goes one line in five seconds at most."""
    console = Console(stderr=True, highlight=False)
    said_at = -_LOG_EVERY_S
    with console.status(section) as status:

        def say(doing: str) -> None:
            nonlocal said_at
            if console.is_terminal:
                status.update(f"{section}: {doing}")
            elif time.monotonic() - said_at >= _LOG_EVERY_S:
                said_at = time.monotonic()
                console.print(f"{section}: {doing}")

        yield say
