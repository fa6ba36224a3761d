"""`scripts/bench fleet`: campaigns, revocation, CRL and OCSP, each part on real parts, and all figures in one table."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from benchmark.campaign_growth import campaign_growth
from benchmark.crl import ENTRIES, measure_crl
from benchmark.cut import measure_cuts
from benchmark.fleet_report import FleetFigures, table
from benchmark.growth import FEW, MANY
from benchmark.ocsp import REQUESTS, measure_ocsp
from benchmark.progress import saying
from benchmark.rotate import rotate

PARTS: Final = ("rotate", "revoke", "growth", "crl", "ocsp")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything. per_turn, turns: devices of each fleet that rotate in one turn of `growth`."""

    devices: int = 10_000
    connected: int = 5_000
    revocations: int = 200
    few: int = FEW
    many: int = MANY
    per_turn: int = 220
    turns: int = 3
    crl_entries: int = ENTRIES
    ocsp_requests: int = REQUESTS


QUICK: Final = Size(60, 120, 8, 100, 600, 15, 1, 5_000, 200)
"""Everything once, for whoever wants to know whether it runs: no figure of it means anything."""


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench fleet",
        description="What a fleet costs from afar. Without a part: all of them, about a quarter of an hour.",
        epilog='docs/benchmarks.md, "The fleet", says what each figure is and what it is to be.',
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of: {', '.join(PARTS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else on stdout")
    parser.add_argument("--quick", action="store_true", help="a small fleet: under a minute, and no figure that counts")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    figures = measure(options.parts or PARTS, QUICK if options.quick else Size())
    if options.json:
        print(json.dumps(figures.as_json()))
    else:
        Console(highlight=False).print(table(figures))
    return 0


def measure(parts: Sequence[str], size: Size) -> FleetFigures:
    """Run the parts, each shown on stderr while it runs."""
    figures = FleetFigures()
    for part in PARTS:
        if part in parts:
            with saying(part) as say:
                _run(part, size, figures, say)
    return figures


def _run(part: str, size: Size, figures: FleetFigures, say: Callable[[str], None]) -> None:
    match part:
        case "rotate":
            figures.rotate = rotate(size.devices, say)
        case "revoke":
            figures.revoke = measure_cuts(size.connected, size.revocations, say)
        case "growth":
            figures.growth = campaign_growth(size.per_turn, size.turns, say, few=size.few, many=size.many)
        case "crl":
            say(f"{size.crl_entries:,} entries, ours and openssl's")
            figures.crl = measure_crl(size.crl_entries)
        case "ocsp":
            say(f"{size.ocsp_requests:,} requests each way")
            figures.ocsp = measure_ocsp(size.ocsp_requests)
