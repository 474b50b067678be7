"""A ledger and its workers in one process, over a real Unix socket.

Owns: their life, and strangers that say what a test wants. ``restart`` is what a supervisor does: another ledger on
the same bound socket.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from pathlib import Path

from tests.world.waiting import soon

from postroad.ledger import wire
from postroad.ledger.client import LedgerClient
from postroad.ledger.server import LedgerServer
from postroad.net.local import bind_private
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.memory_records import MemoryRecords


async def passes(seconds: float) -> None:
    """Let time pass, on a loop where it takes none (testing/simulated_loop.py)."""
    await asyncio.sleep(seconds)


async def simulated(question: Callable[[], object], within: float = 30.0) -> None:
    """Return when the answer is true; also only on such a loop."""
    async with asyncio.timeout(within):
        while not question():
            await asyncio.sleep(0.01)


class LedgerWorld:
    """``async with``: all workers are connected within."""

    def __init__(self, path: Path, *, workers: int, time=None, records=None, reader=None, wait=soon) -> None:
        self.path = path / "ledger.sock"
        self.workers = workers
        self.clock = FakeClock()
        self.outlet = FakeOutlet()
        self.records = records or MemoryRecords(self.clock)
        self.reader = reader or self.records
        self.clients: list[LedgerClient] = []
        self._given_time = time
        self._wait = wait

    async def __aenter__(self) -> LedgerWorld:
        self.time = self._given_time or asyncio.get_running_loop().time
        self.bound = bind_private(self.path)
        self.bound.listen()
        await self.start_ledger()
        self.clients = [self.make_client(slot) for slot in range(self.workers)]
        await self.until_there()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        await self.server.close()
        self.bound.close()

    def make_client(self, slot: int) -> LedgerClient:
        client = LedgerClient(
            self.path,
            slot=slot,
            workers=self.workers,
            reader=self.reader,
            clock=self.clock,
            outlet=self.outlet,
            time=self.time,
        )
        client.start()
        return client

    async def start_ledger(self) -> None:
        self.server = LedgerServer(self.records, clock=self.clock, outlet=self.outlet, time=self.time)
        await self.server.start(self.bound)

    async def until_there(self) -> None:
        """Return when every worker hears the ledger and it has begun to answer."""
        await self._wait(lambda: all(client.is_there for client in self.clients))
        await self._wait(lambda: self.server._settled)

    async def until_away(self) -> None:
        await self._wait(lambda: not any(client.is_there for client in self.clients))

    def kill_client(self, number: int) -> None:
        """End a worker without a word, as SIGKILL does."""
        client = self.clients.pop(number)
        for task in client._link._tasks:
            task.cancel()
        if client._link._wire is not None:
            client._link._wire._ended = True
            client._link._wire._transport.abort()
        client._link.is_there = False

    async def kill_ledger(self) -> None:
        """End the ledger without a word."""
        for task in self.server._tasks:
            task.cancel()
        await asyncio.gather(*self.server._tasks, return_exceptions=True)
        self.server._listening.close()
        for peer in self.server._peers:
            peer.wire._ended = True
            peer.wire._transport.abort()
        await self.until_away()

    async def restart_ledger(self) -> None:
        await self.kill_ledger()
        await self.start_ledger()
        await self.until_there()


class Stranger:
    """A connection that says what a test wants."""

    def __init__(self) -> None:
        self.answers = []
        self.lost = []
        self.wire = wire.Wire(wire.ANSWERS, self.answers.extend, self.lost.append)

    def say(self, *values) -> None:
        for value in values:
            self.wire.say(value)

    def heard(self, kind):
        return [answer for answer in self.answers if isinstance(answer, kind)]


@asynccontextmanager
async def stranger(world):
    one = Stranger()
    await asyncio.get_running_loop().create_unix_connection(lambda: one.wire, str(world.path))
    try:
        yield one
    finally:
        one.wire.close()
