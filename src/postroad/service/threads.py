"""The Threads face on real threads: a small pool, and a thread of its own for each lane.

Owns: the threads. The house makes one ``WorkerThreads`` a worker and closes it last. Does not own: what runs in them.
Passes tests/contracts/test_threads.py, as do the fakes of testing/threads.py.

A lane's thread is fed by a queue of our own: a ThreadPoolExecutor makes two futures and a chain of callbacks for each
call, which is as dear as the whole of a small commit.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")

POOL_THREADS: Final = max(2, min(4, len(os.sched_getaffinity(0))))
"""Body files, hashes, directory syncs: work that waits for the disk more than for a core."""

_Work = Callable[[], None]


class WorkerThreads:
    """Threads that start when first needed. All calls from the loop's thread."""

    def __init__(self, pool_threads: int = POOL_THREADS) -> None:
        self._pool_threads = pool_threads
        self._pool: _Crew | None = None
        self._lanes: dict[str, _Crew] = {}

    def run_blocking(self, work: Callable[..., T], *arguments: object, lane: str = "") -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = work(*arguments)
            except BaseException as error:  # noqa: BLE001 - it is raised where the future is awaited
                _tell(loop, _fail, future, error)
            else:
                _tell(loop, _finish, future, result)

        self._crew(lane).put(run)
        return future

    def close(self) -> None:
        """Let the threads finish what they have and end. Waits for them."""
        crews = [*self._lanes.values(), *([self._pool] if self._pool else [])]
        self._lanes, self._pool = {}, None
        for crew in crews:
            crew.close()

    def _crew(self, lane: str) -> _Crew:
        if lane:
            crew = self._lanes.get(lane)
            if crew is None:
                crew = self._lanes[lane] = _Crew(lane, 1)
            return crew
        if self._pool is None:
            self._pool = _Crew("pool", self._pool_threads)
        return self._pool


class _Crew:
    """Threads with one queue of work."""

    def __init__(self, name: str, threads: int) -> None:
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self.put = self._queue.put
        # Daemons: a disk that never answers must not keep the process from ending.
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            work()


def _tell(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *arguments: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(callback, *arguments)


def _finish(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
