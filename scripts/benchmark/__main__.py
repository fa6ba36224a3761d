"""`python -m benchmark`, as scripts/bench runs it."""

import argparse
import json
import signal
import sys
from typing import Final, get_args

from rich.console import Console

from benchmark import device_cost, growth, of_factory, of_fleet, server_cost
from benchmark.progress import saying
from benchmark.report import Figures, RenewFront, table
from support.front import Program

SECTIONS: Final = ("enroll", "renew", "renew_front", "handshake", "agent", "growth")


def main() -> int:
    """Measure what was asked for and print it; 0 unless something could not be measured."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that everything is stopped
    if sys.argv[1:2] == ["fleet"]:
        return of_fleet.main(sys.argv[2:])
    if sys.argv[1:2] == ["factory"]:
        return of_factory.main(sys.argv[2:])
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="What the server and the agent cost here, on real parts. Without a section: all of them. "
        "`scripts/bench fleet` and `scripts/bench factory` are benches of their own: see their --help.",
        epilog="docs/benchmarks.md says what each figure is, what it is to be, and what it was where.",
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"any of: {', '.join(SECTIONS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object, and nothing else on stdout")
    parser.add_argument("--count", type=int, default=600, metavar="N", help="enrollments and renewals (default 600)")
    parser.add_argument("--front", choices=get_args(Program), default="nginx", help="of renew_front (default nginx)")
    options = parser.parse_args()
    if unknown := set(options.sections) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    if options.count < 100:
        parser.error("--count: want at least 100, or a 99th percentile means nothing")
    figures = measure(options.sections or SECTIONS, options.count, options.front)
    if options.json:
        print(json.dumps(figures.as_json()))
    else:
        Console(highlight=False).print(table(figures))
    return 0


def measure(sections: list[str] | tuple[str, ...], count: int, front: Program) -> Figures:
    """Run the sections, each shown on stderr while it runs."""
    figures = Figures()
    for section in SECTIONS:
        if section not in sections:
            continue
        with saying(section) as say:
            match section:
                case "enroll":
                    figures.enroll = server_cost.enroll(count, say)
                case "renew":
                    figures.renew = server_cost.renew(count, say)
                case "renew_front":
                    figures.renew_front = RenewFront(front, server_cost.renew(count, say, front=front))
                case "handshake":
                    figures.handshake = device_cost.handshake(100, say)
                case "agent":
                    figures.agent = device_cost.agent(5, say)
                case "growth":
                    figures.growth = growth.enroll_growth(count // 5, say)
    return figures


if __name__ == "__main__":
    sys.exit(main())
