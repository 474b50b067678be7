"""The contract of the Threads face: real threads, and none."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from postroad.service.threads import WorkerThreads
from postroad.testing.inline_threads import InlineThreads

Either = WorkerThreads | InlineThreads


@pytest.fixture(params=[WorkerThreads, InlineThreads])
def threads(request: pytest.FixtureRequest) -> Iterator[Either]:
    made: Either = request.param()
    yield made
    made.close()


@pytest.fixture
def real_threads() -> Iterator[WorkerThreads]:
    made = WorkerThreads()
    yield made
    made.close()


def test_results_and_errors_come_back(threads: Either) -> None:
    async def work() -> None:
        assert await threads.run_blocking(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await threads.run_blocking(divmod, 1, 0)

    asyncio.run(work())


def test_a_lane_works_in_order_on_one_thread(threads: Either) -> None:
    seen: list[tuple[int, int]] = []

    async def work() -> None:
        await asyncio.gather(
            *(
                threads.run_blocking(lambda n=n: seen.append((n, threading.get_ident())), lane="writer")
                for n in range(50)
            )
        )

    asyncio.run(work())
    assert [number for number, _ in seen] == list(range(50))
    assert len({thread for _, thread in seen}) == 1
    assert (seen[0][1] != threading.get_ident()) == isinstance(threads, WorkerThreads)


def test_a_cancelled_wait_does_not_stop_the_work(threads: Either) -> None:
    done = list[int]()

    async def work() -> None:
        threads.run_blocking(done.append, 1, lane="writer").cancel()
        await threads.run_blocking(done.append, 2, lane="writer")

    asyncio.run(work())
    assert done == [1, 2]


def test_work_does_not_begin_before_the_call_returns(threads: Either) -> None:
    async def work() -> None:
        seen = list[str]()
        future = threads.run_blocking(lambda: 1)
        seen.append("called")
        future.add_done_callback(lambda _: seen.append("done"))
        await future
        await asyncio.sleep(0)
        assert seen == ["called", "done"]

    asyncio.run(work())


def test_a_cancelled_wait_does_not_stop_what_has_begun(real_threads: WorkerThreads) -> None:
    threads = real_threads
    begun, go, done = threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go.wait(10)
        done.set()

    async def work() -> None:
        future = threads.run_blocking(slow)
        await threads.run_blocking(begun.wait, 10)
        future.cancel()
        go.set()
        assert await threads.run_blocking(done.wait, 10)

    asyncio.run(work())
