"""What a renewal costs with PostgreSQL, in the servers' CPU and in the database's, with one server and with three.

EST re-enrollments on fresh mutual TLS connections, as `scripts/bench renew` does them on SQLite; devices go to the
servers in turns. PostgreSQL is durable (synchronous_commit, fsync) and runs on this machine too: its processes are
counted apart. On two cores three servers are no faster than one; whether each renewal costs more is what this is for.

    PYTHONPATH=../tests python -m benchmark.replicas [RENEWALS]      from scripts/, with .venv's Python
"""

import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from benchmark import fleet, load
from benchmark.server_cost import AT_ONCE, WARM_UP
from support.ports import free_port
from support.postgres import fresh_database, postgres_server
from support.server import Installation

RENEWALS: Final = 400
_SERVERS: Final = (1, 3)
_WORKERS: Final = "workers = 2"


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one renewal, in milliseconds of CPU; servers: of all of them together."""

    servers: int
    server_cpu_ms: float
    database_cpu_ms: float


def measure_replicas(renewals: int = RENEWALS) -> list[Cost]:
    """Measure so many renewals with each number of servers."""
    return [_measure(servers, renewals) for servers in _SERVERS]


def _measure(servers: int, renewals: int) -> Cost:
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres_server())
        url = stack.enter_context(fresh_database(cluster))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="birthmark-bench-")))
        site = stack.enter_context(Installation.create(folder, database_url=url))
        devices = fleet.renewing(site, max(renewals // 4, WARM_UP))
        running = [
            stack.enter_context(site.start(port=free_port(), extra=fleet.NO_LIMITS, server=_WORKERS))
            for _ in range(servers)
        ]
        ports = itertools.cycle([one.port for one in running])
        jobs = [fleet.renewal(next(ports), device) for device in itertools.islice(itertools.cycle(devices), renewals)]
        load.run(jobs[:WARM_UP], at_once=AT_ONCE, server_pids=[])
        database = _processes(Path(cluster.partition("host=")[2]))
        before = load.cpu_s(database)
        cost = load.run(jobs, at_once=AT_ONCE, server_pids=[one.process.pid for one in running])
        return Cost(servers, cost.server_cpu_ms, (load.cpu_s(database) - before) / len(jobs) * 1000)


def _processes(folder: Path) -> Sequence[int]:
    """PostgreSQL's own and those that serve a connection each, which the servers keep."""
    first = int((folder / "data" / "postmaster.pid").read_text().split()[0])
    return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text().split())]


if __name__ == "__main__":
    print(json.dumps([asdict(cost) for cost in measure_replicas(*map(int, sys.argv[1:]))], indent=2))
