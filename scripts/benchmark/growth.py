"""Does an enrollment cost more when many devices are on record?

Two servers, one with 1,000 devices in its database and one with 100,000, take turns: whatever else the machine does
meets both. The rows are those of a real device, copied in bulk (bulk.py), evidence and all.
"""

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Final

from benchmark import bulk, fleet
from benchmark.server_cost import WARM_UP, cpu_per_enrollment_ms
from support.server import Installation, Server

FEW: Final = 1_000
MANY: Final = 100_000
_ROUNDS: Final = 5


def enroll_growth(per_round: int, say: Callable[[str], None]) -> float:
    """Return the server's CPU per enrollment with MANY devices over that with FEW."""
    with ExitStack() as stack:
        pairs = []
        for devices in (FEW, MANY):
            site = stack.enter_context(fleet.installation())
            say(f"a database with {devices:,} devices")
            bulk.fill(site, devices)
            mine = iter(fleet.listed(site, WARM_UP + per_round * _ROUNDS))
            server = stack.enter_context(site.start(extra=fleet.NO_LIMITS))
            cpu_per_enrollment_ms(server, site, _take(mine, WARM_UP))
            pairs.append((site, server, mine))
        ratios = []
        for turn in range(_ROUNDS):
            say(f"round {turn + 1} of {_ROUNDS}: {per_round} enrollments at each")
            few, many = (_cpu(server, site, _take(mine, per_round)) for site, server, mine in pairs)
            ratios.append(many / few)
    return statistics.median(ratios)


_cpu: Final[Callable[[Server, Installation, list[fleet.BenchDevice]], float]] = cpu_per_enrollment_ms


def _take(devices: Iterator[fleet.BenchDevice], count: int) -> list[fleet.BenchDevice]:
    return [next(devices) for _ in range(count)]
