"""What the person sees: a live table in a terminal, plain lines anywhere else, or one JSON object at the end."""

import io
import json
import re
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from demo_story.evidence import Progress

_MOST_ROWS: Final = 24
_WIDE: Final = 110
"""From this width on each cell has room for its word of evidence."""


class Screen:
    """Tells the story. kind: `live`, `lines` or `json`.

    interrupted: whether a signal asked for the end. Nothing more is told then: KeyboardInterrupt, once more, where the
    first one got lost on its way (Python drops what is raised in a destructor or a C library's callback).
    """

    def __init__(self, *, as_json: bool, interrupted: Callable[[], bool] = lambda: False) -> None:
        self._interrupted = interrupted
        self.console = Console(highlight=False)
        self.kind = "json" if as_json else "live" if self.console.is_terminal else "lines"
        self._began_s = time.monotonic()
        self._live: Live | None = None
        self._told: set[tuple[str, str]] = set()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the story began."""
        return time.monotonic() - self._began_s

    def chapter(self, title: str) -> None:
        """Begin a part of the story."""
        self._print(Text.assemble((f"{self.elapsed_s:5.1f} s  ", "dim"), (title, "bold")))

    def command(self, line: str) -> None:
        """Show a command that is run now."""
        self._print(Text(f"         $ {line}", style="dim"))

    def remark(self, text: str) -> None:
        """Say something in passing."""
        self._print(Text(f"         {text}".rstrip()))

    @property
    def wide(self) -> bool:
        """Whether there is room for each word of evidence."""
        return self.kind != "live" or self.console.width >= _WIDE

    def devices(self, stack: ExitStack) -> None:
        """Show the devices from now on, until `stack` is closed."""
        if self.kind == "live":
            self._live = stack.enter_context(Live(console=self.console, refresh_per_second=10, transient=True))

    def draw(self, shown: RenderableType) -> None:
        """Show this in place of what was drawn last, in a terminal only."""
        self.heed()
        if self._live is not None:
            self._live.update(shown)

    def line(self, text: str) -> None:
        """Say what is drawn in a terminal, where there is none."""
        self.heed()
        if self.kind == "lines":
            print(f"{self.elapsed_s:5.1f} s  {text}", flush=True)

    def update(self, progress: Sequence[Progress]) -> None:
        """Show what is new."""
        self.draw(table(progress, wide=self.wide))
        for one in progress:
            for stage, (after_s, word) in one.reached.items():
                if (one.device.device_id, stage) not in self._told:
                    self._told.add((one.device.device_id, stage))
                    self.line(f"{one.device.device_id}: {stage} after {after_s:.2f} s ({word})")

    def end(self, shown: Group, told: dict[str, object], *, next_steps: Sequence[tuple[str, str]]) -> None:
        """Show how it ended: to a person, or as one JSON object."""
        if self.kind == "json":
            print(json.dumps(told, indent=2))
        elif self.kind == "lines":
            for line in _plain(shown):
                self._print(Text(line))
            self._print(steps(next_steps))
        else:
            self.console.print(shown)
            self.console.print(steps(next_steps), soft_wrap=True)

    def error(self, text: str) -> None:
        """Say what went wrong."""
        Console(stderr=True, highlight=False).print(Text(text, style="red"), soft_wrap=True)

    def heed(self) -> None:
        """Raise KeyboardInterrupt if a signal asked for the end: whoever waits calls this at each look."""
        if self._interrupted():
            raise KeyboardInterrupt

    def _print(self, text: Text | Group) -> None:
        self.heed()
        if self.kind != "json":
            self.console.print(text, soft_wrap=True)


def table(progress: Sequence[Progress], *, rows: int = _MOST_ROWS, wide: bool = True) -> Table:
    """Return the table of devices: the last ones to finish first where there are too many to show."""
    shown = sorted(progress, key=lambda one: one.done)[:rows] if len(progress) > rows else list(progress)
    grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    grid.add_column("device")
    stages = progress[0].stages
    for stage in stages:
        grid.add_column(str(stage))
    for one in sorted(shown, key=lambda one: one.device.device_id):
        grid.add_row(
            Text(one.device.device_id, style="cyan"), *(_cell(one, number, wide=wide) for number in range(len(stages)))
        )
    if len(progress) > rows:
        done = sum(one.done for one in progress)
        grid.add_row(Text(f"... {done} of {len(progress)} are through", style="dim"))
    return grid


def ending(progress: Sequence[Progress], *, wall_s: float, rows: int = _MOST_ROWS, wide: bool = True) -> Group:
    """Return the last table and the line below it."""
    done = sum(one.done for one in progress)
    return Group(
        Text(),
        table(progress, rows=rows, wide=wide),
        Text(),
        Text.assemble(
            (f"{done} of {len(progress)} devices", "bold green" if done == len(progress) else "bold red"),
            " born, attested, certified, connected over mutual TLS and rotated in ",
            (f"{wall_s:.1f} s", "bold"),
        ),
    )


def steps(next_steps: Sequence[tuple[str, str]]) -> Group:
    """Return what to try next: what it does, and below it a command that can be pasted whole."""
    lines = [Text()]
    for what, command in next_steps:
        lines += [Text(f"# {what}", style="dim")] if what else []
        lines += [Text(command, style="cyan")]
    return Group(*lines)


def result(progress: Sequence[Progress], *, wall_s: float) -> dict[str, object]:
    """Return the end as one JSON object."""
    return {
        "devices": [
            {
                "device_id": one.device.device_id,
                "serial": one.device.serial,
                "model": one.device.model.name,
                "stages": {
                    stage.name.lower(): {"after_s": round(at, 3), "evidence": word}
                    for stage, (at, word) in one.reached.items()
                },
                "complete": one.done,
            }
            for one in progress
        ],
        "complete": all(one.done for one in progress),
        "wall_s": round(wall_s, 2),
    }


def save_picture(path: Path, shown: Group, *, command: str, chapters: Sequence[str]) -> None:
    """Write the end of the story as an SVG."""
    console = Console(record=True, width=118, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text(f"$ {command}", style="bold"))
    for line in chapters:
        console.print(Text(line, style="dim"))
    console.print(shown)
    # Without the fonts that rich would have a reader's browser fetch from elsewhere.
    own_fonts = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    path.write_text(console.export_svg(title="Birthmark", code_format=own_fonts))


def _plain(shown: Group) -> list[str]:
    """Return what a pipe or a file gets: as wide as it is, without blanks at the end."""
    console = Console(width=200, file=io.StringIO(), color_system=None)
    with console.capture() as captured:
        console.print(shown)
    return [line.rstrip() for line in captured.get().splitlines()]


def _cell(one: Progress, number: int, *, wide: bool) -> Text:
    stage = one.stages[number]
    if stage in one.reached:
        after_s, word = one.reached[stage]
        return Text.assemble(("✓ ", "green"), f"{after_s:5.2f} s ", (word if wide else "", "dim"), no_wrap=True)
    return Text("…" if number == len(one.reached) else "", style="yellow")
