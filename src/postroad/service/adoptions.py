"""The adoptions of one worker: all shards that it takes over, and what of them is not here yet.

Owns: running them beside each other, ending them, what whoever steers asks: which shards are still on their way, and
waiting until none is. Does not own: one adoption (shards.py), which shards these are (kennel.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Protocol


class OneAdoption(Protocol):
    """What is needed of shards.Adoption."""

    number: int
    is_here: bool
    """True once all that the shard held is in ours."""

    async def settled(self) -> None:
        """Return when that is so, or when it is given up."""

    async def run(self) -> int:
        """Take the shard over, and try again until it is gone."""


class Adoptions:
    """``Adopting`` of outbound/adopting.py. Before ``start`` all are on their way."""

    def __init__(self, adoptions: Iterable[OneAdoption]) -> None:
        self._adoptions = tuple(adoptions)
        self.tasks: list[asyncio.Task[int]] = []

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self.tasks += [loop.create_task(one.run(), name="adoption") for one in self._adoptions]

    async def stop(self) -> None:
        """What is moved is moved; the rest stays for the next start."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def missing(self) -> tuple[int, ...]:
        """Return the numbers of the shards of which something may not be in ours."""
        return tuple(sorted(one.number for one in self._adoptions if not one.is_here))

    async def wait(self, seconds: float) -> None:
        """Return when nothing is on its way any more, or after so long."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for one in self._adoptions:
                    await one.settled()
