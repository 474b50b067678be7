"""When a shard takes mail: what is free on its disk, and what is free inside its database.

Does not own: what follows a failing disk (test_spool_trouble.py), the running relay on a full one (tests/world).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from postroad.core import facts, outcome, reply
from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.outcome import DeliveryState
from postroad.service.threads import WorkerThreads
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import NewMessage, Ruling, SpoolRefused, Why
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


class DiskWithItsWal(OsDisk):
    """So much room, of which database and WAL take what they have grown to."""

    room = 8 * 1024 * 1024

    def free(self, path: str) -> int:
        return self.room - sum((Path(path) / name).stat().st_size for name in ("spool.db", "spool.db-wal"))


@asynccontextmanager
async def opened(place: Path, disk: OsDisk, *, min_free: int, outlet: FakeOutlet) -> AsyncIterator[Shard]:
    threads = WorkerThreads()
    shard = await Shard.take(
        str(place / "shard-0"),
        number=0,
        clock=FakeClock(NOW),
        outlet=outlet,
        disk=disk,
        threads=threads,
        settings=ShardSettings(min_free=min_free),
    )
    try:
        yield shard
    finally:
        await shard.close()
        threads.close()


def large(shard: Shard) -> NewMessage:
    envelope = Envelope(None, (Recipient(parse_mailbox("b@y.example")),))
    return NewMessage(shard.new_id(), envelope, bytes(40_000), NOW)


async def deliver_all(shard: Shard) -> None:
    while claimed := await shard.claim("y.example", NOW, 10):
        for queued in claimed:
            shard.record(queued.id, [Ruling(0, DONE, None)])
        await shard.flush_records()


async def looked(shard: Shard) -> Why | None:
    """Return what a shard says that has just looked at its disk."""
    shard.refusing()
    await asyncio.gather(*shard._background)
    return shard.refusing()


def database(place: Path) -> int:
    return (place / "shard-0" / "spool.db").stat().st_size


def wal(place: Path) -> int:
    return (place / "shard-0" / "spool.db-wal").stat().st_size


@pytest.fixture(autouse=True)
def looks_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroad.spool.ground.FREE_LOOK_EVERY", 0.0)


def test_room_inside_the_database_is_room(tmp_path: Path) -> None:
    """A queue that has filled the disk takes mail again when it is delivered, though its file stays as large."""

    async def work() -> None:
        outlet, disk = FakeOutlet(), DiskOfItsOwn()
        async with opened(tmp_path, disk, min_free=disk.room // 2, outlet=outlet) as shard:
            while await looked(shard) is None:
                await shard.put(large(shard))
                shard.writer.store.checkpoint()
            size = database(tmp_path)
            await deliver_all(shard)
            assert await looked(shard) is None
            await shard.put(large(shard))
            shard.writer.store.checkpoint()
            assert database(tmp_path) == size, "it did not grow"
            disk.room = size + disk.room // 2 // 5
            assert await looked(shard) is Why.FULL, "the disk itself must have some"
        assert [fact.over for fact in outlet.of(facts.Trouble) if fact.what == "disk"] == [False, True, False]

    asyncio.run(work())


def test_room_that_only_the_wal_knows_is_none(tmp_path: Path) -> None:
    """The database's file has yet to grow by it."""

    async def work() -> None:
        disk = DiskOfItsOwn()
        async with opened(tmp_path, disk, min_free=disk.room // 2, outlet=FakeOutlet()) as shard:
            for _ in range(40):
                await shard.put(large(shard))
            await deliver_all(shard)
            free = await shard.reads(lambda store: store.transfer.free_octets())
            assert free > disk.room // 4
            disk.room = database(tmp_path) + disk.room // 2 - free // 2
            assert await looked(shard) is Why.FULL

    asyncio.run(work())


def test_what_the_wal_grew_to_is_given_back(tmp_path: Path) -> None:
    """Else a queue that has filled the disk by its WAL would refuse mail for ever, with nothing left in it."""

    async def work() -> None:
        outlet, disk = FakeOutlet(), DiskWithItsWal()
        async with opened(tmp_path, disk, min_free=disk.room // 2, outlet=outlet) as shard:
            while await looked(shard) is None:
                await shard.put(large(shard))
            assert wal(tmp_path) == 0, "it was emptied at once"
            assert await looked(shard) is None, "and mail is taken again"
            assert await looked(shard) is None
        assert [fact.over for fact in outlet.of(facts.Trouble) if fact.what == "disk"] == [False, True]

    asyncio.run(work())


def test_many_at_once_leave_the_room_that_their_wal_needs(tmp_path: Path) -> None:
    """The database has yet to grow by what came in one sync with others: else the disk is full when it is copied."""

    async def work() -> None:
        outlet, disk = FakeOutlet(), DiskWithItsWal()
        disk.room = 24 * 1024 * 1024
        async with opened(tmp_path, disk, min_free=10 * 1024 * 1024, outlet=outlet) as shard:
            store, path = shard.writer.store, str(tmp_path / "shard-0")
            least = disk.room
            while await looked(shard) is None:
                puts = [shard.put(large(shard)) for _ in range(50)]
                assert await asyncio.gather(*puts) == [None] * 50
                whole, _ = await shard.reads(lambda store: store.transfer.room())
                least = min(least, disk.free(path) - (whole - store.file_octets))
            assert least > 0
            while messages := shard.stats().messages:
                for queued in await shard.claim("y.example", NOW, 50):
                    shard.record(queued.id, [Ruling(0, DONE, None)])
                await shard.flush_records()
                await asyncio.gather(*shard._background)
                assert shard.stats().messages < messages
                assert disk.free(path) > 0
            assert await looked(shard) is None, "and mail is taken again"
        assert not [fact for fact in outlet.of(facts.Trouble) if fact.what == "spool"]

    asyncio.run(work())


def test_a_wal_for_which_there_is_no_room_stays(tmp_path: Path) -> None:
    """What somebody else has left must not be used up by copying: outcomes have to be written."""

    async def work() -> None:
        outlet, disk = FakeOutlet(), DiskWithItsWal()
        disk.room = 100 * 1024 * 1024
        async with opened(tmp_path, disk, min_free=10 * 1024 * 1024, outlet=outlet) as shard:
            await asyncio.gather(*(shard.put(large(shard)) for _ in range(100)))
            size, path = wal(tmp_path), str(tmp_path / "shard-0")
            disk.room = disk.room - disk.free(path) + 5 * 1024 * 1024
            for _ in range(2):
                assert await looked(shard) is Why.FULL
                assert wal(tmp_path) == size

    asyncio.run(work())


def test_a_wal_that_somebody_reads_stays(tmp_path: Path) -> None:
    """Nobody waits for the reader: the next look tries again."""

    async def work() -> None:
        async with opened(tmp_path, OsDisk(), min_free=0, outlet=FakeOutlet()) as shard:
            store = shard.writer.store
            await shard.put(large(shard))
            reader = apsw.Connection(store.path)
            assert reader.execute("BEGIN; SELECT count(*) FROM message").get == 1
            assert store.empty_wal() is False
            assert wal(tmp_path) > store.wal_file_octets > 0  # each page has a header there
            reader.close()
            assert store.empty_wal() is True
            assert wal(tmp_path) == store.wal_file_octets == 0
            await shard.put(large(shard))
            assert shard.stats().messages == 2

    asyncio.run(work())


def test_nothing_is_written_to_a_store_that_could_not_be_emptied(tmp_path: Path) -> None:
    """Who waits for the turn meanwhile finds the store given up: after a failed sync nothing is appended to it."""

    async def work() -> None:
        outlet = FakeOutlet()
        async with opened(tmp_path, OsDisk(), min_free=0, outlet=outlet) as shard:
            await shard.put(large(shard))
            (queued,) = await shard.claim("y.example", NOW, 10)
            old, may_fail, commits = shard.writer.store, threading.Event(), list[str]()

            def fails() -> bool:
                assert may_fail.wait(10)
                raise StoreTrouble(Why.TROUBLE, "disk I/O error")

            old.empty_wal, old.commit = fails, lambda: commits.append("commit")  # type: ignore[method-assign]
            emptying = asyncio.create_task(shard._empty_wal())
            await asyncio.sleep(0)
            shard.record(queued.id, [Ruling(0, DONE, None)])
            shard.writer.kick()
            await asyncio.sleep(0)
            may_fail.set()
            await emptying
            while shard.refusing() is not None:
                await asyncio.sleep(0)
            await shard.flush_records()
            assert not commits
            assert shard.stats().messages == 0
        assert [fact.over for fact in outlet.of(facts.Trouble)] == [False, True]

    asyncio.run(work())


def test_a_report_is_taken_where_there_is_little_room(tmp_path: Path) -> None:
    """Else nobody hears what became of mail that was kept, for as long as something else fills the disk."""

    async def work() -> None:
        disk, failed = OsDisk(), outcome.Failed(reply.RELAY_DENIED)
        async with opened(tmp_path, disk, min_free=0, outlet=FakeOutlet()) as shard:
            told_of = large(shard)
            await shard.put(told_of)
            await shard.claim("y.example", NOW, 10)
            shard.record(told_of.id, [Ruling(0, failed, DeliveryState.REPORT_FAILED)])
        async with opened(tmp_path, disk, min_free=2**62, outlet=FakeOutlet()) as shard:
            assert await looked(shard) is Why.FULL
            assert await shard.claim_report(told_of.id) is not None
            await shard.put(large(shard), replaces=[(told_of.id, [Ruling(0, failed, None)])])
            assert (shard.stats().messages, shard.stats().reports) == (1, 0)

    asyncio.run(work())


def test_a_report_of_a_delay_is_not_taken_where_there_is_little_room(tmp_path: Path) -> None:
    """It ends nothing: those of a long queue would fill the disk."""

    async def work() -> None:
        disk, later = OsDisk(), outcome.Deferred(reply.LOCAL_TROUBLE, NOW + 300)
        ended = Ruling(0, DONE, None)
        delayed = Ruling(1, later, DeliveryState.DUE, NOW + 300, warned=True)
        async with opened(tmp_path, disk, min_free=0, outlet=FakeOutlet()) as shard:
            recipients = tuple(Recipient(parse_mailbox(f"{name}@y.example")) for name in "bc")
            told_of = NewMessage(shard.new_id(), Envelope(None, recipients), b"x", NOW)
            await shard.put(told_of)
        async with opened(tmp_path, disk, min_free=2**62, outlet=FakeOutlet()) as shard:
            assert await looked(shard) is Why.FULL
            await shard.claim("y.example", NOW, 10)
            for rulings in ([delayed], [ended, delayed]):
                with pytest.raises(SpoolRefused) as refused:
                    await shard.put(large(shard), replaces=[(told_of.id, rulings)])
                assert refused.value.why is Why.FULL
            await shard.put(large(shard), replaces=[(told_of.id, [ended])])
            assert shard.stats().messages == 2

    asyncio.run(work())


def test_a_report_waits_where_too_much_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while there is little room: what waits is held in memory."""

    async def work() -> None:
        disk, failed = OsDisk(), outcome.Failed(reply.RELAY_DENIED)
        async with opened(tmp_path, disk, min_free=0, outlet=FakeOutlet()) as shard:
            told_of = large(shard)
            await shard.put(told_of)
        async with opened(tmp_path, disk, min_free=2**62, outlet=FakeOutlet()) as shard:
            assert await looked(shard) is Why.FULL
            await shard.claim("y.example", NOW, 10)
            monkeypatch.setattr("postroad.spool.writer.WAITING_PUTS", 0)
            with pytest.raises(SpoolRefused) as refused:
                await shard.put(large(shard), replaces=[(told_of.id, [Ruling(0, failed, None)])])
            assert refused.value.why is Why.BUSY

    asyncio.run(work())
