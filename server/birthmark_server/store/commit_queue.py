"""Several transactions under one commit: what waits for the disk waits together.

SQLite has one writer at a time, and a commit is an fsync or two. Whoever comes while one is under way queues here; the
first to get the turn runs all that queue in one transaction, each behind a savepoint, and commits them with one fsync
of the journal and one of the database. Nobody is told anything before that.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from birthmark_server.store.errors import StoreFailed

Work = TypeVar("Work")

_MOST_AT_ONCE: Final = 64


class Job(Generic[Work]):
    """One piece of work and, once `done`, what came of it: a result or an error."""

    __slots__ = ("_error", "_result", "done", "work")

    def __init__(self, work: Work) -> None:
        self.work = work
        self.done = False
        self._result: object = None
        self._error: BaseException | None = None

    def succeed(self, result: object) -> None:
        self._result, self.done = result, True

    def fail(self, error: BaseException) -> None:
        self._error, self.done = error, True

    def finish(self, outcome: object) -> None:
        """Fail if `outcome` is an error, succeed otherwise."""
        if isinstance(outcome, BaseException):
            self.fail(outcome)
        else:
            self.succeed(outcome)

    def outcome(self) -> object:
        """Return the result or raise the error."""
        if self._error is not None:
            raise self._error
        return self._result


class CommitQueue(Generic[Work]):
    """Gives each batch of jobs to `run_all`, one batch at a time. `run_all` must leave every job done."""

    def __init__(self, run_all: Callable[[Sequence[Job[Work]]], None]) -> None:
        self._run_all = run_all
        self._waiting: deque[Job[Work]] = deque()
        self.turn = threading.Lock()

    def submit(self, work: Work) -> object:
        """Return what `work` returned, or raise what it raised, once its commit is on the disk."""
        job = Job(work)
        self._waiting.append(job)
        with self.turn:
            while not job.done:
                self._run_batch()
        return job.outcome()

    def _run_batch(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST_AT_ONCE))]
        try:
            self._run_all(batch)
        except BaseException as error:
            for job in batch:
                if not job.done:
                    job.fail(Interrupted(f"the commit was interrupted: {error!r}"))
            raise


class Interrupted(StoreFailed):
    """Another thread's interruption took the commit with it: nothing was written."""
