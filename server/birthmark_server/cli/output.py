"""What a command prints: a table for a person, or with --json one array for a program.

Data goes to stdout, words to stderr.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Final, Generic, TypeVar

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

T = TypeVar("T")
_PIPE_WIDTH: Final = 10_000

Json = Annotated[bool, typer.Option("--json", help="Print JSON, every field of every row, instead of a table.")]
Limit = Annotated[int, typer.Option(min=1, help="Print at most this many rows.")]


@dataclass(frozen=True)  # no slots: Python 3.11 can't make a frozen, slotted value of a generic class with [] in front
class Column(Generic[T]):
    """One column of a table. value: what stands in it; style: rich's, for the whole cell."""

    title: str
    value: Callable[[T], object]
    style: Callable[[T], str] | str = ""


def say(text: str) -> None:
    """Tell the person something, on stderr: stdout is for data."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text))


def show(items: Iterable[T], columns: Sequence[Column[T]], *, as_json: bool, empty: str) -> None:
    """Print all items. empty: the sentence for a person when there is none; it should say what to do next."""
    rows = list(items)
    if as_json:
        print_json([plain(item) for item in rows])
    elif rows:
        _console().print(_table(rows, columns))
    else:
        say(empty)


def show_one(item: object, *, as_json: bool) -> None:
    """Print one value, field by field."""
    fields = plain(item)
    if as_json:
        print_json(fields)
        return
    table = Table.grid(padding=(0, 2))
    for name, value in fields.items():
        table.add_row(Text(name.replace("_", " "), style="dim"), Text(_cell(value)))
    _console().print(table)


def print_json(value: object) -> None:
    """Print JSON in UTF-8 with an end of line."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def plain(value: Any) -> Any:
    """Return `value` as JSON can hold it: times in RFC 3339 UTC, bytes in hex, records as objects."""
    match value:
        case None | bool() | int() | float():
            return value
        case Enum():
            return value.value
        case str():
            return value
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        case bytes():
            return value.hex()
        case dict():
            return {str(name): plain(member) for name, member in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(member) for member in value]
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return str(value)


def pages(fetch: Callable[[str, int], Sequence[T]], key: Callable[[T], str], *, limit: int) -> Iterator[T]:
    """Yield up to `limit` items of a listing that is read page by page: fetch(after, page_size)."""
    after = ""
    while limit > 0:
        size = min(limit, 500)
        page = fetch(after, size)
        yield from page
        if len(page) < size:
            return
        after, limit = key(page[-1]), limit - size


def moment(value: datetime | None) -> str:
    """Return a time as a person reads it, in UTC; `-` for none and `never` for the end of all times."""
    if value is None:
        return "-"
    return "never" if value.year == 9999 else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def short(digest: str) -> str:
    """Return the first 16 hex digits of a hash: enough to recognise one, too few to compare by."""
    return f"{digest[:16]}…" if len(digest) > 16 else digest


def _console() -> Console:
    # A pipe has no width of its own: rows must not be folded there.
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


def _table(rows: Sequence[T], columns: Sequence[Column[T]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column.title, overflow="fold")
    for row in rows:
        table.add_row(
            *(
                Text(_cell(column.value(row)), style=column.style(row) if callable(column.style) else column.style)
                for column in columns
            )
        )
    return table


def _cell(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case datetime():
            return moment(value)
        case list() | tuple():
            return ", ".join(_cell(member) for member in value) or "-"
        case bytes():
            return value.hex()
        case dict():
            return ", ".join(f"{name}={_cell(member)}" for name, member in value.items())
    return str(value)
