"""The shard on a real disk: put, claim, record, steer, reopen, damage, a disk that refuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest

from postroad.core import outcome, reply
from postroad.core.address import parse_mailbox
from postroad.core.envelope import Envelope, Recipient
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.service.threads import WorkerThreads
from postroad.spool import store_read
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import ContentDamaged, NewMessage, Ruling, Selection, SpoolRefused, Why
from postroad.spool.ground import ShardSettings
from postroad.spool.owner import ShardOwned
from postroad.spool.real_disk import OsDisk
from postroad.spool.shard import Shard
from postroad.spool.writer import BATCH_PUTS
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet

NOW = 1_800_000_000.0
DONE = outcome.Delivered(reply.OK)


@asynccontextmanager
async def opened(place: Path, *, min_free: int = 0, outlet: FakeOutlet | None = None) -> AsyncIterator[Shard]:
    threads = WorkerThreads()
    shard = await Shard.take(
        str(place / "shard-0"),
        number=0,
        clock=FakeClock(NOW),
        outlet=outlet or FakeOutlet(),
        disk=OsDisk(),
        threads=threads,
        settings=ShardSettings(min_free=min_free),
    )
    try:
        yield shard
    finally:
        await shard.close()
        threads.close()


def message(
    shard: Shard, *to: str, content: bytes = b"Subject: x\r\n\r\nhello\r\n", sender: str = "a@x.example"
) -> NewMessage:
    recipients = tuple(Recipient(parse_mailbox(address)) for address in to or ("b@y.example",))
    envelope = Envelope(parse_mailbox(sender) if sender else None, recipients)
    return NewMessage(shard.new_id(), envelope, content, NOW)


async def content_of(shard: Shard, message: MessageId) -> bytes:
    reader = await shard.open(message)
    pieces, offset = [], 0
    while piece := await reader.read(offset, 1000):
        pieces.append(piece)
        offset += len(piece)
    reader.close()
    return b"".join(pieces)


def run(work) -> None:  # type: ignore[no-untyped-def]
    asyncio.run(work)


def test_what_is_put_is_claimed_read_and_gone_when_recorded(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard, "b@y.example", "c@y.example", "d@z.example")
            await shard.put(new)
            assert sorted(shard.due_domains(NOW, 10)) == ["y.example", "z.example"]
            (claimed,) = await shard.claim("y.example", NOW, 10)
            assert [one.number for one in claimed.deliveries] == [0, 1]
            assert await shard.claim("y.example", NOW, 10) == []
            assert await content_of(shard, new.id) == new.content
            shard.record(new.id, [Ruling(0, DONE, None), Ruling(1, DONE, None)])
            await shard.flush_records()
            assert (shard.stats().messages, shard.stats().recipients) == (1, 1)
            (claimed,) = await shard.claim("z.example", NOW, 10)
            shard.record(new.id, [Ruling(2, DONE, None)])
            await shard.flush_records()
            assert (shard.stats().messages, shard.stats().recipients, shard.stats().octets) == (0, 0, 0)
            assert shard.next_due_at() is None

    run(work())


def test_a_reopened_shard_holds_what_was_put_and_not_what_ended(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            kept, ended = message(shard), message(shard, "c@y.example")
            await asyncio.gather(shard.put(kept), shard.put(ended))
            await shard.claim("y.example", NOW, 10)
            later = Ruling(0, outcome.Deferred(reply.LOCAL_TROUBLE, NOW + 300), DeliveryState.DUE, NOW + 300)
            shard.record(kept.id, [later])
            shard.record(ended.id, [Ruling(0, DONE, None)])
        async with opened(tmp_path) as shard:
            assert shard.stats().messages == 1
            assert shard.due_domains(NOW, 10) == []
            assert shard.next_due_at() == NOW + 300
            (claimed,) = await shard.claim("y.example", NOW + 300, 10)
            assert (claimed.id, claimed.deliveries[0].attempts, claimed.envelope) == (kept.id, 1, kept.envelope)
            assert shard.new_id() > ended.id

    run(work())


@pytest.mark.parametrize("count", [BATCH_PUTS, BATCH_PUTS + 1, 2 * BATCH_PUTS - 1, 3 * BATCH_PUTS + 7])
def test_more_puts_than_a_batch_holds_are_all_kept(tmp_path: Path, count: int) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            async with asyncio.timeout(60):
                await asyncio.gather(*(shard.put(message(shard)) for _ in range(count)))
            assert shard.stats().messages == count

    run(work())


def test_a_large_content_is_a_file_that_goes_with_its_message(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            writer = shard.begin_body(new.id)
            octets = bytes(range(256)) * 1024
            for start in range(0, len(octets), 65_536):
                await writer.write(octets[start : start + 65_536])
            await shard.put(NewMessage(new.id, new.envelope, await writer.finish(), NOW))
            assert await content_of(shard, new.id) == octets
            await shard.claim("y.example", NOW, 10)
            shard.record(new.id, [Ruling(0, DONE, None)])
        assert list((tmp_path / "shard-0" / "bodies").iterdir()) == []

    run(work())


def test_an_orphaned_file_is_collected_at_the_start(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            writer = shard.begin_body(shard.new_id())
            await writer.write(b"x")
            await writer.finish()
        assert len(list((tmp_path / "shard-0" / "bodies").iterdir())) == 1
        async with opened(tmp_path):
            assert list((tmp_path / "shard-0" / "bodies").iterdir()) == []

    run(work())


def test_a_listener_takes_the_message_from_memory(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            seen = []
            shard.on_kept(lambda kept: seen.append(kept) or True)  # type: ignore[func-returns-value]
            new = message(shard)
            await shard.put(new)
            assert [(kept.id, kept.content) for kept in seen] == [(new.id, new.content)]
            assert await shard.claim("y.example", NOW, 10) == []
            shard.unclaim(new.id, [0])
            assert len(await shard.claim("y.example", NOW, 10)) == 1

    run(work())


def test_a_report_takes_the_place_of_what_it_tells(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            await shard.put(new)
            await shard.claim("y.example", NOW, 10)
            failed = outcome.Failed(reply.RELAY_DENIED)
            shard.record(new.id, [Ruling(0, failed, DeliveryState.REPORT_FAILED)])
            await shard.flush_records()
            assert shard.due_reports(10) == [new.id]
            claimed = await shard.claim_report(new.id)
            assert claimed is not None
            assert claimed.deliveries[0].last == failed
            report = message(shard, "a@x.example", sender="")
            await shard.put(report, replaces=[(new.id, [Ruling(0, failed, None)])])
            assert (shard.stats().messages, shard.stats().reports) == (1, 0)
            assert shard.due_reports(10) == []
            assert await shard.show(new.id) is None

    run(work())


def test_steering_holds_releases_flushes_drops_and_bounces(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            for _ in range(3):
                await shard.put(message(shard, "b@y.example", "c@z.example"))
            only_y = Selection(to="y.example")
            assert (await shard.hold(only_y, dry_run=True)).recipients == 3
            assert (await shard.hold(only_y)).recipients == 3
            assert shard.due_domains(NOW, 10) == ["z.example"]
            assert shard.stats().held == 3
            assert (await shard.release(only_y, NOW)).recipients == 3
            assert shard.stats().held == 0
            (await shard.claim("z.example", NOW, 1))[0]
            assert (await shard.drop(Selection(to="z.example"), "queue delete by root")).in_flight == 1
            assert (await shard.bounce(only_y, outcome.Failed(reply.RETURNED_BY_HAND))).recipients == 3
            assert len(shard.due_reports(10)) == 2  # of the third, a delivery is claimed
            page = await shard.list(Selection(), after=None, limit=2)
            assert len(page.messages) == 2
            assert page.after is not None
            assert len((await shard.list(Selection(), after=page.after, limit=2)).messages) == 1

    run(work())


def test_old_mail_is_found_by_age(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            first, second = message(shard, "b@y.example", "c@z.example"), message(shard)
            await shard.put(first)
            await shard.put(second)
            found, _ = await shard.aged(MessageId(0), second.id, 1, unwarned=True)
            assert [(one.id, len(one.deliveries)) for one in found] == [(first.id, 2)]
            warned = [
                Ruling(n, outcome.Deferred(reply.LOCAL_TROUBLE, NOW), DeliveryState.DUE, 0.0, True) for n in (0, 1)
            ]
            shard.record(first.id, warned)
            await shard.flush_records()
            assert await shard.aged(MessageId(0), second.id, 10, unwarned=True) == ([], None)
            found, _ = await shard.aged(MessageId(0), second.id, 10, unwarned=False)
            assert len(found) == 1
            assert found[0].deliveries[0].due_at == NOW
            assert found[0].deliveries[0].attempts == 0

    run(work())


@pytest.mark.parametrize("looked_at", [1, 2, 3, 5])
def test_a_look_that_ends_within_a_message_goes_on_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_at: int
) -> None:
    monkeypatch.setattr(store_read, "LOOKED_AT", looked_at)

    async def work() -> None:
        async with opened(tmp_path) as shard:
            several = [message(shard, "h@held.example", "b@y.example", "c@z.example") for _ in range(4)]
            for new in several:
                await shard.put(new)
            assert (await shard.hold(Selection(to="held.example"))).recipients == 4
            for selection, wanted in ((Selection(), 3), (Selection(to="*"), 3), (Selection(to="z.example"), 1)):
                page = await shard.list(selection, after=None, limit=9)
                assert [len(one.deliveries) for one in page.messages] == [wanted] * 4
            for selection in (Selection(to="*.example"), Selection(sender="a@x.example"), Selection(state="due")):
                would = await shard.drop(selection, "x", dry_run=True)
                assert (would.recipients, would.messages) == (8 if selection.state else 12, 4)
            after, found = MessageId(0), []
            while after is not None:
                old, after = await shard.aged(after, MessageId(2**62), 2, unwarned=False)
                found += old
            assert [(one.id, [row.number for row in one.deliveries]) for one in found] == [
                (new.id, [1, 2]) for new in several
            ]

    run(work())


def drop_times(place: Path) -> list[float]:
    database = apsw.Connection(str(place / "shard-0/spool.db"), flags=apsw.SQLITE_OPEN_READONLY)
    times = [at for (at,) in database.execute("SELECT at FROM dropped ORDER BY at")]
    database.close()
    return times


def test_old_drop_rows_are_pruned_once_an_hour(tmp_path: Path) -> None:
    month, hour = 30 * 86_400.0, 3_600.0

    async def work(now: list[float]) -> None:
        async with opened(tmp_path) as shard:
            for at in now:
                await shard.prune(at)

    async def drops() -> None:
        async with opened(tmp_path) as shard:
            await shard.put(message(shard))
            assert (await shard.drop(Selection(), "test")).messages == 1

    run(drops())
    assert drop_times(tmp_path) == [NOW]
    run(work([NOW + month]))
    assert drop_times(tmp_path) == [NOW]  # not older than a month
    run(work([NOW + month, NOW + month + hour - 1]))
    assert drop_times(tmp_path) == [NOW]  # not twice within an hour
    run(work([NOW + month, NOW + month + hour]))
    assert drop_times(tmp_path) == []


def test_one_owner_at_a_time(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path):
            with pytest.raises(ShardOwned):
                async with opened(tmp_path):
                    raise AssertionError("two owners")

    run(work())


def test_below_min_free_nothing_is_taken(tmp_path: Path) -> None:
    async def work() -> None:
        outlet = FakeOutlet()
        async with opened(tmp_path, min_free=2**62, outlet=outlet) as shard:
            assert shard.refusing() is Why.FULL
            with pytest.raises(SpoolRefused):
                await shard.put(message(shard))
            assert shard.stats().messages == 0

    run(work())


def edit(place: Path, sql: str) -> None:
    connection = apsw.Connection(str(place / "shard-0" / "spool.db"))
    connection.execute(sql)
    connection.close()


@pytest.mark.parametrize("column", ["envelope", "content_hash"])
def test_a_damaged_row_is_set_aside_and_said(tmp_path: Path, column: str) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            await shard.put(message(shard))
            await shard.put(message(shard, "well@z.example"))
        edit(
            tmp_path,
            f"UPDATE message SET {column} = CAST('x' || substr({column}, 2) AS BLOB)"
            " WHERE id = (SELECT min(id) FROM message)",
        )
        outlet = FakeOutlet()
        async with opened(tmp_path, outlet=outlet) as shard:
            assert await shard.claim("y.example", NOW, 10) == []
            assert shard.stats().messages == 1
            assert len(await shard.claim("z.example", NOW, 10)) == 1
        assert [type(fact).__name__ for fact in outlet.facts] == ["Damaged"]

    run(work())


def test_a_damaged_content_is_not_sent(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            await shard.put(new)
        edit(tmp_path, "UPDATE content SET octets = CAST('y' || substr(octets, 2) AS BLOB)")
        async with opened(tmp_path) as shard:
            await shard.claim("y.example", NOW, 10)
            with pytest.raises(ContentDamaged):
                await shard.open(new.id)
            assert shard.stats().messages == 0

    run(work())


def test_what_cannot_be_read_is_no_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **more: object) -> None:
        raise StoreTrouble(Why.TROUBLE, "disk I/O error")

    async def work() -> None:
        async with opened(tmp_path) as shard:
            await shard.put(new := message(shard, "b@y.example"))
            everything, failed = Selection(to="*"), outcome.Failed(reply.RELAY_DENIED)
            for name in ("scan", "message", "count", "bound"):
                monkeypatch.setattr(store_read.ReadStore, name, broken)
            for asked in (
                shard.hold(everything),
                shard.release(everything, NOW),
                shard.drop(everything, "queue delete by eve"),
                shard.bounce(everything, failed),
                shard.drop(Selection(), "queue delete by eve", dry_run=True),
                shard.list(everything, after=None, limit=10),
                shard.show(new.id),
            ):
                with pytest.raises(SpoolRefused):
                    await asked
            monkeypatch.undo()

    run(work())
