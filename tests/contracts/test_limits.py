"""The contract of core.faces.Limits: one process by itself, a worker of several, and two workers that take turns.

The time is an argument, so the fake is the real thing. With two workers each call goes to the other one: what holds for
one must hold over both.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from tests.contracts.streams import run
from tests.units.ledger_world import LedgerWorld

from postroad.core.faces import Rate
from postroad.ledger.local import LocalLimits


class Time:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class Turns:
    """Limits whose calls go to several workers in turn; a connection is given back by who took it."""

    def __init__(self, clients) -> None:
        self._clients = clients
        self._turn = 0
        self._takers = {}

    def _next(self):
        self._turn += 1
        return self._clients[self._turn % len(self._clients)]

    async def take_connection(self, key, most):
        client = self._next()
        taken = await client.take_connection(key, most)
        if taken:
            self._takers.setdefault(key, []).append(client)
        return taken

    def give_connection(self, key):
        takers = self._takers.get(key) or [self._next()]
        takers.pop().give_connection(key)

    async def take_tokens(self, key, rate, tokens=1):
        return await self._next().take_tokens(key, rate, tokens)


@asynccontextmanager
async def local(path, time):
    yield LocalLimits(time)


@asynccontextmanager
async def one_worker(path, time):
    async with LedgerWorld(path, workers=1, time=time) as world:
        yield world.clients[0]


@asynccontextmanager
async def two_workers(path, time):
    async with LedgerWorld(path, workers=2, time=time) as world:
        yield Turns(world.clients)


@pytest.fixture(params=[local, one_worker, two_workers], ids=["local", "one-worker", "two-workers"])
def play(request, tmp_path):
    def player(work):
        async def played():
            time = Time()
            async with request.param(tmp_path, time) as limits:
                await work(limits, time)

        run("uvloop", played())

    return player


async def take_soon(limits, key, most):
    """Take one that was given back just now: another worker hears of that a moment later."""
    async with asyncio.timeout(5):
        while not await limits.take_connection(key, most):
            await asyncio.sleep(0)


def test_so_many_connections_and_no_more(play):

    async def work(limits, time):
        assert [await limits.take_connection("in:192.0.2.1", 2) for _ in range(4)] == [True, True, False, False]
        assert await limits.take_connection("in:192.0.2.2", 2)
        limits.give_connection("in:192.0.2.1")
        await take_soon(limits, "in:192.0.2.1", 2)
        assert not await limits.take_connection("in:192.0.2.1", 2)

    play(work)


def test_a_limit_may_change_while_connections_are_open(play):

    async def work(limits, time):
        for _ in range(3):
            await limits.take_connection("k", 3)
        assert not await limits.take_connection("k", 2)
        assert await limits.take_connection("k", 4)

    play(work)


def test_giving_back_what_was_not_taken_is_a_bug(play):

    async def work(limits, time):
        await limits.take_connection("k", 1)
        limits.give_connection("k")
        with pytest.raises(RuntimeError, match="nobody had taken"):
            limits.give_connection("k")

    play(work)


def test_tokens_run_out_and_the_wait_is_told(play):
    rate = Rate(10, 60)

    async def work(limits, time):
        assert [await limits.take_tokens("k", rate) for _ in range(10)] == [0.0] * 10
        wait = await limits.take_tokens("k", rate)
        assert 55 < wait <= 66
        assert await limits.take_tokens("other", rate) == 0.0
        time.now += wait / 2
        assert await limits.take_tokens("k", rate) > 0
        time.now += wait / 2 + 0.001
        assert await limits.take_tokens("k", rate) == 0.0

    play(work)


def test_several_tokens_are_taken_together_or_not_at_all(play):
    rate = Rate(10, 60)

    async def work(limits, time):
        assert await limits.take_tokens("k", rate, 8) == 0.0
        assert await limits.take_tokens("k", rate, 3) > 0
        assert await limits.take_tokens("k", rate, 2) == 0.0
        assert await limits.take_tokens("k", rate, 1) > 0

    play(work)


def test_more_tokens_than_there_ever_are_pass_when_nothing_else_is_used(play):

    async def work(limits, time):
        assert await limits.take_tokens("k", Rate(10, 60), 25) == 0.0
        assert await limits.take_tokens("k", Rate(10, 60), 25) > 0

    play(work)
