"""What a worker does with a ledger that is alive and slow, and a ledger with a slow worker: no limit is exceeded by it.

Real ledgers and workers on a loop whose time jumps.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.units.ledger_world import LedgerWorld, Stranger, passes, simulated, stranger

from postroad.ledger import wire
from postroad.ledger.client import ASK_AGAIN, OUTBOUND_MAX
from postroad.ledger.link import LEFT_MAX
from postroad.ledger.server import ABSENT_MAX, RETURN_MAX, SETTLE_MAX
from postroad.testing.simulated_loop import run_simulated


@pytest.fixture
def play(tmp_path):
    def player(script, workers=2):
        async def work():
            async with LedgerWorld(tmp_path, workers=workers, wait=simulated) as world:
                await script(world, *world.clients)

        run_simulated(work())

    return player


def stall(world, slot):
    """Have the ledger leave unread what this worker says, as a stopped process does. Returns what ends that."""
    transport = world.server._by_slot[slot].wire._transport
    transport.pause_reading()
    return transport.resume_reading


def test_who_leaves_a_silent_ledger_hears_what_is_lent_before_the_ledger_reads_of_it(play):
    async def script(world, one, two):
        wakes = stall(world, 0)
        await simulated(lambda: not one.is_there)
        world.server._tasks[0].cancel()  # nor does it see that there is another connection
        assert not await one.take_connection("to:a", 2), "nobody knows yet what it lends"
        assert [await two.take_connection("to:a", 2) for _ in range(2)] == [True, True]
        await passes(0.01)
        assert not await one.take_connection("to:a", 2)
        wakes()
        await simulated(lambda: not one._link.is_leaving)
        assert not one.is_there
        assert not await one.take_connection("to:a", 2), "it was told on the connection that it left"
        assert await one.take_connection("to:b", 2)

    play(script)


def test_a_ledger_that_stays_silent_keeps_nobody_from_its_share_for_ever(play):
    async def script(world, one, two):
        wakes = [stall(world, slot) for slot in (0, 1)]
        world.server._tasks[0].cancel()
        await simulated(lambda: not one.is_there)
        assert not await one.take_connection("to:a", 2)
        assert await one.take_connection("in:192.0.2.1", 2), "a client waits for our greeting"
        await passes(LEFT_MAX + 0.5)
        assert not one.is_there
        assert [await one.take_connection("to:a", 2) for _ in range(2)] == [True, False]
        for wake in wakes:
            wake()

    play(script)


def test_a_silent_ledger_that_dies_keeps_nobody_from_its_share(play):
    async def script(world, one, two):
        stall(world, 0)
        await simulated(lambda: not one.is_there)
        assert one._link.is_leaving
        await world.kill_ledger()
        await simulated(lambda: not one._link.is_leaving, within=1)
        assert await one.take_connection("to:a", 2)
        await world.start_ledger()

    play(script)


def test_what_is_granted_too_late_is_given_back(play):
    async def script(world, one, two):
        wakes = stall(world, 0)
        began = world.time()
        assert not await one.take_connection("to:a", 1)
        assert OUTBOUND_MAX <= world.time() - began < OUTBOUND_MAX + 0.5
        assert one.is_there
        wakes()
        await passes(0.1)
        assert world.server._leases.held("to:a") == 0
        assert await two.take_connection("to:a", 1)

    play(script)


def test_what_is_granted_on_a_connection_that_was_left_is_nobodys(play):
    async def script(world, one, two):
        wakes = stall(world, 0)
        await passes(1.5)
        taker = asyncio.create_task(one.take_connection("to:a", 1))
        await simulated(lambda: not one.is_there)
        assert not await taker
        wakes()
        await simulated(lambda: one.is_there)
        await passes(0.1)
        assert one._held.connections == {}
        assert world.server._leases.held("to:a") == 0
        assert await two.take_connection("to:a", 1)

    play(script)


def test_what_the_left_connection_says_after_another_was_made_is_old(play):
    async def script(world, one, two):
        stall(world, 0)
        before = world.server._by_slot[0].wire
        before.close = lambda: None
        await simulated(lambda: not one.is_there)
        await simulated(lambda: one.is_there)
        before.say(wire.Lent("to:a", 1))
        await passes(0.01)
        assert one._held.has_share("to:a", 2)

    play(script)


def test_a_worker_that_comes_late_to_a_new_ledger_holds_what_was_lent_to_it(play):
    async def script(world, one, two, three):
        assert [await one.take_connection("to:a", 3) for _ in range(3)] == [True] * 3
        await passes(0.01)
        connect, one._link._tasks[0] = one._link._tasks[0], asyncio.create_task(passes(0))
        connect.cancel()
        await world.kill_ledger()
        await world.start_ledger()
        await simulated(lambda: two.is_there and three.is_there)
        assert not await two.take_connection("to:a", 3)
        assert not await three.take_connection("to:a", 3)
        assert await three.take_connection("to:b", 3), "of that nothing was lent"
        one.give_connection("to:a")
        one._link._tasks[0] = asyncio.create_task(one._link._keep_connected())
        await simulated(lambda: one.is_there)
        await passes(ASK_AGAIN)
        assert await two.take_connection("to:a", 3)
        assert not await three.take_connection("to:a", 3)

    play(script, workers=3)


def stays_away(client):
    """Have a worker, which lives, not connect again. Returns what ends that."""
    client._link._tasks[0].cancel()

    def comes():
        client._link._tasks[0] = asyncio.create_task(client._link._keep_connected())

    return comes


def test_what_is_lent_is_not_forgotten_before_the_ledger_has_heard_whoever_may_hold_it(play):
    async def script(world, one, two, three):
        assert [await one.take_connection("to:a", 3) for _ in range(3)] == [True] * 3
        await passes(0.01)
        comes = stays_away(one)
        await world.kill_ledger()
        await world.start_ledger()
        await simulated(lambda: two.is_there and three.is_there)
        await passes(SETTLE_MAX + 0.5)
        await world.kill_ledger()
        await simulated(lambda: not two.is_there)
        assert not await two.take_connection("to:a", 3), "the ledger in between never heard who holds it"
        comes()
        await world.start_ledger()
        await simulated(lambda: one.is_there and two.is_there)
        one.give_connection("to:a")
        await passes(0.5)
        await world.kill_ledger()
        await simulated(lambda: not two.is_there and not three.is_there)
        taken = [await client.take_connection("to:a", 3) for client in (two, three)]
        assert taken.count(True) == 1, "all have been heard: what was given back is known"

    play(script, workers=3)


def test_what_could_not_be_lent_while_its_owner_was_absent_is_lent_when_he_comes(play):
    async def script(world, one, two, three):
        assert [await one.take_connection("to:a", 3) for _ in range(3)] == [True] * 3
        await passes(0.01)
        comes = [stays_away(client) for client in (one, two)]
        await world.kill_ledger()
        await world.start_ledger()
        await simulated(lambda: three.is_there)
        await passes(SETTLE_MAX + 0.5)
        for come in comes:
            come()
            await passes(0.5)
        assert two.is_there
        await world.kill_ledger()
        await simulated(lambda: not two.is_there)
        assert not await two.take_connection("to:a", 3)
        assert not await three.take_connection("to:a", 3)

    play(script, workers=3)


# --- what an earlier ledger had lent: slot 0 says it of its share, slot 1 asks, slot 2 is absent, slot 3 comes and goes


async def with_a_debt(world: LedgerWorld) -> None:
    """Begin with another ledger, where slot 1 alone is there."""
    for number in (3, 2, 0):
        world.kill_client(number)
    await world.kill_ledger()
    await world.start_ledger()


async def announces(world: LedgerWorld, one: Stranger, slot: int, *values: wire.Value) -> None:
    """Announce a worker that stays the same however often it comes."""
    one.say(wire.Hello(slot, 4, f"worker {slot}", world.time()), *values, wire.Announced())
    server = world.server
    await simulated(lambda: server._settled and slot in server._by_slot and server._by_slot[slot].announced)


async def leaves(one: Stranger) -> None:
    one.say(wire.Leaving())
    await simulated(lambda: one.lost)


async def takes(client, most: int) -> int:
    """Take as many as there are."""
    return [await client.take_connection("to:a", most) for _ in range(most)].count(True)


def test_what_was_lent_to_an_absent_worker_is_known_though_its_owner_comes_anew_and_says_nothing_of_it(play):
    async def script(world, _, two, *__):
        await with_a_debt(world)
        async with stranger(world) as before, stranger(world) as anew, stranger(world) as other:
            other.say(wire.Hello(3, 4, "worker 3", world.time()), wire.Announced())
            await announces(world, before, 0, wire.Owed("to:a", 1))
            await leaves(before)
            await announces(world, anew, 0)
            assert await takes(two, 8) == 8 - 2 - 1, "2 are the absent one's share, 1 is lent"

    play(script, workers=4)


def test_a_worker_that_comes_anew_does_not_say_what_this_ledger_has_lent_as_a_debt(play):
    async def script(world, _, two, *__):
        await with_a_debt(world)
        async with stranger(world) as before, stranger(world) as anew, stranger(world) as other:
            other.say(wire.Hello(3, 4, "worker 3", world.time()), wire.Announced())
            await announces(world, before, 0)
            await leaves(before)
            await announces(world, anew, 0, wire.Owed("to:a", 2))
            assert await takes(two, 8) == 8 - 2

    play(script, workers=4)


@pytest.mark.parametrize(("is_late", "debt"), [(False, 1), (True, 0)])
def test_debts_are_forgotten_in_the_end_whoever_comes_and_goes(play, is_late, debt):
    async def script(world, _, two, *__):
        began = world.time()
        await with_a_debt(world)
        async with stranger(world) as owner, stranger(world) as other:
            other.say(wire.Hello(3, 4, "worker 3", world.time()), wire.Announced())
            await announces(world, owner, 0, wire.Owed("to:a", 1))
            await passes(ABSENT_MAX - SETTLE_MAX - 1.5 if is_late else 0.0)
            await leaves(other)
            left = world.time()
            await passes(RETURN_MAX - 0.2 if is_late else 0.0)
            assert (world.time() - began > ABSENT_MAX + 0.2) is is_late
            assert world.time() - left < RETURN_MAX
            absent = 2  # the share of the one that comes back, or
            if not is_late:
                absent += 2  # also that of the one that never came
            assert await takes(two, 8) == 8 - absent - debt

    play(script, workers=4)


def test_debts_are_forgotten_when_all_have_been_there_though_one_has_gone_again(play):
    async def script(world, _, two, *__):
        await with_a_debt(world)
        async with stranger(world) as owner, stranger(world) as third, stranger(world) as other:
            third.say(wire.Hello(2, 4, "worker 2", world.time()), wire.Announced())
            other.say(wire.Hello(3, 4, "worker 3", world.time()), wire.Announced())
            await simulated(lambda: {2, 3} <= world.server._incarnations.keys())
            await leaves(other)
            await announces(world, owner, 0, wire.Owed("to:a", 1))
            assert await takes(two, 8) == 8 - 2, "2 are the share of the one that comes back"

    play(script, workers=4)
