"""The Threads face as callbacks with a simulated duration: a lane's work in order, other work side by side.

Owns: when blocking work is done and when its result is known. Does not own: how long it takes (chaos.py). The work is
done at one moment between begin and end, so a crash may fall between the doing and the knowing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from postroad.testing.sim.chaos import Chaos, place_of
from postroad.testing.sim.disk import ProcessDisk
from postroad.testing.sim.kernel import Process

T = TypeVar("T")


class SimThreads:
    """The threads of one process."""

    def __init__(self, process: Process, chaos: Chaos) -> None:
        self._process = process
        self._chaos = chaos
        self._free_at: dict[str, float] = {}

    def run_blocking(self, work: Callable[..., T], *arguments: object, lane: str = "") -> asyncio.Future[T]:
        loop = self._process.loop
        future: asyncio.Future[T] = loop.create_future()
        took, begin = self._chaos.seconds(), loop.time()
        if lane:
            begin = max(begin, self._free_at.get(lane, 0.0))
            self._free_at[lane] = begin + took
        asked_by = place_of(2) if isinstance(getattr(work, "__self__", None), ProcessDisk) else ""
        loop.call_at(begin + took * 0.7, self._run, future, begin + took, asked_by, work, arguments)
        return future

    def _run(
        self,
        future: asyncio.Future[T],
        ends: float,
        asked_by: str,
        work: Callable[..., T],
        arguments: tuple[object, ...],
    ) -> None:
        self._chaos.asked_by = asked_by
        try:
            result = work(*arguments)
        except Exception as error:  # noqa: BLE001 - it is raised where the future is awaited
            self._process.loop.call_at(ends, _fail, future, error)
        else:
            self._process.loop.call_at(ends, _finish, future, result)

    def close(self) -> None:
        """There are no threads to end."""


def _finish(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[T], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
