"""People who steer what waits in memory: only what lanes have in hand is left alone, and the answer says so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import pytest
from tests.units.outbound_world import LoopClock, Receiver, World

from postroad.core import facts, outcome, reply
from postroad.outbound.destination import WAITING_LOW
from postroad.outbound.scheduler import Scheduler
from postroad.spool.face import Changed, Selection
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.inline_threads import InlineThreads
from postroad.testing.simulated_loop import passes, run_simulated

TEXT = """
[[route]]
to = "a.example"
via = "smtp://192.0.2.1:1001"
[[route]]
to = "b.example"
via = "smtp://192.0.2.1:1001"
[[route]]
to = "c.example"
via = "smtp://192.0.2.2:1002"
[[route]]
to = "example.org"
via = "smtp://192.0.2.3:1003"
"""
ZONE = {"one.example": {"MX": ["10 mx.one.example."]}, "mx.one.example": {"A": ["192.0.2.11"]}}
LANES = 5
"""Connections to a destination when it is slow: those that a window begins with."""
ALL = Selection()
RETURNED = outcome.Failed(reply.RETURNED_BY_HAND)
VERBS: dict[str, Callable[..., Awaitable[Changed]]] = {
    "hold": lambda spool, meant, **how: spool.hold(meant, **how),
    "delete": lambda spool, meant, **how: spool.drop(meant, "queue delete by root", **how),
    "bounce": lambda spool, meant, **how: spool.bounce(meant, RETURNED, **how),
}


async def shard(place: Path) -> Shard:
    return await Shard.take(
        str(place / "shard-0"),
        number=0,
        clock=LoopClock(),
        outlet=FakeOutlet(),
        disk=OsDisk(),
        threads=InlineThreads(),
        settings=ShardSettings(min_free=0),
    )


@pytest.fixture(params=["memory", "shard"])
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., None]:
    """Return what runs ``work`` in a world with a slow destination at 1001, whose spool is of that kind."""

    def play(work: Callable[[World], Awaitable[None]]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(86_400.0):
                spool = await shard(tmp_path) if request.param == "shard" else None
                receivers = {port: Receiver() for port in (25, 1001, 1002, 1003)}
                world = World(TEXT, receivers, zone=ZONE, spool=spool)
                receivers[1001].go.clear()
                world.outbound.start()
                try:
                    await work(world)
                finally:
                    receivers[1001].go.set()
                    await world.outbound.drain(60.0)
                    await world.outbound.close()
                    await world.spool.close()

        run_simulated(bounded())

    return play


def scheduler(world: World) -> Scheduler:
    return world.outbound._scheduler


async def crowd(world: World, count: int, *domains: str) -> None:
    """Have so many messages wait for the slow destination, but for those that its lanes have in hand."""
    for number in range(count):
        await world.put(f"bob{number}@{domains[number % len(domains)]}")
    await world.until(lambda: len(world.receivers[1001].recipients) == LANES)


def left(world: World) -> int:
    return world.spool.stats().recipients


def arrived(world: World, port: int = 1001) -> list[str]:
    return sorted(world.receivers[port].recipients)


def bobs(numbers: Iterable[int], domain: str = "a.example") -> list[str]:
    return sorted(f"bob{number}@{domain}" for number in numbers)


@pytest.mark.parametrize(
    ("verb", "meant"),
    [
        *((verb, ALL) for verb in VERBS),
        ("hold", Selection(domain="a.example")),
        ("hold", Selection(to="*.example", sender="example.org")),
    ],
)
def test_all_is_changed_but_what_lanes_have_in_hand(play: Callable[..., None], verb: str, meant: Selection) -> None:
    async def work(world: World) -> None:
        await crowd(world, 500, "a.example")
        in_hand = arrived(world)
        would = await VERBS[verb](world.spool, meant, dry_run=True)
        assert scheduler(world).loaded == 500
        changed = await VERBS[verb](world.spool, meant)
        assert changed == would == Changed(500 - LANES, 500 - LANES, LANES)
        assert scheduler(world).loaded == LANES
        world.receivers[1001].go.set()
        await passes(60.0)
        assert arrived(world) == in_hand
        assert (scheduler(world).loaded, scheduler(world)._content_held) == (0, 0)
        stats = world.spool.stats()
        if verb == "hold":
            assert (stats.recipients, stats.held) == (495, 495)
            assert (await world.spool.release(ALL, world.clock.now())).recipients == 495
            scheduler(world).wake()
            await world.until(lambda: left(world) == 0)
            assert arrived(world) == bobs(range(500))
        else:
            await world.until(lambda: left(world) == 0)
            assert len(world.outlet.of(facts.Reported)) == (495 if verb == "bounce" else 0)
            assert len(world.receivers[1003].recipients) == (495 if verb == "bounce" else 0)

    play(work)


def test_a_flush_counts_what_waits_in_memory_and_leaves_it_there(play: Callable[..., None]) -> None:
    async def work(world: World) -> None:
        await crowd(world, 150, "a.example")
        for dry_run in (True, False):
            flushed = await world.spool.flush(ALL, world.clock.now(), dry_run=dry_run)
            assert flushed == Changed(145, 145, LANES)
            assert scheduler(world).loaded == 150
        world.receivers[1001].go.set()
        await world.until(lambda: left(world) == 0)
        assert arrived(world) == bobs(range(150))

    play(work)


def test_what_is_not_meant_keeps_its_order_and_goes_at_once(play: Callable[..., None]) -> None:
    async def work(world: World) -> None:
        await crowd(world, 60, "a.example", "b.example")
        in_hand = arrived(world)
        of_a = [one for one in in_hand if one.endswith("@a.example")]
        changed = await world.spool.hold(Selection(domain="a.example"))
        assert changed == Changed(30 - len(of_a), 30 - len(of_a), len(of_a))
        world.receivers[1001].go.set()
        before = asyncio.get_running_loop().time()
        await world.until(lambda: left(world) == 30 - len(of_a))
        assert asyncio.get_running_loop().time() - before < 0.5
        later = world.receivers[1001].recipients[LANES:]
        assert later == sorted(later, key=lambda address: int(address[3:].partition("@")[0]))
        assert len(later) == 60 - LANES - (30 - len(of_a))

    play(work)


def test_a_job_goes_back_as_a_whole_and_the_others_of_its_message_stay(play: Callable[..., None]) -> None:
    async def work(world: World) -> None:
        await crowd(world, 20, "a.example")
        await world.put("erna@a.example", "fred@b.example", "gil@c.example")
        await world.until(lambda: arrived(world, 1002) == ["gil@c.example"])
        changed = await world.spool.hold(Selection(to="erna@a.example"))
        assert changed == Changed(1, 1, 0)
        world.receivers[1001].go.set()
        before = asyncio.get_running_loop().time()
        await world.until(lambda: left(world) == 1)
        assert asyncio.get_running_loop().time() - before < 0.5
        assert arrived(world) == [*bobs(range(20)), "fred@b.example"]
        await world.spool.release(ALL, world.clock.now())
        scheduler(world).wake()
        await world.until(lambda: left(world) == 0)
        assert arrived(world) == [*bobs(range(20)), "erna@a.example", "fred@b.example"]

    play(work)


def test_what_waits_for_a_lookup_is_held_and_the_lookup_goes_on(play: Callable[..., None]) -> None:
    async def work(world: World) -> None:
        world.zone.delays["one.example"] = 5.0
        for number in range(8):
            await world.put(f"bob{number}@one.example")
        await passes(1.0)
        asked = scheduler(world)._lookups
        assert len(list(asked)) == 8
        assert await world.spool.hold(Selection(to="bob3@one.example")) == Changed(1, 1, 0)
        assert len(list(asked)) == 7
        assert await world.spool.hold(ALL) == Changed(7, 7, 0)
        assert (list(asked), asked.has_domain("one.example"), scheduler(world).loaded) == ([], True, 0)
        await passes(30.0)
        assert (arrived(world, 25), world.spool.stats().held) == ([], 8)
        await world.spool.release(ALL, world.clock.now())
        scheduler(world).wake()
        await world.until(lambda: left(world) == 0)
        assert arrived(world, 25) == bobs(range(8), "one.example")

    play(work)


def test_a_destination_that_is_emptied_takes_up_the_domains_it_had_no_room_for(play: Callable[..., None]) -> None:
    async def work(world: World) -> None:
        await crowd(world, 1_100, "a.example")
        await passes(2.0)
        slow = next(iter(scheduler(world).destinations))
        waited = len(slow.waiting)
        assert waited > 2 * WAITING_LOW
        assert slow.paused_domains == {"a.example"}
        meant = Selection(ids=tuple(job.id for job in slow.waiting))
        assert (await world.spool.hold(meant)).recipients == waited
        assert slow.paused_domains == set()
        await world.until(lambda: len(slow.waiting) == 1_100 - LANES - waited)

    play(work)
