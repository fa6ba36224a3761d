"""What an error says, as it is kept and shown: printable, and not endless."""

from typing import Final

from birthmark_wire.encoding import printable

_MOST: Final = 1000


def words(error: BaseException | str) -> str:
    """Return its sentence, lines as one; the name of its class where it has none."""
    text = "; ".join(line.strip() for line in str(error).splitlines() if line.strip()) or type(error).__name__
    return printable(text if len(text) <= _MOST else f"{text[: _MOST - 1]}…")
