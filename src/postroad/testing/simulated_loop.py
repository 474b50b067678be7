"""An event loop whose clock jumps: nobody waits for a timer, and every run is the same.

Owns: the loop's time. Does not own: the wall clock (fake_clock.py), threads (inline_threads.py). Whatever the loop
would sleep for has passed when it asks; sockets are looked at without waiting.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

DEADLOCK = "nothing is left to happen, and the work is not done: a deadlock"


class SimulatedLoop(asyncio.SelectorEventLoop):
    """A loop that starts at 0 and jumps to its next timer."""

    def __init__(self) -> None:
        self._simulated = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._simulated

    def jump(self, seconds: float) -> None:
        self._simulated += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: SimulatedLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        if not events:
            if timeout is None:
                raise RuntimeError(DEADLOCK)
            self._loop.jump(timeout)
        return events


def run_simulated(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in simulated time. Raises RuntimeError where nothing could ever happen any more."""
    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(work)


async def passes(seconds: float) -> None:
    """Return when so much simulated time has passed. Not for a loop whose time is real: that would be sleeping."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SimulatedLoop)
    passed: asyncio.Future[None] = loop.create_future()
    timer = loop.call_later(seconds, passed.set_result, None)
    try:
        await passed
    finally:
        timer.cancel()
