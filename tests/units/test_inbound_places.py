"""Places for connections over all workers: small limits exact, large ones without a question for each connection."""

from __future__ import annotations

import asyncio

import pytest
from tests.units.ledger_world import LedgerWorld, passes, simulated

from postroad.inbound.places import AHEAD, BLOCK_MAX, KEEP_FOR, KEPT, KEY, Places
from postroad.ledger import wire
from postroad.testing.simulated_loop import run_simulated


@pytest.fixture
def play(tmp_path):
    def player(script):
        async def work():
            async with LedgerWorld(tmp_path, workers=2, wait=simulated) as world:
                world.taken = []  # questions that the ledger heard
                answer = world.server._answer

                def listening(peer, question, now):
                    if isinstance(question, wire.Take):
                        world.taken.append(question)
                    answer(peer, question, now)

                world.server._answer = listening
                await script(world, *map(Places, world.clients))

        run_simulated(work())

    return player


def held(world) -> int:
    return world.server._leases.held(KEY)


async def settled() -> None:
    """Let what is under way arrive."""
    await passes(0.1)


def test_a_small_limit_is_exact_over_workers(play):
    async def script(world, one, two):
        asked = [places.take(10) for _ in range(15) for places in (one, two)]
        assert sum(await asyncio.gather(*asked)) == 10
        assert one.spare == two.spare == 0
        assert held(world) == 10

    play(script)


def test_what_is_given_back_another_worker_gets(play):
    async def script(world, one, two):
        assert [await one.take(3) for _ in range(4)] == [True, True, True, False]
        assert not await two.take(3)
        one.give()
        await settled()
        assert await two.take(3)
        assert not await one.take(3)

    play(script)


def test_a_place_given_back_while_the_ledger_refuses_is_for_who_waits(play):
    async def script(world, one, two):
        assert [await one.take(3) for _ in range(3)] == [True] * 3
        waits = asyncio.ensure_future(one.take(3))
        await asyncio.sleep(0)
        assert len(world.taken) == 3, "the question is under way"
        one.give()
        assert await waits
        assert one.spare == 0
        assert held(world) == 3

    play(script)


def test_a_place_that_comes_twice_goes_back(play):
    async def script(world, one, two):
        assert [await one.take(3) for _ in range(2)] == [True] * 2
        waits = asyncio.ensure_future(one.take(3))
        await asyncio.sleep(0)
        one.give()
        assert await waits
        assert one.spare == 0
        await settled()
        assert held(world) == 2

    play(script)


def test_a_place_for_who_has_gone_meanwhile_goes_back(play):
    async def script(world, one, two):
        waits = asyncio.ensure_future(one.take(3))
        await asyncio.sleep(0)
        waits.cancel()
        await settled()
        assert (one.spare, held(world)) == (0, 0)
        assert len(world.taken) == 1

    play(script)


def test_a_large_limit_asks_for_blocks(play):
    async def script(world, one, two):
        for _ in range(200):
            assert await one.take(100_000)
            one.give()
        assert len(world.taken) <= 2 * BLOCK_MAX
        for _ in range(200):
            assert await one.take(100_000)
        await settled()
        assert len(world.taken) <= 200 + 2 * BLOCK_MAX
        assert held(world) == 200 + one.spare
        for _ in range(200):
            one.give()
        await settled()
        assert one.spare <= KEPT * BLOCK_MAX
        assert held(world) == one.spare
        await passes(2 * KEEP_FOR + 0.1)
        assert one.spare <= AHEAD * BLOCK_MAX, "nobody has needed it since"
        assert held(world) == one.spare

    play(script)


def test_bursts_of_connections_ask_once(play):
    async def script(world, one, two):
        most = 10_000  # blocks of ten
        asked = 0
        for number in range(20):
            assert all(await asyncio.gather(*(one.take(most) for _ in range(50))))
            await settled()
            asked = asked or len(world.taken)
            assert number == 0 or len(world.taken) == asked, "what the last burst gave back was there"
            for _ in range(50):
                one.give()
        await passes(2 * KEEP_FOR + 0.1)
        assert held(world) == one.spare <= AHEAD * 10

    play(script)


def test_a_large_limit_is_never_exceeded_and_what_is_spare_goes_to_who_waits(play):
    async def script(world, one, two):
        most = 2500  # blocks of two
        taken = [sum([await places.take(most) for _ in range(1400)]) for places in (one, two)]
        assert most - 4 <= sum(taken) <= most
        for _ in range(4):
            one.give()
        assert one.spare
        await passes(2)
        assert not await two.take(most), "it has less than half, so the other is told that it waits"
        await settled()
        assert one.spare == 0
        assert await two.take(most)

    play(script)


def test_another_limit_holds_at_once(play):
    async def script(world, one, two):
        assert [await one.take(20_000) for _ in range(3)] == [True] * 3
        await settled()
        assert one.spare
        assert not await one.take(3), "what was leased of the larger limit is given back first"
        one.give()
        await settled()
        assert await one.take(3)
        assert one.spare == 0

    play(script)


def test_without_a_ledger_it_is_the_share(play):
    async def script(world, one, two):
        assert await one.take(10)
        await world.kill_ledger()
        taken = [sum([await places.take(10) for _ in range(10)]) for places in (one, two)]
        assert taken == [4, 5]
        await world.start_ledger()
        await world.until_there()
        assert held(world) == 10

    play(script)


def test_at_the_end_nothing_is_spare(play):
    async def script(world, one, two):
        assert await one.take(10_000)
        await settled()
        one.close()
        await settled()
        assert held(world) == 1
        one.give()
        one.close()
        await settled()
        assert held(world) == 0

    play(script)
