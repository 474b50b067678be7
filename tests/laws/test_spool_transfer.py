"""Whatever is put, claimed, recorded and steered while one shard is transferred to another, and wherever both crash:
each delivery ends up once, in one of the two, or has ended.

The two shards stand on a disk in memory (tests/units/transfer_world.py). The model knows of each delivery what a person
would: where it waits in which state, or that it has ended. A transfer goes on by turns of the loop between the rules,
crashes happen before any operation of the disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from tests.units.transfer_world import LARGE, NOW, SMALL, SOURCE, TARGET, Key, World

from postroad.core import outcome, reply
from postroad.core.outcome import DeliveryState
from postroad.spool.face import Delivery, Ruling, Selection, SpoolRefused
from postroad.spool.transfer import Transfer
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.simulated_loop import SimulatedLoop

DONE = outcome.Delivered(reply.OK)
LATER = outcome.Deferred(reply.Reply(450, (2, 1), "Busy"), NOW + 600, "mx.y.example", outcome.Stage.RCPT)
FAILED = outcome.Failed(reply.RELAY_DENIED)
DOMAINS = ("y.example", "z.example", "w.example")
RULINGS = {
    "done": Ruling(0, DONE, None),
    "later": Ruling(0, LATER, DeliveryState.DUE, NOW),
    "failed": Ruling(0, FAILED, DeliveryState.REPORT_FAILED),
    "warned": Ruling(0, LATER, DeliveryState.DUE, 0.0, True),
}
NAMES = st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=3)
SHARDS = st.sampled_from([SOURCE, TARGET])


class TwoShards(RuleBasedStateMachine):
    """``rows`` says what each delivery is: a row is where the target says it is, else where the source does."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = SimulatedLoop()
        self.world = World()
        self.rows: dict[Key, Delivery] = {}
        self.ended: set[Key] = set()
        self.transfer: asyncio.Task[None] | None = None
        self.is_adopted = False
        self.play(self.world.open())

    def play(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.play(self.to_the_end())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    # --- what happens ---

    @rule(
        shard=SHARDS,
        domains=st.lists(st.sampled_from(DOMAINS), min_size=1, max_size=3),
        content=st.sampled_from([SMALL, LARGE]),
    )
    def put(self, shard: int, domains: list[str], content: bytes) -> None:
        async def work() -> None:
            to = (f"user{number}@{domain}" for number, domain in enumerate(domains))
            message = await self.world.put(shard, *to, content=content)
            held = await self.world.held(shard)
            self.rows |= {key: row for key, row in held.items() if key[0] == message}

        self.play(work())

    @rule(shard=SHARDS, domain=st.sampled_from(DOMAINS), how=st.sampled_from(sorted(RULINGS)), most=st.integers(1, 4))
    def deliver(self, shard: int, domain: str, how: str, most: int) -> None:
        """Once it is adopted, nothing is delivered from the source any more."""

        async def work() -> None:
            one = self.world.shards[TARGET if self.is_adopted else shard]
            for message in await one.claim(domain, NOW, most):
                for delivery in message.deliveries:
                    key = (message.id, delivery.number)
                    assert key not in self.ended
                    assert delivery == self.rows[key]
                    one.record(message.id, [msgspec.structs.replace(RULINGS[how], number=delivery.number)])
                    if how == "done":
                        self.ended.add(key)
                        del self.rows[key]
            await one.flush_records()
            await self.learn()

        self.play(work())

    @rule(domain=st.sampled_from(DOMAINS), turns=st.integers(0, 40))
    def look_at_some_for_a_while(self, domain: str, turns: int) -> None:
        """Claim in the source, let the transfer go on, and give it back."""

        async def work() -> None:
            claimed = await self.world.source.claim(domain, NOW, 2)
            await self.turn(turns)
            for message in claimed:
                self.world.source.unclaim(message.id, [delivery.number for delivery in message.deliveries])

        self.play(work())

    @rule(domain=st.sampled_from(DOMAINS), verb=st.sampled_from(["hold", "release", "drop", "bounce"]))
    def steer(self, domain: str, verb: str) -> None:
        """A person steers the whole relay, hence both."""

        async def work() -> None:
            selection = Selection(domain=domain)
            for shard in (SOURCE, TARGET):
                one = self.world.shards[shard]
                if verb == "hold":
                    await one.hold(selection)
                elif verb == "release":
                    await one.release(selection, NOW)
                elif verb == "drop":
                    await one.drop(selection, "by hand")
                else:
                    await one.bounce(selection, FAILED)
            now = await self.both()
            gone = {key for key, row in self.rows.items() if key not in now}
            assert all(verb == "drop" and self.rows[key].domain == domain for key in gone)
            self.ended |= gone
            for key in gone:
                del self.rows[key]
            await self.learn()

        self.play(work())

    # --- the transfer ---

    @rule(turns=st.integers(1, 60))
    def transfer_goes_on(self, turns: int) -> None:
        async def work() -> None:
            if self.transfer is None or self.transfer.done():
                self.transfer = asyncio.ensure_future(self.transferred())
            await self.turn(turns)

        self.play(work())

    async def transferred(self) -> None:
        self.is_adopted = True
        try:
            await Transfer(self.world.source, self.world.target).run()
        except (SpoolRefused, OSError):
            return  # the disk is off

    @precondition(lambda self: self.transfer is not None and not self.transfer.done())
    @rule()
    def transfer_is_cancelled(self) -> None:
        async def work() -> None:
            assert self.transfer is not None
            self.transfer.cancel()
            await asyncio.wait([self.transfer])

        self.play(work())

    @rule(operation=st.integers(1, 40), kind=st.sampled_from(["kill", "power", "dice"]), seed=st.integers(0, 9))
    def crash(self, operation: int, kind: str, seed: int) -> None:
        """Crash before so many more operations of the transfer; open both again."""

        async def work() -> None:
            dice = SeededDice(seed) if kind == "dice" else None
            self.world.crash_at(operation, self.world.killed if kind == "kill" else lambda: self.world.cut(dice))
            if self.transfer is None or self.transfer.done():
                self.transfer = asyncio.ensure_future(self.transferred())
            await asyncio.wait([self.transfer], timeout=5.0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            self.world.after_crash(is_power=kind != "kill")
            self.transfer = None
            await asyncio.sleep(0)
            await self.world.open()

        self.play(work())

    # --- the law ---

    @invariant()
    def each_is_somewhere(self) -> None:
        async def work() -> None:
            assert (await self.both()).keys() - self.ended == self.rows.keys()
            assert not self.ended & (await self.world.held(TARGET)).keys()

        self.play(work())

    async def both(self) -> dict[Key, Delivery]:
        """What the source holds, then the target: what moves in between is seen at least once."""
        source = await self.world.held(SOURCE)
        return {**source, **await self.world.held(TARGET)}

    async def learn(self) -> None:
        """Steering leaves alone what is on its way: take over what each delivery is, if that is what it may be."""
        now = await self.both()
        for key, row in self.rows.items():
            new = now[key]
            assert (new.domain, new.priority) == (row.domain, row.priority)
            assert new.attempts in (row.attempts, row.attempts + 1)
            self.rows[key] = new

    async def turn(self, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    async def to_the_end(self) -> None:
        if self.transfer is not None:
            await asyncio.wait([self.transfer])
        await Transfer(self.world.source, self.world.target).run()
        assert await self.world.held(SOURCE) == {}
        assert await self.world.held(TARGET) == self.rows
        for message in {message for message, _ in self.rows}:
            assert await self.world.content(TARGET, message) in (SMALL, LARGE)
        due = {row.domain for row in self.rows.values() if row.state == DeliveryState.DUE}
        assert set(self.world.target.due_domains(NOW, 9)) == due
        await self.world.source.close()
        await self.world.target.close()


TwoShards.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
test_nothing_is_lost_or_doubled = TwoShards.TestCase
