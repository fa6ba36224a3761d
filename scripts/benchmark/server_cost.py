"""Enrollment and renewal: what one costs the server, in CPU."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark import bare, fleet, load
from support.front import Program, running_front
from support.server import Installation, Server

AT_ONCE = 8
STRETCHES = 6
"""Of enrollments, with the floor measured after each: what the machine is slowed by for a while slows both alike."""
WARM_UP = 24
"""Requests before the measured ones: statements get compiled, certificates of the CAs parsed."""


@dataclass(frozen=True, slots=True)
class Enroll:
    """See docs/benchmarks.md for each figure."""

    load: load.Load
    floor: bare.Floor

    @property
    def crypto_ms(self) -> float:
        """The bare cryptography of one enrollment."""
        return sum(operation.cpu_us * operation.times for operation in self.floor) / 1000

    @property
    def cpu_over_crypto(self) -> float:
        """How much the server adds to what no server could spare."""
        return self.load.server_cpu_ms / self.crypto_ms


def enroll(count: int, say: Callable[[str], None]) -> Enroll:
    """Measure `count` attested enrollments on fresh connections, and the floor between stretches of them."""
    with fleet.installation() as site:
        say(f"making {count + WARM_UP} software TPMs")
        devices = fleet.listed(site, count + WARM_UP)
        with site.start(extra=fleet.NO_LIMITS) as server:
            context, connection = fleet.client_context(site), bare.Connection(site.pki)
            jobs = [fleet.enrollment(server, device, context) for device in devices]
            load.run(jobs[:WARM_UP], at_once=AT_ONCE, server_pids=[])
            say(f"{count} enrollments, {AT_ONCE} at a time, in {STRETCHES} stretches")
            stretches: list[load.Stretch] = []
            floors: list[bare.Floor] = []
            for start in range(STRETCHES):
                some = jobs[WARM_UP + start :: STRETCHES]
                stretches.append(load.stretch(some, at_once=AT_ONCE, server_pids=[server.process.pid]))
                with load.neighbour(connection.run):
                    floors.append(bare.enrollment_floor(connection))
    return Enroll(load.summary(stretches), bare.mean(floors))


def renew(count: int, say: Callable[[str], None], *, front: Program | None = None) -> load.Load:
    """Measure `count` EST re-enrollments over fresh mutual TLS. front: what they go through, its CPU included."""
    with fleet.installation() as site, TemporaryDirectory(prefix="birthmark-front-") as folder:
        say(f"making {count} devices with operational certificates")
        devices = fleet.renewing(site, max(count // 2, AT_ONCE))
        with _served(site, Path(folder), front) as (port, pids):
            jobs = [fleet.renewal(port, device) for device in devices]
            load.run(jobs[:WARM_UP], at_once=AT_ONCE, server_pids=[])
            say(f"{count} renewals, {AT_ONCE} at a time")
            measured = list(itertools.islice(itertools.cycle(jobs), count))
            return load.run(measured, at_once=AT_ONCE, server_pids=pids)


@contextmanager
def _served(site: Installation, folder: Path, program: Program | None) -> Iterator[tuple[int, Sequence[int]]]:
    socket = folder / "front.sock"
    extra = f'{fleet.NO_LIMITS}[front]\nlisten = "{socket}"\n' if program else fleet.NO_LIMITS
    with site.start(extra=extra) as server:
        if not program:
            yield server.port, [server.process.pid]
            return
        with running_front(folder, site, socket=socket, program=program) as front:
            yield front.port, [server.process.pid, *front.pids]


def cpu_per_enrollment_ms(server: Server, site: Installation, devices: Sequence[fleet.BenchDevice]) -> float:
    """Return the server's CPU of one of these enrollments, in milliseconds."""
    context = fleet.client_context(site)
    jobs = [fleet.enrollment(server, device, context) for device in devices]
    return load.run(jobs, at_once=AT_ONCE, server_pids=[server.process.pid]).server_cpu_ms
