"""When a shard takes mail: what is free on its disk, and what is free inside its database.

Does not own: what follows a failing disk (test_spool_trouble.py), the running relay on a full one (tests/world).
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from postroad.core import facts, outcome, reply
from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.service.threads import WorkerThreads
from postroad.spool.face import NewMessage, Ruling, Why
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet

NOW = 1_800_000_000.0
DONE = outcome.Delivered(reply.OK)


class DiskOfItsOwn(OsDisk):
    """So much room, of which the database takes what it has grown to."""

    room = 4 * 1024 * 1024

    def free(self, path: str) -> int:
        return self.room - (Path(path) / "spool.db").stat().st_size


def test_room_inside_the_database_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that has filled the disk takes mail again when it is delivered, though its file stays as large."""
    monkeypatch.setattr("postroad.spool.ground.FREE_LOOK_EVERY", 0.0)

    def large(shard: Shard) -> NewMessage:
        envelope = Envelope(None, (Recipient(parse_mailbox("b@y.example")),))
        return NewMessage(shard.new_id(), envelope, bytes(40_000), NOW)

    async def looked(shard: Shard) -> Why | None:
        shard.refusing()
        await asyncio.gather(*shard._background)
        return shard.refusing()

    async def work() -> None:
        outlet = FakeOutlet()
        disk = DiskOfItsOwn()
        threads = WorkerThreads()
        shard = await Shard.take(
            str(tmp_path / "shard-0"),
            number=0,
            clock=FakeClock(NOW),
            outlet=outlet,
            disk=disk,
            threads=threads,
            settings=ShardSettings(min_free=disk.room // 2),
        )
        try:
            while await looked(shard) is None:
                await shard.put(large(shard))
                shard.writer.store.checkpoint()
            assert await looked(shard) is Why.FULL
            size = (tmp_path / "shard-0" / "spool.db").stat().st_size
            while claimed := await shard.claim("y.example", NOW, 10):
                for queued in claimed:
                    shard.record(queued.id, [Ruling(0, DONE, None)])
                await shard.flush_records()
            assert await looked(shard) is None
            await shard.put(large(shard))
            shard.writer.store.checkpoint()
            assert (tmp_path / "shard-0" / "spool.db").stat().st_size == size, "it did not grow"
            disk.room = size + disk.room // 2 // 5
            assert await looked(shard) is Why.FULL, "the disk itself must have some"
        finally:
            await shard.close()
            threads.close()
        assert [fact.over for fact in outlet.of(facts.Trouble) if fact.what == "disk"] == [False, True, False]

    asyncio.run(work())
