"""A directory of facts for tests: those who write there, and reading back.

Owns: that scaffolding. Facts to write are in facts_world.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tests.units.facts_world import AT

from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId
from postroad.core.units import DAY, GIB
from postroad.observe.segments import FactStore
from postroad.observe.stories import Skipped, read_story
from postroad.service.threads import WorkerThreads
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet


class Place:
    """A directory of facts, and those who write there."""

    def __init__(self, directory: Path, threads: WorkerThreads) -> None:
        self.directory = str(directory / "facts")
        self.threads = threads
        self.clock = FakeClock(AT)
        self.outlet = FakeOutlet()
        self.skipped = Skipped()

    @asynccontextmanager
    async def writing(self, writer: str = "0", disk_max: int = GIB) -> AsyncIterator[FactStore]:
        store = self.store(writer, disk_max)
        yield store
        await store.close()

    def store(self, writer: str = "0", disk_max: int = GIB) -> FactStore:
        store = FactStore(
            self.directory, writer, threads=self.threads, clock=self.clock, keep=30 * DAY, disk_max=disk_max
        )
        store.attach(self.outlet)
        return store

    async def write(self, told: Sequence[AnyFact], writer: str = "0") -> None:
        async with self.writing(writer) as store:
            store.take(told)

    async def read(self, wanted: MessageId | str, **more: object) -> list[AnyFact]:
        story = read_story(self.directory, wanted, self.threads, skipped=self.skipped, **more)  # type: ignore[arg-type]
        return [fact async for fact in story]

    def files(self) -> list[str]:
        return sorted(os.listdir(self.directory))
