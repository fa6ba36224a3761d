"""What a command prints: a table for a person, or with --json one array for a program.

Data goes to stdout, words to stderr. No value is ever cut or folded: where a table is wider than the terminal, each row
becomes a block of `name  value` lines. A pipe gets the table, without spaces at the ends of lines.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar

import typer
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
_GAP: Final = "  "

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


def counted(number: int, one: str) -> str:
    """Return `1 device`, `2 devices`. one: what has an s where there are more."""
    return f"{number} {one}{'' if number == 1 else 's'}"


def end_drawing(console: Console) -> None:
    """Call after a rich Live, which ends its last line on a terminal only."""
    if not console.is_terminal:
        console.print()


def show(items: Iterable[T], columns: Sequence[Column[T]], *, as_json: bool, empty: str) -> None:
    """Print all items. empty: the sentence for a person when there is none; it should say what to do next."""
    rows = list(items)
    if as_json:
        print_json([plain(item) for item in rows])
    elif rows:
        console = Console(highlight=False, soft_wrap=True)
        _print(layout(rows, columns, width=console.width if console.is_terminal else None), console)
    else:
        say(empty)


def show_one(item: object, *, as_json: bool) -> None:
    """Print one value, field by field, none of it cut."""
    fields = plain(item)
    if as_json:
        print_json(fields)
        return
    show_fields((name.replace("_", " "), value) for name, value in fields.items())


def heading(text: str) -> None:
    """Print a title between two parts of what a command shows, with a line of space above."""
    _print([Text(), Text(text, style="bold")], Console(highlight=False))


def show_fields(fields: Iterable[tuple[str, object]], *, indent: str = "") -> None:
    """Print a line for each name and value; several values of one name stand below each other."""
    _print(_block([(name, value, "") for name, value in fields], indent=indent), Console(highlight=False))


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
        case BaseModel():
            return value.model_dump(mode="json")
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


class Part(Protocol[T_co]):
    """One page of a listing, as web.api.views.Page. next: what the page after it begins behind; None at the end."""

    @property
    def items(self) -> Sequence[T_co]: ...

    @property
    def next(self) -> str | None: ...


def parts(fetch: Callable[[str, int], Part[T]], *, limit: int) -> Iterator[T]:
    """Yield up to `limit` items of a listing that a desk gives by pages: fetch(after, page_size). On a terminal, a line
    on stderr says how far it is as long as it takes."""
    after, read = "", 0
    with _counting() as count:
        while limit > read:
            page = fetch(after, min(limit - read, 500))
            yield from page.items
            read += len(page.items)
            if not page.next:
                return
            after = page.next
            count(read)


@contextmanager
def _counting() -> Iterator[Callable[[int], None]]:
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("reading") as status:
        yield lambda read: status.update(f"reading: {read} so far")


def moment(value: datetime | None) -> str:
    """Return a time as a person reads it, in UTC; `-` for none and `never` for the end of all times."""
    if value is None:
        return "-"
    return "never" if value.year == 9999 else value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def who(name: str) -> str:
    """Return who did something, as a person reads it: it may be from before names were kept."""
    return name or "unknown"


def short(digest: str) -> str:
    """Return the first 16 hex digits of a hash: enough to recognise one, too few to compare by."""
    return f"{digest[:16]}…" if len(digest) > 16 else digest


def layout(rows: Sequence[T], columns: Sequence[Column[T]], *, width: int | None) -> list[Text]:
    """Return the lines of a table, or of a block for each row where the table is wider than `width` cells."""
    cells = [[_lines(column.value(row)) for column in columns] for row in rows]
    flat = [[", ".join(lines) for lines in row] for row in cells]
    widths = [
        max(cell_len(text) for text in (column.title, *(row[place] for row in flat)))
        for place, column in enumerate(columns)
    ]
    if width is not None and sum(widths) + len(_GAP) * (len(widths) - 1) > width:
        blocks = [_block([(c.title, c.value(row), _style(c, row)) for c in columns]) for row in rows]
        return [line for block in blocks for line in (*block, Text())][:-1]
    lines = [_line([(column.title, "bold") for column in columns], widths)]
    for row, texts in zip(rows, flat, strict=True):
        styled = [(text, _style(column, row)) for column, text in zip(columns, texts, strict=True)]
        lines.append(_line(styled, widths))
    return lines


def _block(fields: Sequence[tuple[str, object, str]], *, indent: str = "") -> list[Text]:
    widest = max((cell_len(name) for name, _, _ in fields), default=0)
    lines = []
    for name, value, style in fields:
        for number, text in enumerate(_lines(value)):
            title = "" if number else name
            lines.append(Text.assemble(indent, (title + " " * (widest - cell_len(title)), "dim"), _GAP, (text, style)))
    return lines


def _line(cells: Sequence[tuple[str, str]], widths: Sequence[int]) -> Text:
    line = Text()
    for place, ((text, style), width) in enumerate(zip(cells, widths, strict=True)):
        last = place == len(widths) - 1
        line.append(text, style).append("" if last else " " * (width - cell_len(text)) + _GAP)
    line.rstrip()
    return line


def _print(lines: Iterable[Text], console: Console) -> None:
    for line in lines:
        line.rstrip()
        console.print(line, soft_wrap=True)


def _style(column: Column[T], row: T) -> str:
    return column.style(row) if callable(column.style) else column.style


def _lines(value: object) -> list[str]:
    """Return a value's text; of a list, one text for each member."""
    if isinstance(value, list | tuple) and value:
        return [_cell(member) for member in value]
    return [_cell(value)]


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
