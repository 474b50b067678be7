"""Who may speak with the ledger and how long, and what follows when a connection ends in another way than expected."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest
from tests.units.ledger_world import LedgerWorld, passes, simulated, stranger

from postroad.core.faces import Rate
from postroad.core.facts import Trouble
from postroad.ledger import server as server_module
from postroad.ledger import wire
from postroad.testing.simulated_loop import run_simulated


@pytest.fixture
def play(tmp_path):
    def player(script, workers=2):
        async def work():
            async with LedgerWorld(tmp_path, workers=workers, wait=simulated) as world:
                await script(world, *world.clients)

        run_simulated(work())

    return player


def hello(slot, since, incarnation="x"):
    return wire.Hello(slot, 2, incarnation, since)


def test_who_does_not_say_who_it_is_is_dropped(play):
    async def script(world, *_):
        async with stranger(world) as silent, stranger(world) as rude:
            rude.say(wire.Take(1, "to:a", 5))
            await simulated(lambda: rude.lost)
            assert not silent.lost
            await passes(server_module.HELLO_MAX + 1)
            assert silent.lost
        assert world.server._leases.held("to:a") == 0
        assert [fact.why for fact in world.outlet.of(Trouble) if not fact.over] == [
            "worker -1: it did not say who it is",
            "worker -1: silent for too long",
        ]

    play(script)


def test_octets_of_a_stranger_end_its_connection_and_nothing_else(play):
    async def script(world, one, _):
        async with stranger(world) as noise:
            noise.wire._transport.write(b"EHLO relay.example\r\n")
            await simulated(lambda: noise.lost)
        assert await one.take_connection("to:a", 1)
        assert any("a frame of" in fact.why for fact in world.outlet.of(Trouble))

    play(script)


def test_a_later_connection_of_a_worker_takes_the_place_of_the_earlier_one(play):
    """The ledger may read of a new process before it reads of the end of the old one."""

    async def script(world, one, two):
        assert [await two.take_connection("to:a", 3) for _ in range(3)] == [True] * 3
        for task in two._link._tasks:
            task.cancel()  # it hangs, and is replaced
        async with stranger(world) as successor:
            successor.say(hello(1, world.time() + 1), wire.Hold("to:a", 3, 1), wire.Announced())
            await simulated(lambda: successor.heard(wire.Settled))
            assert world.server._leases.held("to:a") == 1
            await passes(server_module.RETURN_MAX + 1)
            assert world.server._leases.held("to:a") == 1
            assert [await one.take_connection("to:a", 3) for _ in range(3)] == [True, True, False]

    play(script)


def test_an_earlier_connection_that_is_heard_late_changes_nothing(play):
    async def script(world, one, two):
        assert await two.take_connection("to:a", 3)
        async with stranger(world) as late:
            late.say(hello(1, 0.0), wire.Announced())
            await simulated(lambda: late.lost)
        await passes(server_module.RETURN_MAX + 1)
        assert world.server._leases.held("to:a") == 1
        assert two.is_there

    play(script)


def test_a_worker_that_says_nothing_for_long_is_dropped(play):
    async def script(world, one, two):
        world.kill_client(1)
        async with stranger(world) as hanging:
            hanging.say(hello(1, world.time() + 1), wire.Hold("to:a", 3, 3), wire.Announced())
            await passes(server_module.SILENCE_MAX - 1)
            assert not await one.take_connection("to:a", 3)
            await passes(server_module.RETURN_MAX + 3)
            assert hanging.lost
            assert await one.take_connection("to:a", 3)

    play(script)


def test_a_worker_that_left_and_is_back_keeps_what_it_holds_however_long_it_takes_to_say_it(play):
    async def script(world, one, two):
        world.kill_client(1)
        async with stranger(world) as before, stranger(world) as back:
            before.say(hello(1, world.time() + 1), wire.Hold("to:a", 1, 1), wire.Announced())
            await simulated(lambda: before.heard(wire.Settled))
            before.say(wire.Leaving())
            await simulated(lambda: before.lost)
            back.say(hello(1, world.time() + 2))
            await passes(server_module.RETURN_MAX + 1)
            assert not await one.take_connection("to:a", 1)
            back.say(wire.Announced())
            await simulated(lambda: back.heard(wire.Settled))
            await passes(1.1)
            assert await one.take_connection("to:a", 1), "it holds it no more"

    play(script)


def test_a_worker_that_left_and_does_not_come_back_holds_nothing(play):
    async def script(world, one, two):
        assert await two.take_connection("to:a", 1)
        two._link._wire.say(wire.Leaving())
        world.kill_client(1)
        await passes(server_module.RETURN_MAX + 1)
        assert await one.take_connection("to:a", 1)

    play(script)


def test_who_floods_and_never_reads_is_dropped_and_others_are_served(play):
    async def script(world, one, two):
        async with stranger(world) as flood:
            flood.say(hello(-1, world.time()))
            await simulated(lambda: flood.heard(wire.Welcome))
            flood.wire._transport.pause_reading()
            async with asyncio.timeout(60):
                while not any("not read" in fact.why for fact in world.outlet.of(Trouble)):
                    flood.say(*[wire.Marked(number, "x") for number in range(1000)])
                    await passes(0.001)
                    assert await one.take_tokens("to:a", Rate(1e6, 1)) == 0.0
        assert await two.take_connection("to:a", 1)

    play(script)


def test_there_are_only_so_many_connections(play, monkeypatch):
    monkeypatch.setattr(server_module, "PEERS_MAX", 4)

    async def script(world, one, _):
        async with stranger(world) as first, stranger(world) as second, stranger(world) as third:
            await simulated(lambda: third.lost)
            assert not first.lost
            assert not second.lost
        assert await one.take_connection("to:a", 1)

    play(script)


def test_closing_leaves_the_socket_to_the_next_ledger(play):
    async def script(world, one, two):
        await world.server.close()
        assert os.path.exists(world.path)
        assert world.bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        await world.until_away()
        await world.start_ledger()
        await world.until_there()
        assert await two.take_connection("to:a", 1)

    play(script)


def test_half_a_connection_is_none(play):
    async def script(world, one, two):
        assert await two.take_connection("to:a", 1)
        two._link._wire._transport.write_eof()
        await simulated(lambda: world.server._leases.held("to:a") == 0 or two._link.is_there)
        await simulated(lambda: two.is_there and world.server._leases.held("to:a") == 1)

    play(script)


def test_who_has_no_slot_gets_no_connections(play):
    """Nobody could tell whose they are, nor free them."""

    async def script(world, one, two):
        front = world.make_client(-1)
        world.clients.append(front)
        await simulated(lambda: front.is_there)
        assert not await front.take_connection("to:a", 5)
        assert await front.take_tokens("to:a", Rate(5, 60)) == 0.0
        assert [await one.take_tokens("to:a", Rate(5, 60)) for _ in range(5)].count(0.0) == 4

    play(script)
