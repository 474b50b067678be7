"""Rates and connections of a destination, over all workers: nobody above them, nobody else held up, nobody for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest
from tests.units.outbound_world import Receiver, World, run

from postroad.core.faces import Rate
from postroad.ledger.local import LocalLimits
from postroad.outbound.gate import LEASE_WAIT_MAX, LEASE_WAIT_MIN
from postroad.testing.simulated_loop import passes

LIMITED = """
[[route]]
to = "slow.example"
via = "smtp://192.0.2.1:1001"
[[route]]
to = "slow2.example"
via = "smtp://192.0.2.1:1002"
[[route]]
to = "fast.example"
via = "smtp://192.0.2.1:1003"
[[destination]]
domain = "slow.example"
connections = 3
rate = "20/s"
[[destination]]
domain = "slow2.example"
connections = 3
rate = "20/s"
"""
SLOW, SLOW2 = "to:smtp:192.0.2.1:1001@1", "to:smtp:192.0.2.1:1002@2"


class Watched(LocalLimits):
    """Counts what it is asked, and can want connections back."""

    def __init__(self, time: Callable[[], float]) -> None:
        super().__init__(time)
        self.asked: list[tuple[str, float]] = []
        self.tokens: list[int] = []
        self.listeners: list[Callable[[str], None]] = []

    async def take_connection(self, key: str, most: int) -> bool:
        self.asked.append((key, self._time()))
        await passes(0.001)  # as the ledger's answer takes
        return await super().take_connection(key, most)

    async def take_tokens(self, key: str, rate: Rate, tokens: int = 1) -> float:
        await passes(0.001)
        wait = await super().take_tokens(key, rate, tokens)
        self.tokens.append(0 if wait else tokens)
        return wait

    def on_wanted(self, listener: Callable[[str], None]) -> None:
        self.listeners.append(listener)

    def want(self, key: str) -> None:
        for listener in self.listeners:
            listener(key)

    def held(self, key: str) -> int:
        return self._connections.get(key, 0)


class Share:
    """What one of several workers sees of limits that hold for all: who is refused has others give back."""

    def __init__(self, all_: LocalLimits, others: list[Share]) -> None:
        self._all = all_
        self._others = others
        self._held: dict[str, int] = {}
        self._listener: Callable[[str], None] = lambda _: None
        others.append(self)

    async def take_connection(self, key: str, most: int) -> bool:
        await passes(0.001)
        if await self._all.take_connection(key, most):
            self._held[key] = self._held.get(key, 0) + 1
            return True
        for other in self._others:
            if other is not self and other._held.get(key, 0) > self._held.get(key, 0):
                other._listener(key)
        return False

    def give_connection(self, key: str) -> None:
        self._held[key] -= 1
        self._all.give_connection(key)

    async def take_tokens(self, key: str, rate: Rate, tokens: int = 1) -> float:
        await passes(0.001)
        return await self._all.take_tokens(key, rate, tokens)

    def on_wanted(self, listener: Callable[[str], None]) -> None:
        self._listener = listener


def watched() -> Watched:
    return Watched(asyncio.get_running_loop().time)


@pytest.mark.parametrize("seconds", [0.0, 0.1, 0.14])
def test_a_rate_and_a_number_of_connections_hold_and_the_fast_are_not_held_up(seconds: float) -> None:
    """At 0.1 s a message two connections are needed for 20/s, at 0.14 s three."""
    receivers: dict[int, Receiver] = {}

    def make() -> World:
        receivers.update({1001: Receiver(seconds), 1002: Receiver(seconds), 1003: Receiver()})
        return World(LIMITED, receivers)

    async def work(world: World) -> None:
        for number in range(160):  # as over one client connection: one after the other
            await world.put(f"a{number}@slow.example")
            await world.put(f"b{number}@slow2.example")
            await world.put(f"c{number}@fast.example")
        assert await world.until(lambda: len(receivers[1003].at) == 160) < 0.5
        await world.until(lambda: world.spool.left == 0)
        for port in (1001, 1002):
            assert receivers[port].open_max <= 3
            counts = receivers[port].per_second()
            assert len(counts) >= 7
            assert all(17 <= count <= 21 for count in counts), counts
            assert len(receivers[port].at) == len(set(receivers[port].recipients)) == 160

    run(make, work)


@pytest.mark.parametrize(("workers", "puts_into"), [(2, 2), (4, 4), (4, 1)])
def test_several_workers_share_both(workers: int, puts_into: int) -> None:
    receiver: list[Receiver] = []
    worlds: list[World] = []

    def make() -> World:
        receiver.append(Receiver(0.1))
        limits, shares = LocalLimits(asyncio.get_running_loop().time), list[Share]()
        for _ in range(workers):
            worlds.append(World(LIMITED, {1001: receiver[0]}, limits=Share(limits, shares)))
        for world in worlds[1:]:
            world.outbound.start()
        return worlds[0]

    async def work(_: World) -> None:
        for number in range(160):
            await worlds[number % puts_into].put(f"a{number}@slow.example")
        for world in worlds:
            await world.until(lambda world=world: world.spool.left == 0)  # type: ignore[misc]
        assert receiver[0].open_max <= 3
        counts = receiver[0].per_second()
        assert len(counts) < 10, (counts[-6:], [w.spool.left for w in worlds])
        assert all(count <= 21 for count in counts), counts
        for world in worlds[1:]:
            await world.outbound.drain(5.0)

    run(make, work)


def test_who_gets_no_connection_holds_nothing_and_asks_less_and_less() -> None:
    limits: list[Watched] = []

    def make() -> World:
        limits.append(watched())
        return World(LIMITED, {1001: Receiver()}, limits=limits[0])

    async def work(world: World) -> None:
        for _ in range(3):
            assert await limits[0].take_connection(SLOW, 3)
        limits[0].asked.clear()
        for number in range(10):
            await world.put(f"a{number}@slow.example")
        await passes(10.0)
        times = [at for _, at in limits[0].asked]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert LEASE_WAIT_MIN <= gaps[0] < 2 * LEASE_WAIT_MIN
        assert gaps == sorted(gaps) or max(gaps) - LEASE_WAIT_MAX < 0.01
        assert len(times) < 30
        assert limits[0].tokens == []  # what cannot be sent uses up nothing
        limits[0].give_connection(SLOW)
        assert await world.until(lambda: world.spool.left == 0) < 11.5

    run(make, work)


def test_a_wanted_connection_is_given_back_after_the_job_and_taken_again_later() -> None:
    limits: list[Watched] = []
    text = LIMITED.replace('rate = "20/s"\n', "")
    receiver: list[Receiver] = []

    def make() -> World:
        limits.append(watched())
        receiver.append(Receiver(0.2))
        return World(text, {1001: receiver[0]}, limits=limits[0])

    async def work(world: World) -> None:
        for number in range(60):
            await world.put(f"a{number}@slow.example")
        await world.until(lambda: limits[0].held(SLOW) == 3)
        limits[0].want(SLOW)
        limits[0].want(SLOW)
        await world.until(lambda: limits[0].held(SLOW) == 2)
        taken = await world.until(lambda: receiver[0].open == 2)
        assert await limits[0].take_connection(SLOW, 3)  # another worker's
        await passes(2.0)
        assert limits[0].held(SLOW) == 3
        assert receiver[0].open == 2
        limits[0].give_connection(SLOW)
        assert await world.until(lambda: limits[0].held(SLOW) == 3) - taken < 3.0
        await world.until(lambda: world.spool.left == 0)
        assert receiver[0].open_max == 3

    run(make, work)


def test_idle_connections_go_at_once_when_they_are_wanted() -> None:
    limits: list[Watched] = []

    def make() -> World:
        limits.append(watched())
        return World(LIMITED, {1003: Receiver(0.05)}, limits=limits[0])

    async def work(world: World) -> None:
        for number in range(20):
            await world.put(f"a{number}@fast.example")
        await world.until(lambda: world.spool.left == 0)
        key = "to:smtp:192.0.2.1:1003"
        assert limits[0].held(key) > 1
        before = asyncio.get_running_loop().time()
        limits[0].want(key)
        assert await world.until(lambda: limits[0].held(key) == 0) - before < 0.1

    run(make, work)


def test_many_messages_a_second_take_their_tokens_together() -> None:
    limits: list[Watched] = []

    def make() -> World:
        limits.append(watched())
        return World(LIMITED.replace("20/s", "10000/s"), {1001: Receiver()}, limits=limits[0])

    async def work(world: World) -> None:
        for number in range(900):
            await world.put(f"a{number}@slow.example")
        await world.until(lambda: world.spool.left == 0)
        assert len(limits[0].tokens) < 60
        assert 100 < max(limits[0].tokens) <= 500

    run(make, work)


def test_a_drain_waits_neither_for_tokens_nor_for_connections() -> None:
    receivers = {}

    def make() -> World:
        receivers.update({1001: Receiver(), 1002: Receiver()})
        limits = watched()
        return World(LIMITED.replace("20/s", "2/hour"), receivers, limits=limits)

    async def work(world: World) -> None:
        for _ in range(3):
            await world.limits.take_connection(SLOW2, 3)
        for number in range(10):
            await world.put(f"a{number}@slow.example")
            await world.put(f"b{number}@slow2.example")
        await world.until(lambda: len(receivers[1001].at) == 2)
        await passes(60.0)
        before = asyncio.get_running_loop().time()
        await world.outbound.drain(30.0)
        assert asyncio.get_running_loop().time() - before < 1.0
        assert (world.spool.left, world.spool.claimed) == (18, 0)
        for _ in range(3):
            world.limits.give_connection(SLOW2)
        with pytest.raises(RuntimeError):  # ours have all been given back
            world.limits.give_connection(SLOW2)
        with pytest.raises(RuntimeError):
            world.limits.give_connection(SLOW)

    run(make, work)
