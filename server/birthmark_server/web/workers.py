"""The hop from the event loop to a worker thread and back, for many requests at a time.

A worker takes what has gathered while it was busy, does it, and hands all answers back in one go, after one commit for
all that was written (Store.together). So a busy server waits less often for its disk, wakes its loop less often, and
its threads fight less for the interpreter; an idle one takes requests one by one.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final, TypeVar

T = TypeVar("T")

MOST_AT_ONCE: Final = 32


@dataclass(frozen=True, slots=True)
class _Job:
    work: Callable[[], Any]
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class _Outcome:
    job: _Job
    result: Any = None
    error: Exception | None = None


class Workers:
    """`threads` worker threads from `with` until its end. together: entered by a worker around each batch; what it
    raises at its end is everybody's answer."""

    def __init__(self, threads: int, *, together: Callable[[], AbstractContextManager[object]]) -> None:
        self._together = together
        self._loop = asyncio.get_running_loop()
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads = [threading.Thread(target=self._serve, name=f"work_{number}") for number in range(threads)]

    def __enter__(self) -> "Workers":
        """Start."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        """Finish what is queued, then end."""
        for _thread in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def run(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Have `work` done; the future is settled when all that it wrote is on the disk."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Job(work, future))
        return future

    def _serve(self) -> None:
        while (first := self._queue.get()) is not None:
            outcomes = self._do(self._gather(first))
            self._loop.call_soon_threadsafe(_settle, outcomes)

    def _gather(self, first: _Job) -> list[_Job]:
        """Return `first` and this worker's share of what waits."""
        jobs = [first]
        share = min(self._queue.qsize() // len(self._threads), MOST_AT_ONCE - 1)
        while len(jobs) <= share and not self._queue.empty():
            job = self._queue.get()
            if job is None:  # the end: it is the next thing for this thread to hear of, too
                self._queue.put(None)
                break
            jobs.append(job)
        return jobs

    def _do(self, jobs: list[_Job]) -> list[_Outcome]:
        try:
            with self._together():
                return [_try(job) for job in jobs]
        except Exception as error:  # noqa: BLE001 - nothing was written, and each of them is to hear that
            return [_Outcome(job, error=error) for job in jobs]


def _try(job: _Job) -> _Outcome:
    try:
        return _Outcome(job, job.work())
    except StopIteration as error:  # no future takes one
        return _Outcome(job, error=_bug(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the asker's
        return _Outcome(job, error=error)
    except BaseException as error:  # noqa: BLE001 - a panic in Rust is one, and must end neither thread nor server
        return _Outcome(job, error=_bug(error))


def _bug(error: BaseException) -> Exception:
    bug = RuntimeError(f"a request ended by {type(error).__name__}: {error}")
    bug.__cause__ = error
    return bug


def _settle(outcomes: list[_Outcome]) -> None:
    for outcome in outcomes:
        future = outcome.job.future
        if future.done():  # its connection is gone
            continue
        if outcome.error is None:
            future.set_result(outcome.result)
        else:
            future.set_exception(outcome.error)
