"""Rates where a next hop takes long until it is ready: a message that is too late waits for its turn again."""

from __future__ import annotations

import asyncio

import pytest
from tests.units.outbound_world import Receiver, World, run

from postroad.core.faces import Rate
from postroad.core.facts import Attempted, Deferred
from postroad.core.outcome import Stage
from postroad.ledger.local import LocalLimits
from postroad.net.stream import SocketStream
from postroad.outbound.gate import Gate
from postroad.testing.simulated_loop import passes

BY_THE_MINUTE = """
[[route]]
to = "slow.example"
via = "smtp://192.0.2.1:1001"
[[destination]]
domain = "slow.example"
connections = 5
rate = "20/min"
"""


async def all_gone(world: World) -> None:
    """Return when everything is delivered, within an hour."""
    async with asyncio.timeout(3_600.0):
        while world.spool.left:
            await passes(1.0)


@pytest.mark.parametrize("seconds", [20.0, 40.0, 200.0])
def test_tokens_of_a_next_hop_that_had_hung_do_not_come_on_top_of_others(seconds: float) -> None:
    receiver = Receiver()

    async def work(world: World) -> None:
        receiver.greets_after = seconds
        for number in range(60):
            await world.put(f"a{number}@slow.example")
        await world.until(lambda: receiver.connections == 5)
        receiver.greets_after = 0.0
        await all_gone(world)
        assert len(receiver.at) == len(set(receiver.recipients)) == 60
        spans = [later - at for at, later in zip(receiver.at, receiver.at[20:], strict=False)]
        assert min(spans) >= 60.0 - min(seconds, 30.0), spans
        assert receiver.at[-1] < seconds + 200.0

    run(lambda: World(BY_THE_MINUTE, {1001: receiver}), work)


@pytest.mark.parametrize(("seconds", "rate"), [(40.0, "1/min"), (40.0, "20/min"), (40.0, "20/s"), (290.0, "2/min")])
def test_a_next_hop_that_always_greets_late_gets_its_mail(seconds: float, rate: str) -> None:
    receiver = Receiver()
    receiver.greets_after = seconds

    async def work(world: World) -> None:
        for number in range(10):
            await world.put(f"a{number}@slow.example")
        await all_gone(world)
        assert len(receiver.at) == len(set(receiver.recipients)) == 10
        assert receiver.at[-1] < 2 * 10 * 64.0 + seconds  # two tokens each at most, where each needs a new connection

    run(lambda: World(BY_THE_MINUTE.replace("20/min", rate), {1001: receiver}), work)


def test_no_more_jobs_in_a_row_are_too_late_than_lanes_can_have() -> None:
    now = 1_000.0
    gate = Gate(LocalLimits(lambda: now), "mx:mx0", lambda: now)
    for seconds, late in ((1.0, 10.0), (60.0, 30.0), (3_600.0, 1_800.0)):
        rate = Rate(20, seconds)
        assert not gate.is_too_late(rate, now - late, 2)
        for _ in range(2):
            found = [gate.is_too_late(rate, now - late - 0.1, 2) for _ in range(3)]
            assert found == [True, True, False]
    assert gate.is_too_late(rate, 0.0 - 1_000.0, 2)
    assert not gate.is_too_late(rate, now, 2)
    assert gate.is_too_late(rate, 0.0 - 1_000.0, 2)
    assert gate.is_too_late(rate, 0.0 - 1_000.0, 2)


class Dying(Receiver):
    """Hangs before the greeting, and then closes."""

    async def _talk(self, stream: SocketStream) -> None:
        await passes(self.seconds)


TWO_HOSTS = BY_THE_MINUTE.replace('"smtp://192.0.2.1:1001"', '["smtp://192.0.2.1:1001", "smtp://192.0.2.1:1002"]')


def test_a_host_that_is_slow_to_fail_holds_no_mail_up_that_the_next_takes_late() -> None:
    """The next one answers; that the job's turn had passed by then says nothing against the two."""
    dying, well = Dying(40.0), Receiver()

    async def work(world: World) -> None:
        for number in range(60):
            await world.put(f"a{number}@slow.example")
        await all_gone(world)
        assert len(well.at) == len(set(well.recipients)) == 60
        assert well.at[-1] < 40.0 + 5 * 60.0
        assert dying.connections > 5

    run(lambda: World(TWO_HOSTS, {1001: dying, 1002: well}), work)


def test_a_message_that_was_too_late_says_so() -> None:
    dying, well = Dying(40.0), Receiver()

    async def work(world: World) -> None:
        message = await world.put("bob@slow.example")
        await all_gone(world)
        story = [fact for fact in world.outlet.of(Attempted) if fact.message == message]
        first, late, taken = ((fact.stage, fact.reply and fact.reply.code) for fact in story)
        assert (first, late, taken) == ((Stage.GREETING, None), (Stage.MAIL, 451), (Stage.DOT, 250))
        assert "its turn under the rate passed" in str(story[1].reply)
        assert 40.0 <= story[1].seconds < 41.0
        assert [said.text.partition(" ")[0] for said in story[1].dialogue] == ["220", "EHLO", "250"]
        assert story[0].at <= story[1].at < story[2].at
        assert well.connections == 1

    run(lambda: World(TWO_HOSTS, {1001: dying, 1002: well}), work)


def status(world: World) -> str:
    state = world.outbound.describe("slow.example")
    return "" if state is None else state.status


def test_a_destination_taken_for_dead_lives_when_a_host_answers_though_too_late() -> None:
    receiver = Receiver()

    async def work(world: World) -> None:
        receiver.refuses_connections = True
        for number in range(30):
            await world.put(f"a{number}@slow.example")
        await world.until(lambda: bool(world.outlet.of(Deferred)))
        while status(world) != "down":
            await passes(1.0)
        receiver.refuses_connections, receiver.greets_after = False, 40.0
        await world.outlet.until(Attempted, lambda fact: fact.reply is not None and fact.reply.code == 451)
        assert not receiver.at
        assert status(world) == "slow", "open, and it is said why it had been closed"

    run(lambda: World(BY_THE_MINUTE, {1001: receiver}), work)
