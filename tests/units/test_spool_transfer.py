"""Transfer between two shards on a real disk: everything that a row says moves, once, whatever is steered meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
from tests.units.test_spool_shard import NOW, content_of, message, run

from postroad.core import facts, outcome, reply
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.service.threads import WorkerThreads
from postroad.spool.face import NewMessage, QueuedMessage, Ruling, Selection
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard
from postroad.spool.transfer import Transfer
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet

EVERY = Selection()
LARGE = bytes(range(256)) * 1024
LATER = outcome.Deferred(reply.Reply(450, (2, 1), "Busy"), NOW + 600, "mx.y.example", outcome.Stage.RCPT)
FAILED = outcome.Failed(reply.RELAY_DENIED)


@asynccontextmanager
async def opened(
    place: Path, number: int, outlet: FakeOutlet | None = None, disk: OsDisk | None = None
) -> AsyncIterator[Shard]:
    threads = WorkerThreads()
    shard = await Shard.take(
        str(place / f"shard-{number}"),
        number=number,
        clock=FakeClock(NOW),
        outlet=outlet or FakeOutlet(),
        disk=disk or OsDisk(),
        threads=threads,
        settings=ShardSettings(min_free=0),
    )
    try:
        yield shard
    finally:
        await shard.close()
        threads.close()


async def large(shard: Shard, content: bytes = LARGE) -> MessageId:
    new = message(shard)
    writer = shard.begin_body(new.id)
    await writer.write(content)
    await shard.put(NewMessage(new.id, new.envelope, await writer.finish(), NOW))
    return new.id


async def every(shard: Shard) -> list[QueuedMessage]:
    return list((await shard.list(EVERY, after=None, limit=100_000)).messages)


async def fill(shard: Shard) -> list[QueuedMessage]:
    """Have a message in every state, one with a content in a file, and one that was dropped."""
    both = message(shard, "b@y.example", "c@z.example", "d@held.example")
    await shard.put(both)
    await shard.claim("y.example", NOW, 10)
    shard.record(both.id, [Ruling(0, LATER, DeliveryState.DUE, NOW + 600)])
    await shard.hold(Selection(domain="held.example"))
    failed = message(shard, "e@failed.example")
    await shard.put(failed)
    await shard.claim("failed.example", NOW, 10)
    shard.record(failed.id, [Ruling(0, FAILED, DeliveryState.REPORT_FAILED)])
    await shard.flush_records()
    await shard.claim("z.example", NOW, 10)
    shard.record(both.id, [Ruling(1, LATER, DeliveryState.DUE, 0.0, True)])  # warned
    await shard.put(message(shard, "f@dropped.example"))
    await shard.drop(Selection(domain="dropped.example"), "by hand")
    await large(shard)
    await shard.flush_records()
    return await every(shard)


def test_everything_that_a_row_says_moves(tmp_path: Path) -> None:
    async def work() -> None:
        outlet = FakeOutlet()
        async with opened(tmp_path, 1) as source, opened(tmp_path, 0, outlet) as target:
            own = message(target, "own@y.example")
            await target.put(own)
            before = await fill(source)
            counts = source.stats()
            await Transfer(source, target).run()
            assert await every(source) == []
            assert (source.stats().messages, source.stats().recipients, source.stats().octets) == (0, 0, 0)
            after = {one.id: one for one in await every(target)}
            assert after.pop(own.id).id == own.id
            assert list(after.values()) == before
            assert [one.recipients for one in outlet.of(facts.Transferred)] == [3, 1, 1]
            assert target.stats().recipients == counts.recipients + 1
            assert target.stats().octets == counts.octets + len(own.content)
            assert (target.stats().held, target.stats().reports) == (1, 1)
            assert target.due_reports(10) == [before[1].id]
            assert sorted(target.due_domains(NOW, 10)) == ["y.example", "z.example"]
            assert await content_of(target, before[2].id) == LARGE
        assert rows(tmp_path, 0, "SELECT rule FROM dropped") == [("by hand",)]
        assert list((tmp_path / "shard-1" / "bodies").iterdir()) == []
        async with opened(tmp_path, 0) as target:
            assert {one.id: one for one in await every(target)} == {own.id: (await target.show(own.id)), **after}
            assert await content_of(target, before[2].id) == LARGE

    run(work())


def rows(place: Path, number: int, sql: str) -> list[tuple[object, ...]]:
    database = apsw.Connection(str(place / f"shard-{number}" / "spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
    found = [tuple(row) for row in database.execute(sql)]
    database.close()
    return found
