"""Devices in other processes, so many at a time, each on fresh connections; and the server's CPU meanwhile."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

Job = Callable[[], object]

PROCESSES = 2
"""Load processes. The machine has two cores; one process would be the bottleneck itself."""


class JobFailed(RuntimeError):
    """A job of the load raised; the message is what it raised."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a load measured. Times are the client's, CPU is the server's, both in milliseconds."""

    per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_ms: float


def cpu_s(pids: Sequence[int]) -> float:
    """Return user and system CPU seconds that these processes have used so far, all their threads."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Stretch:
    """One uninterrupted piece of a load: each job's time, and wall time and server CPU of all."""

    spent_ms: tuple[float, ...]
    wall_s: float
    server_cpu_s: float


def run(jobs: Sequence[Job], *, at_once: int, server_pids: Sequence[int]) -> Load:
    """Do each job once, `at_once` at a time over PROCESSES processes; a job that fails ends the run."""
    return summary([stretch(jobs, at_once=at_once, server_pids=server_pids)])


def stretch(jobs: Sequence[Job], *, at_once: int, server_pids: Sequence[int]) -> Stretch:
    """Do these jobs; for a load with something else between its stretches.

    The jobs are made before and reach the load processes by fork, so making devices costs the measured time nothing.
    """
    context = multiprocessing.get_context("fork")
    shares = [jobs[start::PROCESSES] for start in range(PROCESSES)]
    answers = [context.Pipe(duplex=False) for _ in shares]
    cpu_before, began = cpu_s(server_pids), time.perf_counter()
    workers = [
        context.Process(target=_work, args=(share, at_once // PROCESSES, sender))
        for share, (_, sender) in zip(shares, answers, strict=True)
    ]
    for worker in workers:
        worker.start()
    for _, sender in answers:
        sender.close()  # so that a worker's death ends recv() below
    spent_ms = tuple(ms for receiver, _ in answers for ms in _received(receiver))
    wall_s, cpu = time.perf_counter() - began, cpu_s(server_pids) - cpu_before
    for worker in workers:
        worker.join()
    return Stretch(spent_ms, wall_s, cpu)


def summary(stretches: Sequence[Stretch]) -> Load:
    """Return what all of them together measured."""
    spent_ms = [ms for each in stretches for ms in each.spent_ms]
    return Load(
        per_s=len(spent_ms) / sum(each.wall_s for each in stretches),
        p50_ms=statistics.median(spent_ms),
        p99_ms=statistics.quantiles(spent_ms, n=100)[98],
        server_cpu_ms=sum(each.server_cpu_s for each in stretches) / len(spent_ms) * 1000,
    )


@contextmanager
def neighbour(job: Job) -> Iterator[None]:
    """Keep one other core as busy as a load keeps it: a process that does this job over and over."""
    worker = multiprocessing.get_context("fork").Process(target=_for_ever, args=(job,), daemon=True)
    worker.start()
    try:
        yield
    finally:
        worker.kill()
        worker.join()


def _for_ever(job: Job) -> None:
    while True:
        job()


def _received(answer: "Connection[object, list[float] | str]") -> list[float]:
    told = answer.recv()
    if isinstance(told, str):
        raise JobFailed(told)
    return told


def _work(jobs: Sequence[Job], at_once: int, answer: "Connection[list[float] | str, object]") -> None:
    """In the forked child: do the jobs, tell how long each took, or why one failed."""

    def timed(job: Job) -> float:
        began = time.perf_counter()
        job()
        return (time.perf_counter() - began) * 1000

    with ThreadPoolExecutor(at_once) as threads:
        try:
            answer.send(list(threads.map(timed, jobs)))
        except Exception as error:  # noqa: BLE001 - for the parent to raise
            answer.send(repr(error))
    answer.close()
