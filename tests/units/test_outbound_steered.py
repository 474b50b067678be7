"""Suspensions and overrides while mail flows: what stops, what goes on, what comes back, and when it ends."""

from __future__ import annotations

import asyncio

import pytest
from tests.units.outbound_world import ALICE, CONTENT, Receiver, World, run

from postroad.core import facts
from postroad.core.address import Mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.spool.face import NewMessage, Selection
from postroad.testing.simulated_loop import passes

TEXT = """
[[route]]
to = "a.example"
via = "smtp://192.0.2.1:1001"
[[route]]
to = "b.example"
via = "smtp://192.0.2.1:1001"
"""
KEY = "smtp:192.0.2.1:1001"
MX = {
    "one.example": {"MX": ["10 mx1.big.example.", "20 mx2.big.example."]},
    "two.example": {"MX": ["10 mx.small.example."]},
    "mx1.big.example": {"A": ["192.0.2.11"]},
    "mx2.big.example": {"A": ["192.0.2.12"]},
    "mx.small.example": {"A": ["192.0.2.13"]},
}


def play(work, text: str = TEXT, *, port: int = 1001, seconds: float = 0.0, zone=None) -> None:
    receiver: list[Receiver] = []

    def make() -> World:
        receiver.append(Receiver(seconds))
        return World(text, {port: receiver[0]}, zone=zone)

    async def with_receiver(world: World) -> None:
        await work(world, receiver[0])

    run(make, with_receiver)


def domains(receiver: Receiver) -> set[str]:
    return {address.partition("@")[2] for address in receiver.recipients}


def attempts(world: World) -> set[int]:
    return {row.attempts for message in world.spool.rows() for row in message.deliveries}


@pytest.mark.parametrize("name", ["a.example", "*.example", "*", KEY])
def test_a_suspended_destination_gets_nothing_until_it_is_resumed(name: str) -> None:
    async def work(world: World, receiver: Receiver) -> None:
        world.suspend(name)
        for number in range(5):
            await world.put(f"bob{number}@a.example")
        await passes(100.0)
        assert (receiver.connections, world.spool.left, world.spool.claimed) == (0, 5, 0)
        assert attempts(world) == {0}
        state = world.outbound.describe("a.example")
        assert state is not None
        assert (state.status, state.trouble) == ("suspended", "suspended by root: their wish")
        world.suspend()
        before = asyncio.get_running_loop().time()
        assert await world.until(lambda: world.spool.left == 0) - before < 1.5
        assert world.outlet.of(facts.Deferred) == []

    play(work)


def test_a_suspension_ends_by_itself_and_says_when() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        await world.put("first@a.example")
        await world.until(lambda: world.spool.left == 0)
        start = asyncio.get_running_loop().time()
        world.suspend("a.example", until=3600.0)
        await world.put("bob@a.example")
        state = world.outbound.describe("a.example")
        assert state is not None
        assert state.name == KEY
        assert state.trouble.startswith("suspended by root until 2026-01-01T13:00:0")
        await passes(3599.0)
        assert len(receiver.at) == 1
        assert await world.until(lambda: world.spool.left == 0) - start < 3602.0
        state = world.outbound.describe("a.example")
        assert state is None or state.status == "open"

    play(work)


def test_what_is_in_hand_finishes_and_what_waits_goes_back_untouched() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        receiver.go.clear()
        for number in range(30):
            await world.put(f"bob{number}@a.example")
            await world.put(f"eve{number}@b.example")
        await world.until(lambda: receiver.open == 5)
        world.suspend("a.example")
        receiver.go.set()
        await world.until(lambda: world.spool.left < 30)
        await passes(60.0)
        to_a = [one for one in receiver.recipients if one.endswith("@a.example")]
        assert 1 <= len(to_a) <= 5  # the attempts in hand
        assert len(receiver.at) == 30 + len(to_a)
        assert world.spool.left == 30 - len(to_a)
        assert (world.spool.claimed, attempts(world)) == (0, {0})
        world.suspend()
        await world.until(lambda: world.spool.left == 0)
        assert len(receiver.recipients) == len(set(receiver.recipients)) == 60

    play(work)


def test_what_is_being_claimed_when_it_is_suspended_goes_back() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        world.suspend("a.example")
        for number in range(5):
            await world.put(f"bob{number}@a.example")
        await passes(3.0)
        world.suspend()
        await world.until(lambda: world.spool.claims == 1)
        world.suspend("a.example")
        await passes(3.0)
        assert (receiver.connections, world.spool.left, world.spool.claimed) == (0, 5, 0)

    play(work)


def test_a_message_for_two_domains_goes_to_the_one_that_is_not_suspended() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        world.suspend("a.example")
        await world.put("bob@a.example", "eve@b.example")
        await world.until(lambda: world.spool.left == 1)
        assert receiver.recipients == ["eve@b.example"]
        world.suspend()
        await world.until(lambda: world.spool.left == 0)
        assert receiver.recipients == ["eve@b.example", "bob@a.example"]

    play(work)


