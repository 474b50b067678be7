"""What changes while a slice of the queue is read for a person: it is looked at again, and only then left alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.units.test_spool_shard import NOW, message, opened, run

from postroad.core import facts, outcome, reply
from postroad.core.outcome import DeliveryState
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import Changed, Ruling, Selection, SpoolRefused, Why
from postroad.spool.shard import Shard
from postroad.spool.slices import LOOKS_MAX
from postroad.testing.fake_outlet import FakeOutlet

Meanwhile = Callable[[int], Any]


def watched(shard: Shard, meanwhile: Meanwhile) -> list[int]:
    """Have ``meanwhile`` be done after each read of a slice, before it is judged; return the numbers of the reads.

    What ``meanwhile`` itself reads is read as ever.
    """
    looks: list[int] = []
    check = shard._check_rows

    async def slow(rows: Any, heads: Any) -> Any:
        found = await check(rows, heads)
        looks.append(len(looks) + 1)
        shard._check_rows = check  # type: ignore[method-assign]
        await meanwhile(looks[-1])
        shard._check_rows = slow  # type: ignore[method-assign]
        return found

    shard._check_rows = slow  # type: ignore[method-assign]
    return looks


async def claim_and_give_back(shard: Shard) -> None:
    for one in await shard.claim("y.example", NOW, 10):
        shard.unclaim(one.id, [row.number for row in one.deliveries])


@pytest.mark.parametrize("restless", [1, LOOKS_MAX - 1, LOOKS_MAX])
def test_what_was_touched_while_it_was_read_is_read_again(tmp_path: Path, restless: int) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            for _ in range(4):
                await shard.put(message(shard))

            async def meanwhile(look: int) -> None:
                if look <= restless:
                    await claim_and_give_back(shard)

            looks = watched(shard, meanwhile)
            changed = await shard.hold(Selection())
            in_flight = 4 if restless == LOOKS_MAX else 0
            assert changed == Changed(4 - in_flight, 4 - in_flight, in_flight)
            assert len(looks) == min(restless + 1, LOOKS_MAX)
            assert (shard.stats().held, shard.agenda.changing) == (4 - in_flight, set())

    run(work())


def test_what_was_tried_while_it_was_read_is_held_as_it_is_now(tmp_path: Path) -> None:
    later = Ruling(0, outcome.Deferred(reply.LOCAL_TROUBLE, NOW + 300), DeliveryState.DUE, NOW + 300)

    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            await shard.put(new)

            async def meanwhile(look: int) -> None:
                if look == 1:
                    await shard.claim("y.example", NOW, 10)
                    shard.record(new.id, [later])
                    await shard.flush_records()

            watched(shard, meanwhile)
            assert await shard.hold(Selection()) == Changed(1, 1, 0)
            shown = await shard.show(new.id)
            assert shown is not None
            row = shown.deliveries[0]
            assert (row.state, row.attempts, row.due_at) == (DeliveryState.HELD, 1, NOW + 300)

    run(work())


def test_what_was_released_and_claimed_since_it_was_read_is_no_longer_meant(tmp_path: Path) -> None:
    """Its claim only waits, and is newer than what was read: a person who deletes what is held does not mean it."""

    async def work() -> None:
        async with opened(tmp_path) as shard:
            await shard.put(message(shard))
            await shard.hold(Selection())
            claimed = []

            def want_back(wanted: Any, take: bool) -> Any:
                shard.unclaim(claimed[0].id, [0])
                return claimed[0].deliveries

            shard.on_wanted_back(want_back)

            async def meanwhile(look: int) -> None:
                if look == 1:
                    await shard.release(Selection(), NOW)
                    claimed.extend(await shard.claim("y.example", NOW, 10))

            watched(shard, meanwhile)
            assert (await shard.drop(Selection(state="held"), "queue delete by root")).recipients == 0
            assert len(claimed) == 1
            assert len(await shard.claim("y.example", NOW, 10)) == 1

    run(work())


def test_what_was_given_back_for_a_change_that_the_disk_refuses_is_due_again(tmp_path: Path) -> None:
    def refuse() -> None:
        raise StoreTrouble(Why.TROUBLE, "the disk is away")

    async def work() -> None:
        outlet = FakeOutlet()
        async with opened(tmp_path, outlet=outlet) as shard:
            for _ in range(3):
                await shard.put(message(shard))
            claimed = await shard.claim("y.example", NOW, 10)

            def want_back(wanted: Any, take: bool) -> Any:
                for one in claimed:
                    shard.unclaim(one.id, [0])
                return [one.deliveries[0] for one in claimed]

            shard.on_wanted_back(want_back)
            shard.writer.store.write.commit = refuse  # type: ignore[method-assign]
            with pytest.raises(SpoolRefused):
                await shard.hold(Selection())
            assert shard.agenda.changing == set()
            async with asyncio.timeout(30):
                await outlet.until(facts.Trouble, lambda fact: fact.over)
            assert shard.stats().held == 0
            assert len(await shard.claim("y.example", NOW, 10)) == 3

    run(work())
