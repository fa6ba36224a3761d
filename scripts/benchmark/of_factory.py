"""`scripts/bench factory`: what a station makes, on real parts, and all figures in one table."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console

from benchmark.factory_killed import Killed, make_killed
from benchmark.factory_pace import Pace, measure_paces
from benchmark.progress import saying
from benchmark.report import Line, fill

PARTS: Final = ("killed", "pace")


@dataclass(frozen=True, slots=True)
class Size:
    """devices: of the work order whose station is killed. pace: slots, and devices made with them."""

    devices: int = 1_000
    pace: tuple[tuple[int, int], ...] = ((1, 12), (4, 24), (16, 48))


QUICK: Final = Size(40, ((1, 2), (4, 4)))
"""Everything once, for whoever wants to know whether it runs: no figure of it means anything."""


@dataclass(slots=True)
class FactoryFigures:
    """What was measured; None, and nothing, for a part that was not run."""

    killed: Killed | None = None
    pace: list[Pace] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the object that --json prints: a key for each part that was run."""
        told: dict[str, Any] = {}
        if (killed := self.killed) is not None:
            told["killed"] = {
                "devices": killed.devices,
                "kills": killed.kills,
                "born": killed.born,
                "twice": killed.twice,
                "lost": killed.lost,
                "per_minute": round(killed.per_minute, 1),
            }
        if self.pace:
            told["pace"] = {str(pace.slots): round(pace.per_minute, 1) for pace in self.pace}
        return told


def lines(figures: FactoryFigures) -> list[Line]:
    """Return what the table shows, in its order."""
    told: list[Line] = []
    if (killed := figures.killed) is not None:
        what = f"killed: {killed.devices:,} devices, the station killed {killed.kills} times"
        told += [
            Line(f"{what}: born", killed.born, "", places=0, least=killed.devices),
            Line("killed: there twice", killed.twice, "", 0.0, 0),
            Line("killed: orphans", killed.lost, "", 0.0, 0),
            Line("killed: TPMs in software", killed.per_minute, "/min", places=0),
        ]
    told += [
        Line(f"pace: {pace.slots} slots, {pace.devices} devices, each an swtpm", pace.per_minute, "/min", places=0)
        for pace in figures.pace
    ]
    return told


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench factory",
        description="What a factory's station makes. Without a part: all of them, some five minutes.",
        epilog='docs/benchmarks.md, "The factory", says what each figure is and what it is to be.',
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of: {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else on stdout")
    parser.add_argument("--quick", action="store_true", help="a small order: under a minute, and no figure that counts")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    figures = measure(options.parts or PARTS, QUICK if options.quick else Size())
    if options.json:
        print(json.dumps(figures.as_json()))
    else:
        Console(highlight=False).print(fill("The factory", lines(figures)))
    return 0


def measure(parts: Sequence[str], size: Size) -> FactoryFigures:
    """Run the parts, each shown on stderr while it runs."""
    figures = FactoryFigures()
    if "killed" in parts:
        with saying("killed") as say:
            figures.killed = make_killed(size.devices, say)
    if "pace" in parts:
        with saying("pace") as say:
            figures.pace = measure_paces(size.pace, say)
    return figures