def test_a_flush_does_not_break_a_suspension_and_asks_nothing_of_the_spool() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        world.suspend("a.example")
        for number in range(50):
            await world.put(f"bob{number}@a.example")
        await passes(5.0)
        for _ in range(3):
            await world.spool.flush(Selection(), world.clock.now())
            world.outbound.wake()
            await passes(5.0)
        await passes(7200.0)
        assert (receiver.connections, world.spool.claims, world.spool.left) == (0, 0, 50)
        await world.put("eve@b.example")
        await world.until(lambda: world.spool.left == 50)

    play(work)


def test_an_mx_host_is_suspended_once_it_is_known_and_others_are_not() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        world.suspend("mx:*.big.example")
        for number in range(10):
            await world.put(f"bob{number}@one.example")
            await world.put(f"bob{number}@two.example")
        await world.until(lambda: world.spool.left == 10)
        await passes(3000.0)
        assert domains(receiver) == {"two.example"}
        assert (world.spool.claimed, attempts(world)) == (0, {0})
        assert world.spool.claims < 10
        state = world.outbound.describe("one.example")
        assert state is None or state.status == "suspended"
        world.suspend()
        await world.until(lambda: world.spool.left == 0)

    play(work, "", port=25, zone=MX)


def test_mail_for_a_suspended_destination_is_warned_of_and_expires() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        world.suspend("a.example")
        message = await world.put("bob@a.example")
        await passes(4 * 3600.0 + 120.0)
        [reported] = world.outlet.of(facts.Reported)
        assert (reported.action, reported.message) == ("delayed", message)
        await passes(7200.0)
        assert [fact.message for fact in world.outlet.of(facts.Expired)] == [message]
        assert receiver.recipients.count("alice@b.example") == 2

    class FromB(World):
        async def put(self, *recipients: str):  # reports come back by the same way
            envelope = Envelope(Mailbox("alice", "b.example"), (Recipient(Mailbox("bob", "a.example")),))
            message = self.spool.new_id()
            await self.spool.put(NewMessage(message, envelope, CONTENT, self.clock.now()))
            return message

    assert str(ALICE) != "alice@b.example"
    receiver: list[Receiver] = []

    def make() -> World:
        receiver.append(Receiver())
        return FromB('[retry]\nexpire = "5h"\n' + TEXT, {1001: receiver[0]})

    run(make, lambda world: work(world, receiver[0]))


def test_a_lowered_number_of_connections_holds_after_the_job_in_hand() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        for number in range(200):
            await world.put(f"bob{number}@a.example")
        await world.until(lambda: receiver.open >= 10)
        world.override(KEY, connections=2)
        await passes(0.4)
        assert receiver.open == 2
        receiver.open_max = 0
        for _ in range(10):
            await passes(0.1)
            assert receiver.open == 2
        assert receiver.open_max <= 2
        world.overrides = []
        world.steer()
        await world.until(lambda: receiver.open > 2)
        await world.until(lambda: world.spool.left == 0)

    play(work, seconds=0.2)


def test_a_rate_holds_from_the_moment_it_is_given() -> None:
    async def work(world: World, receiver: Receiver) -> None:
        world.override("mx:mx.example", rate="1/hour")  # of another
        for number in range(30):
            await world.put(f"bob{number}@a.example")
        await world.until(lambda: len(receiver.at) == 30)
        world.override("*", rate="5/s", messages_per_connection=3)
        receiver.at.clear()
        before = receiver.connections
        for number in range(30):
            await world.put(f"eve{number}@a.example")
        await world.until(lambda: len(receiver.at) == 30)
        assert receiver.at[-1] - receiver.at[0] >= 5.0
        assert receiver.connections - before >= 10
        world.override("*", rate="none")
        start = asyncio.get_running_loop().time()
        for number in range(30):
            await world.put(f"dan{number}@a.example")
        assert await world.until(lambda: world.spool.left == 0) - start < 0.5

    play(work)


def test_an_override_of_a_domain_is_one_of_that_domain_alone() -> None:
    """Both domains have the same next hop: the one with limits of its own becomes a destination of its own."""

    async def work(world: World, receiver: Receiver) -> None:
        for number in range(20):
            await world.put(f"bob{number}@a.example")
            await world.put(f"eve{number}@b.example")
        await world.until(lambda: receiver.open >= 4)
        world.override("a.example", rate="1/min")
        await world.until(
            lambda: not any(row.domain == "b.example" for m in world.spool.rows() for row in m.deliveries)
        )
        assert world.spool.left > 5
        await world.put("late@a.example")
        await passes(1.0)
        state = world.outbound.describe("a.example")
        assert state is not None
        assert state.name == f"{KEY}@a.example"
        world.overrides = []
        world.steer()
        await world.until(lambda: world.spool.left == 0)
        assert len(set(receiver.recipients)) == len(receiver.recipients) == 41

    play(work, seconds=0.05)
