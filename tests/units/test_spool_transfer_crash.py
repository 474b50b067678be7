"""A transfer that is broken off before every single operation of the disk, by a kill and by a power cut, and repeated.

Whatever was left where: every delivery is there once in the end, with its state; what the target ended meanwhile is not
there again; contents are whole.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count

import pytest
from tests.units.transfer_world import LARGE, NOW, SMALL, SOURCE, TARGET, Key, World

from postroad.core import facts, outcome, reply
from postroad.core.outcome import DeliveryState
from postroad.spool.face import Delivery, Ruling, Selection, SpoolRefused
from postroad.spool.removal import remove_shard
from postroad.spool.transfer import Transfer
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.simulated_loop import run_simulated

DONE = outcome.Delivered(reply.OK)
LATER = outcome.Deferred(reply.Reply(450, (2, 1), "Busy"), NOW + 600, "mx.y.example", outcome.Stage.RCPT)
CRASHES = ("kill", "power", "power with dice")


async def fill(world: World) -> dict[Key, Delivery]:
    await world.put(TARGET, "own@t.example")
    await world.put(SOURCE, "b@y.example", "c@z.example", "d@held.example")
    await world.put(SOURCE, "large@l.example", content=LARGE)
    await world.put(SOURCE, "gone@dropped.example")
    await world.put(SOURCE, "last@w.example")
    source = world.source
    for message in await source.claim("y.example", NOW, 10):
        source.record(message.id, [Ruling(0, LATER, DeliveryState.DUE, NOW + 600)])
    await source.hold(Selection(domain="held.example"))
    await source.drop(Selection(domain="dropped.example"), "by hand")
    await source.flush_records()
    return {**await world.held(SOURCE), **await world.held(TARGET)}


def crash_of(world: World, kind: str, seed: int):  # type: ignore[no-untyped-def]
    if kind == "kill":
        return world.killed
    return lambda: world.cut(SeededDice(seed) if kind == "power with dice" else None)


async def broken_off(world: World, kind: str, operation: int) -> bool:
    """Transfer until the disk stops at that operation; False if there were not so many."""
    world.crash_at(operation, crash_of(world, kind, operation))
    with suppress(SpoolRefused, OSError):
        await Transfer(world.source, world.target).run()
    is_broken = world.disk.is_off
    world.after_crash(is_power=kind != "kill")
    return is_broken


async def end_some(world: World) -> set[Key]:
    """Have the target deliver what is due of it, as between a crash and the repeated transfer."""
    ended: set[Key] = set()
    for domain in ("z.example", "l.example", "w.example"):
        for message in await world.target.claim(domain, NOW, 10):
            for delivery in message.deliveries:
                world.target.record(message.id, [Ruling(delivery.number, DONE, None)])
                ended.add((message.id, delivery.number))
    await world.target.flush_records()
    return ended


@pytest.mark.parametrize("ends", [False, True], ids=["waits", "delivers"])
@pytest.mark.parametrize("kind", CRASHES)
def test_a_transfer_broken_off_anywhere_is_repeated(kind: str, ends: bool) -> None:
    async def played(operation: int) -> bool:
        world = World()
        await world.open()
        before = await fill(world)
        is_broken = await broken_off(world, kind, operation)
        await world.open()
        ended = await end_some(world) if ends else set()
        left = {key: row for key, row in before.items() if key not in ended}
        assert left.items() <= {**await world.held(SOURCE), **await world.held(TARGET)}.items()
        await Transfer(world.source, world.target).run()
        assert await world.held(SOURCE) == {}
        assert await world.held(TARGET) == left
        for message in {message for message, _ in left}:
            assert await world.content(TARGET, message) in (SMALL, LARGE)
        rules = world.target.writer.store.read.execute("SELECT rule FROM dropped").fetchall()
        assert rules == [("by hand",)]
        assert world.target.writer.store.read.execute("SELECT * FROM arrived").fetchall() == []
        told = [one.message for one in world.outlet.of(facts.Transferred)]
        assert len(told) == len(set(told))
        await world.target.close()
        await world.source.close()
        return is_broken

    operations = next(number for number in count(1) if not run_simulated(played(number)))
    assert operations > 30


@pytest.mark.parametrize("fails", [False, True], ids=["well", "a sync fails"])
@pytest.mark.parametrize("kind", CRASHES)
def test_what_was_moved_does_not_come_back_from_a_half_removed_shard(kind: str, fails: bool) -> None:
    """The shard could not be checkpointed when it was closed: that its messages are gone stands in the WAL alone.

    Where a sync failed the removal is tried again, and its first steps are done then, but not durable.
    """

    def fail_a_sync(operation: str, path: str) -> None:
        if operation == "sync_directory":
            raise OSError("told to fail")

    async def played(operation: int) -> bool:
        world = World()
        await world.open()
        await fill(world)
        world.source.writer.store.checkpoint()
        await Transfer(world.source, world.target).run()
        world.source.writer.store.close(checkpoint=False)
        assert world.disk.exists("/data/shard-1/spool.db-wal")
        if fails:
            world.disk.on_operation = fail_a_sync
            with pytest.raises(OSError, match="told to fail"):
                remove_shard("/data/shard-1", world.disk)
        world.crash_at(operation, crash_of(world, kind, operation))
        with suppress(OSError):
            remove_shard("/data/shard-1", world.disk)
        is_broken = world.disk.is_off
        world.after_crash(is_power=kind != "kill")
        await world.open()
        assert await world.held(SOURCE) == {}
        await world.target.close()
        await world.source.close()
        return is_broken

    operations = next(number for number in count(1) if not run_simulated(played(number)))
    assert operations > 4
