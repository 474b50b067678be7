"""What a worker asks and what it does not, blocks of tokens, and what it does without a ledger.

Real ledgers and workers on a loop whose time jumps.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.units.ledger_world import LedgerWorld, passes, simulated

from postroad.core.faces import Rate, RecordRow, RecordsTrouble
from postroad.core.facts import Trouble
from postroad.ledger import wire
from postroad.ledger.client import ASK_AGAIN, STRANGER_WAIT
from postroad.testing.simulated_loop import run_simulated


@pytest.fixture
def play(tmp_path):
    def player(script, workers=2, **options):
        async def work():
            async with LedgerWorld(tmp_path, workers=workers, wait=simulated, **options) as world:
                await script(world, *world.clients)

        run_simulated(work())

    return player


def watch(world, kind):
    """Return a list that grows by each question of that kind that the ledger hears."""
    heard, answer = [], world.server._answer

    def listening(peer, question, now):
        if isinstance(question, kind):
            heard.append(question)
        answer(peer, question, now)

    world.server._answer = listening
    return heard


# --- connections ---


def test_a_refusal_is_remembered_until_one_is_freed(play):
    async def script(world, one, two):
        asked = watch(world, wire.Take)
        assert await one.take_connection("to:a", 1)
        assert [await two.take_connection("to:a", 1) for _ in range(50)] == [False] * 50
        assert len(asked) == 2
        one.give_connection("to:a")
        await passes(0.01)
        assert await two.take_connection("to:a", 1)

    play(script)


def test_a_refusal_is_not_remembered_for_ever_nor_for_a_higher_limit(play):
    async def script(world, one, two):
        await one.take_connection("to:a", 1)
        assert not await two.take_connection("to:a", 1)
        assert await two.take_connection("to:a", 2)
        asked = watch(world, wire.Take)
        assert not await two.take_connection("to:a", 2)
        await passes(ASK_AGAIN + 0.01)
        assert not await two.take_connection("to:a", 2)
        assert len(asked) == 2

    play(script)


def test_who_holds_more_than_its_share_hears_that_others_wait(play):
    async def script(world, one, two):
        wanted = []
        one.on_wanted(lambda key: (wanted.append(key), one.give_connection(key)))
        for _ in range(3):
            assert await one.take_connection("to:a", 3)
        assert not await two.take_connection("to:a", 3)
        await passes(0.01)
        assert wanted == ["to:a"]
        assert not await one.take_connection("to:a", 3), "it is kept for who waited"
        assert await two.take_connection("to:a", 3)

    play(script)


def test_a_taker_that_is_cancelled_leaves_nothing_taken(play):
    async def script(world, one, two):
        for turns in range(6):
            taker = asyncio.create_task(one.take_connection("to:a", 1))
            for _ in range(turns):
                await asyncio.sleep(0)
            taker.cancel()
            try:
                if await taker:
                    one.give_connection("to:a")
            except asyncio.CancelledError:
                pass
            await passes(0.1)
            assert world.server._leases.held("to:a") == 0
            assert one._held.connections == {}

    play(script)


def test_what_a_dead_worker_held_is_free_at_once(play):
    async def script(world, one, two):
        for _ in range(3):
            await one.take_connection("to:a", 3)
        world.kill_client(0)
        await passes(0.01)
        assert [await two.take_connection("to:a", 3) for _ in range(4)] == [True, True, True, False]

    play(script)


def test_giving_back_after_the_ledger_died_raises_nothing(play):
    async def script(world, one, two):
        await one.take_connection("to:a", 3)
        await world.kill_ledger()
        one.give_connection("to:a")
        with pytest.raises(RuntimeError, match="nobody had taken"):
            one.give_connection("to:a")
        await world.start_ledger()

    play(script)


# --- tokens ---


def test_fast_rates_are_taken_in_blocks_and_slow_ones_one_by_one(play):
    async def script(world, one, two):
        asked = watch(world, wire.Tokens)
        for _ in range(100):
            assert await one.take_tokens("to:fast", Rate(1000, 1)) == 0.0
        assert len(asked) == 1
        assert [await one.take_tokens("to:slow", Rate(10, 1)) for _ in range(3)] == [0.0] * 3
        assert len(asked) == 4

    play(script)


def test_many_who_need_tokens_at_once_ask_once(play):
    async def script(world, one, two):
        asked = watch(world, wire.Tokens)
        waits = await asyncio.gather(*(one.take_tokens("to:fast", Rate(1000, 1)) for _ in range(100)))
        assert waits == [0.0] * 100
        assert len(asked) == 1

    play(script)


def test_unused_tokens_are_anothers_after_50_ms(play):
    async def script(world, one, two):
        rate = Rate(40, 1)
        assert await one.take_tokens("to:a", rate) == 0.0  # a block of four
        await passes(0.06)
        assert one._blocks == {}
        assert world.server._rates._meters.find("to:a").used(world.time()) == 1
        given = [await two.take_tokens("to:a", rate) for _ in range(40)]
        assert given.count(0.0) == 39

    play(script)


def test_a_flood_over_a_rate_asks_once(play):
    async def script(world, one, two):
        asked = watch(world, wire.Tokens)
        rate = Rate(3, 60)
        waits = [await one.take_tokens("in:192.0.2.1", rate) for _ in range(1000)]
        assert waits[:3] == [0.0] * 3
        assert all(50 < wait < 70 for wait in waits[3:])
        assert len(asked) == 4
        await passes(waits[-1] + 0.001)
        assert await one.take_tokens("in:192.0.2.1", rate) == 0.0

    play(script)


# --- without a ledger ---


def test_without_a_ledger_each_goes_by_what_is_left_of_its_share(play):
    async def script(world, one, two):
        for _ in range(3):
            await one.take_connection("to:a", 4)  # one more than its share
        await two.take_tokens("to:b", Rate(10, 60), 2)
        await world.kill_ledger()
        assert not await one.take_connection("to:a", 4)
        assert [await two.take_connection("to:a", 4) for _ in range(3)] == [True, False, False]
        waits = [await two.take_tokens("to:b", Rate(10, 60)) for _ in range(4)]
        assert waits[:3] == [0.0] * 3
        assert waits[3] > 0
        await world.start_ledger()
        await world.until_there()
        assert world.server._leases.held("to:a") == 4
        assert [await one.take_tokens("to:b", Rate(10, 60)) for _ in range(6)].count(0.0) == 5

    play(script)


def test_a_client_of_ours_waits_a_second_for_the_ledger_and_then_gets_of_our_share(play):
    async def script(world, one, two):
        await world.kill_ledger()
        began = world.time()
        assert await one.take_connection("in:192.0.2.1", 4)
        assert 0.9 < world.time() - began < 1.1
        assert await one.take_connection("in:192.0.2.1", 4)
        assert not await one.take_connection("in:192.0.2.1", 4)
        assert world.time() - began < 1.1, "one second in all, not for each"
        assert await one.take_tokens("in:192.0.2.1", Rate(4, 60)) == 0.0
        await world.start_ledger()

    play(script)


def test_a_client_that_waits_is_served_when_the_ledger_is_back(play):
    async def script(world, one, two):
        await world.kill_ledger()
        taker = asyncio.create_task(one.take_connection("in:192.0.2.1", 1))
        await passes(0.2)
        await world.start_ledger()
        assert await taker
        assert world.server._leases.held("in:192.0.2.1") == 1

    play(script)


def test_a_process_that_never_heard_the_ledger_sends_nothing_for_a_while(play):
    async def script(world, one, two):
        await world.kill_ledger()
        world.kill_client(0)
        stranger = world.make_client(0)
        world.clients.append(stranger)
        assert not await stranger.take_connection("to:a", 4)
        assert await stranger.take_tokens("to:b", Rate(10, 60)) > 0
        await passes(STRANGER_WAIT)
        assert [await stranger.take_connection("to:a", 4) for _ in range(3)] == [True, True, False]
        assert await stranger.take_tokens("to:b", Rate(10, 60)) == 0.0
        await world.start_ledger()

    play(script)


def test_a_ledger_that_comes_back_waits_for_the_workers_and_not_for_ever(play):
    async def script(world, one, two):
        await two.take_connection("to:a", 3)
        await two.take_connection("to:a", 3)
        await world.kill_ledger()
        world.kill_client(1)  # and its supervisor does not start another
        await world.start_ledger()
        await simulated(lambda: one.is_there)
        began = world.time()
        answers = [await one.take_connection("to:a", 4) for _ in range(3)]
        assert answers == [True, True, False], "as much as its share may be held by the one that did not come"
        assert 0.5 < world.time() - began < 1.5
        await passes(11)
        assert await one.take_connection("to:a", 4)

    play(script)


def test_it_is_told_when_the_ledger_goes_and_comes(play):
    async def script(world, one, two):
        world.outlet.facts.clear()
        await world.restart_ledger()
        assert [(fact.what, fact.over) for fact in world.outlet.of(Trouble)] == [("ledger", False)] * 2 + [
            ("ledger", True)
        ] * 2

    play(script)


def test_a_wall_clock_that_jumps_changes_nothing(play):
    async def script(world, one, two):
        rate = Rate(2, 60)
        assert [await one.take_tokens("to:a", rate) for _ in range(2)] == [0.0, 0.0]
        world.clock.advance(86400)
        assert await two.take_tokens("to:a", rate) > 50
        world.clock.advance(-2 * 86400)
        assert await two.take_tokens("to:a", rate) > 50
        assert await one.take_connection("to:a", 1)

    play(script)


# --- records and marks ---


class Broken:
    """Records whose disk fails."""

    async def put(self, table, row):
        raise RecordsTrouble("the disk is full")

    async def delete(self, table, key):
        raise ZeroDivisionError

    async def get(self, table, key):
        raise RecordsTrouble("no such file")


def test_a_failed_write_is_an_error_where_it_was_asked_for_and_nobody_is_told_of_a_change(play):
    async def script(world, one, two):
        changes = []
        two.on_records_changed(changes.append)
        with pytest.raises(RecordsTrouble, match="the disk is full"):
            await one.records.put("users", RecordRow("ann", b"1", None))
        with pytest.raises(RecordsTrouble, match="ZeroDivisionError"):
            await one.records.delete("users", "ann")
        assert await one.take_connection("to:a", 1), "limits go on"
        await passes(0.01)
        assert changes == []

    play(script, records=Broken())


def test_every_process_hears_of_a_change_and_after_an_absence_of_every_table_it_used(play):
    async def script(world, one, two):
        front = world.make_client(-1)
        world.clients.append(front)
        await simulated(lambda: front.is_there)
        heard = {name: [] for name in ("one", "two", "front")}
        for name, client in (("one", one), ("two", two), ("front", front)):
            client.on_records_changed(heard[name].append)
        await two.records.get("overrides", "x")
        await front.records.put("suspensions", RecordRow("a", b"1", None))
        await simulated(lambda: all(heard.values()))
        assert heard == {"one": ["suspensions"], "two": ["suspensions"], "front": ["suspensions"]}
        await world.restart_ledger()
        assert heard["two"] == ["suspensions", "overrides"]
        assert heard["front"] == ["suspensions", "suspensions"]

    play(script)


def test_a_write_without_a_ledger_ends_with_an_error_and_in_time(play):
    async def script(world, one, two):
        await world.kill_ledger()
        began = world.time()
        with pytest.raises(RecordsTrouble, match="away"):
            await one.records.put("users", RecordRow("ann", b"1", None))
        assert world.time() - began < 6
        with pytest.raises(ValueError, match="octets"):
            await one.records.put("users", RecordRow("ann", bytes(wire.ROW_MAX), None))
        await world.start_ledger()

    play(script)


def test_marks_outlive_a_ledger(play):
    async def script(world, one, two):
        assert await one.marks.claim("once:1", 600)
        await one.marks.mark("ban:192.0.2.1", 600)
        await world.restart_ledger()
        await passes(0.01)
        assert not await two.marks.claim("once:1", 600)
        assert await two.marks.marked("ban:192.0.2.1") > 500
        await world.kill_ledger()
        assert await one.marks.marked("ban:192.0.2.1") > 500
        assert await one.marks.count("failed:192.0.2.2", 60) == 1
        assert await one.marks.claim("once:2", 60)
        await world.start_ledger()

    play(script)
