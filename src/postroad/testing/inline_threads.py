"""The Threads face without threads: work runs on the loop, in a later turn of it, always in the same order.

Owns: the order. Does not own: time: work takes none. For the simulation, and for tests that must repeat themselves.
Passes tests/contracts/test_threads.py, as service/threads.py does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class InlineThreads:
    """One turn of the loop for each piece of work."""

    def run_blocking(self, work: Callable[..., T], *arguments: object, lane: str = "") -> asyncio.Future[T]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()

        def run() -> None:
            try:
                result = work(*arguments)
            except Exception as error:  # noqa: BLE001 - it is raised where the future is awaited
                if not future.done():
                    future.set_exception(error)
            else:
                if not future.done():
                    future.set_result(result)

        loop.call_soon(run)
        return future

    def close(self) -> None:
        """There are no threads to end."""
