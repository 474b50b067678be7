"""The contract of core.faces.Limits. One process has one implementation, its own fake too: time is an argument."""

from __future__ import annotations

import asyncio

import pytest

from postroad.core.faces import Rate
from postroad.ledger.local import LocalLimits


class Time:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=[LocalLimits], ids=["local"])
def world(request):
    time = Time()
    return request.param(time), time


def test_so_many_connections_and_no_more(world):
    limits, _ = world

    async def work():
        assert [await limits.take_connection("in:192.0.2.1", 2) for _ in range(4)] == [True, True, False, False]
        assert await limits.take_connection("in:192.0.2.2", 2)
        limits.give_connection("in:192.0.2.1")
        assert await limits.take_connection("in:192.0.2.1", 2)
        assert not await limits.take_connection("in:192.0.2.1", 2)

    asyncio.run(work())


def test_a_limit_may_change_while_connections_are_open(world):
    limits, _ = world

    async def work():
        for _ in range(3):
            await limits.take_connection("k", 3)
        assert not await limits.take_connection("k", 2)
        assert await limits.take_connection("k", 4)

    asyncio.run(work())


def test_giving_back_what_was_not_taken_is_a_bug(world):
    limits, _ = world

    async def work():
        await limits.take_connection("k", 1)
        limits.give_connection("k")
        with pytest.raises(RuntimeError, match="nobody had taken"):
            limits.give_connection("k")

    asyncio.run(work())


def test_tokens_run_out_and_the_wait_is_told(world):
    limits, time = world
    rate = Rate(10, 60)

    async def work():
        assert [await limits.take_tokens("k", rate) for _ in range(10)] == [0.0] * 10
        wait = await limits.take_tokens("k", rate)
        assert 55 < wait <= 66
        assert await limits.take_tokens("other", rate) == 0.0
        time.now += wait / 2
        assert await limits.take_tokens("k", rate) > 0
        time.now += wait / 2 + 0.001
        assert await limits.take_tokens("k", rate) == 0.0

    asyncio.run(work())


def test_several_tokens_are_taken_together_or_not_at_all(world):
    limits, _ = world
    rate = Rate(10, 60)

    async def work():
        assert await limits.take_tokens("k", rate, 8) == 0.0
        assert await limits.take_tokens("k", rate, 3) > 0
        assert await limits.take_tokens("k", rate, 2) == 0.0
        assert await limits.take_tokens("k", rate, 1) > 0

    asyncio.run(work())


def test_more_tokens_than_there_ever_are_pass_when_nothing_else_is_used(world):
    limits, _ = world

    async def work():
        assert await limits.take_tokens("k", Rate(10, 60), 25) == 0.0
        assert await limits.take_tokens("k", Rate(10, 60), 25) > 0

    asyncio.run(work())
