"""Devices in other processes, so many at a time, each on fresh connections; and the server's CPU meanwhile."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
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


def run(
    jobs: Sequence[Job], *, at_once: int, server_pids: Sequence[int], beside: Callable[[], object] = lambda: None
) -> Load:
    """Do each job once, `at_once` at a time over PROCESSES processes; a job that fails ends the run.

    The jobs are made before and reach the load processes by fork, so making devices costs the measured time nothing.
    beside: done by this process meanwhile.
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
    beside()
    spent_ms = [ms for receiver, _ in answers for ms in _received(receiver)]
    wall_s, cpu = time.perf_counter() - began, cpu_s(server_pids) - cpu_before
    for worker in workers:
        worker.join()
    cuts = statistics.quantiles(spent_ms, n=100)
    return Load(
        per_s=len(jobs) / wall_s,
        p50_ms=statistics.median(spent_ms),
        p99_ms=cuts[98],
        server_cpu_ms=cpu / len(jobs) * 1000,
    )


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
