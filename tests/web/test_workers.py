"""Worker threads: each job's outcome is its own, and comes after the commit that its batch shares."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from birthmark_server.store.errors import StoreFailed
from birthmark_server.web.workers import Workers


@contextmanager
def nothing() -> Iterator[None]:
    yield


class Batches:
    """Counts the batches, and can make their commits fail."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = 0
        self.committed = 0
        self._error = error

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self.begun += 1
        yield
        if self._error is not None:
            raise self._error
        self.committed += 1


def run(
    jobs: list[Callable[[], object]],
    together: Callable[[], AbstractContextManager[object]] = nothing,
    *,
    threads: int = 1,
) -> list[object]:
    async def all_of_them() -> list[object]:
        with Workers(threads, together=together) as workers:
            return await asyncio.gather(*(workers.run(job) for job in jobs), return_exceptions=True)

    return asyncio.run(all_of_them())


def refuse() -> object:
    raise ValueError("refused")


def test_each_asker_gets_its_own_result_or_error() -> None:
    first, second, third = run([lambda: 1, refuse, lambda: 3])
    assert (first, third) == (1, 3)
    assert isinstance(second, ValueError)


def test_what_gathers_while_a_worker_is_busy_is_one_batch() -> None:
    busy, batches = threading.Event(), Batches()

    def wait() -> object:
        return busy.wait(10)

    async def story() -> list[object]:
        with Workers(1, together=batches) as workers:
            first = workers.run(wait)
            while batches.begun == 0:
                await asyncio.sleep(0.001)
            others = [workers.run(lambda: True) for _ in range(5)]
            busy.set()
            return await asyncio.gather(first, *others)

    assert asyncio.run(story()) == [True] * 6
    assert batches.committed == 2


def test_nobody_is_answered_before_the_commit() -> None:
    committed = threading.Event()

    @contextmanager
    def slow() -> Iterator[None]:
        yield
        assert committed.wait(10)

    async def story() -> object:
        with Workers(1, together=slow) as workers:
            future = workers.run(lambda: 1)
            await asyncio.sleep(0.02)
            assert not future.done()
            committed.set()
            return await future

    assert asyncio.run(story()) == 1


def test_a_commit_that_fails_is_everybodys_answer() -> None:
    outcomes = run([lambda: 1, refuse], Batches(StoreFailed("the disk is full")))
    assert [type(outcome) for outcome in outcomes] == [StoreFailed, StoreFailed]


def test_a_worker_goes_on_after_a_commit_that_failed() -> None:
    errors: list[Exception] = [StoreFailed("once")]

    @contextmanager
    def fails_once() -> Iterator[None]:
        yield
        if errors:
            raise errors.pop()

    async def story() -> object:
        with Workers(1, together=fails_once) as workers:
            with pytest.raises(StoreFailed):
                await workers.run(lambda: 1)
            return await workers.run(lambda: 2)

    assert asyncio.run(story()) == 2


def test_an_asker_that_is_gone_stops_nobody() -> None:
    async def story() -> object:
        with Workers(1, together=nothing) as workers:
            workers.run(lambda: 1).cancel()
            return await workers.run(lambda: 2)

    assert asyncio.run(story()) == 2


def test_the_end_waits_for_what_is_queued() -> None:
    done: list[int] = []

    async def story() -> None:
        with Workers(3, together=nothing) as workers:
            for number in range(50):
                workers.run(lambda number=number: done.append(number))  # type: ignore[misc]

    asyncio.run(story())
    assert sorted(done) == list(range(50))


class Panic(BaseException):
    """As `pyo3_runtime.PanicException`, by which a bug in the Rust of `cryptography` shows: no Exception."""


def panic() -> None:
    raise Panic("index out of bounds")


def test_a_panic_in_one_request_is_its_own_answer_and_ends_no_worker() -> None:
    async def story() -> list[object]:
        with Workers(1, together=nothing) as workers:
            async with asyncio.timeout(5):
                first = await asyncio.gather(*map(workers.run, (panic, lambda: 1)), return_exceptions=True)
                return [*first, await workers.run(lambda: 2)]

    first, *others = asyncio.run(story())
    assert isinstance(first, RuntimeError)
    assert isinstance(first.__cause__, Panic)
    assert others == [1, 2]


def test_an_exception_that_a_future_cannot_hold_keeps_nobody_waiting() -> None:
    async def story() -> list[object]:
        with Workers(1, together=nothing) as workers:
            async with asyncio.timeout(5):
                works = (lambda: next(iter(())), lambda: 1)
                return await asyncio.gather(*map(workers.run, works), return_exceptions=True)

    first, second = asyncio.run(story())
    assert isinstance(first, RuntimeError)
    assert second == 1
