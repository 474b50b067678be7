"""The shard when the disk or a caller fails it: what is refused, what is kept, and that it comes back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.units.test_spool_shard import DONE, NOW, message, opened, run

from postroad.core import facts
from postroad.core.outcome import Deferred, DeliveryState, Failed
from postroad.core.reply import LOCAL_TROUBLE, Reply
from postroad.spool import ground
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import Changed, NewMessage, QueuedMessage, Ruling, Selection, SpoolRefused, Why
from postroad.spool.owner import LockOwner, ShardOwned
from postroad.spool.recovery import Found, reopen
from postroad.spool.shard import Shard
from postroad.testing.fake_outlet import FakeOutlet

NO_SUCH_USER = Reply(550, (1, 1), "No such user")


def fail_next_commit(shard: Shard, *, after: bool) -> None:
    """Let the next COMMIT raise, before or after SQLite has done it: a failed sync can be either."""
    store = shard.writer.store
    commit = store.write.commit

    def broken() -> None:
        if after:
            commit()
        raise StoreTrouble(Why.TROUBLE, "disk I/O error")

    store.write.commit = broken  # type: ignore[method-assign]


async def accepting(shard: Shard) -> None:
    while shard.refusing() is not None:
        await asyncio.sleep(0)


@pytest.mark.parametrize("after", [False, True])
def test_what_a_failed_sync_refused_is_not_there_afterwards(tmp_path: Path, after: bool) -> None:
    async def work() -> None:
        outlet = FakeOutlet()
        async with opened(tmp_path, outlet=outlet) as shard:
            await shard.put(message(shard, "kept@z.example"))
            fail_next_commit(shard, after=after)
            with pytest.raises(SpoolRefused):
                await shard.put(message(shard))
            assert shard.refusing() is Why.TROUBLE
            await asyncio.wait_for(accepting(shard), 10)
            assert shard.stats().messages == 1
            assert shard.due_domains(NOW, 10) == ["z.example"]
            await shard.put(message(shard))
            assert shard.stats().messages == 2
        assert [fact.over for fact in outlet.facts] == [False, True]  # type: ignore[union-attr]

    run(work())


def test_an_outcome_outlives_a_failed_sync(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            await shard.put(new)
            await shard.claim("y.example", NOW, 10)
            fail_next_commit(shard, after=False)
            shard.record(new.id, [Ruling(0, DONE, None)])
            while shard.refusing() is None:
                await asyncio.sleep(0)
            await asyncio.wait_for(accepting(shard), 10)
            assert await shard.claim("y.example", NOW, 10) == []
            await shard.flush_records()
            assert shard.stats().messages == 0

    run(work())


def test_an_outcome_that_a_failed_sync_had_written_is_counted_once(tmp_path: Path) -> None:
    later = Ruling(0, Deferred(LOCAL_TROUBLE, NOW + 300), DeliveryState.DUE, NOW + 300)

    async def work() -> None:
        async with opened(tmp_path) as shard:
            ended, waits, other = message(shard), message(shard, "c@y.example"), message(shard, "d@y.example")
            for new in (ended, waits, other):
                await shard.put(new)
            await shard.claim("y.example", NOW, 2)
            fail_next_commit(shard, after=True)
            shard.record(ended.id, [Ruling(0, DONE, None)])
            shard.record(waits.id, [later])
            while shard.refusing() is None:
                await asyncio.sleep(0)
            await asyncio.wait_for(accepting(shard), 10)
            await shard.flush_records()
            assert (shard.stats().messages, shard.stats().recipients) == (2, 2)
            (claimed,) = await shard.claim("y.example", NOW, 10)
            assert claimed.id == other.id
            (waiting,) = await shard.claim("y.example", NOW + 300, 10)
            assert [delivery.attempts for delivery in waiting.deliveries] == [1]
        async with opened(tmp_path) as again:
            assert (again.stats().messages, again.stats().recipients) == (2, 2)

    run(work())


@pytest.mark.parametrize("after", [False, True])
def test_a_content_file_whose_put_failed_stays_until_its_row_is_gone(tmp_path: Path, after: bool) -> None:
    """A crash before the reopening must not leave a message without its content."""

    async def work() -> None:
        bodies = tmp_path / "shard-0" / "bodies"
        async with opened(tmp_path) as shard:
            identifier = shard.new_id()
            body = shard.begin_body(identifier)
            await body.write(b"Subject: x\r\n\r\nlong\r\n")
            new = NewMessage(identifier, message(shard).envelope, await body.finish(), NOW)
            fail_next_commit(shard, after=after)
            with pytest.raises(SpoolRefused):
                await shard.put(new)
            assert len(list(bodies.iterdir())) == 1
            await asyncio.wait_for(accepting(shard), 10)
            assert list(bodies.iterdir()) == []
            assert shard.stats().messages == 0

    run(work())


def test_a_content_file_goes_with_an_outcome_that_a_failed_sync_had_written(tmp_path: Path) -> None:
    async def work() -> None:
        outlet = FakeOutlet()
        async with opened(tmp_path, outlet=outlet) as shard:
            identifier = shard.new_id()
            body = shard.begin_body(identifier)
            await body.write(b"Subject: x\r\n\r\nlong\r\n")
            await shard.put(NewMessage(identifier, message(shard).envelope, await body.finish(), NOW))
            await shard.claim("y.example", NOW, 10)
            fail_next_commit(shard, after=True)
            shard.record(identifier, [Ruling(0, DONE, None)])
            while shard.refusing() is None:
                await asyncio.sleep(0)
            await asyncio.wait_for(accepting(shard), 10)
            await shard.flush_records()
            assert shard.stats().messages == 0
            assert shard.stats().trouble == ""
        assert [fact.over for fact in outlet.of(facts.Trouble)] == [False, True], "that it is gone is none"
        assert list((tmp_path / "shard-0" / "bodies").iterdir()) == []

    run(work())


@pytest.mark.parametrize("after", [False, True])
def test_a_report_whose_sync_failed_is_there_or_what_it_tells_of_is(tmp_path: Path, after: bool) -> None:
    failed = Ruling(0, Failed(NO_SUCH_USER), DeliveryState.REPORT_FAILED)

    async def work() -> None:
        async with opened(tmp_path) as shard:
            identifier = shard.new_id()
            body = shard.begin_body(identifier)
            await body.write(b"Subject: x\r\n\r\nlong\r\n")
            new = NewMessage(identifier, message(shard).envelope, await body.finish(), NOW)
            await shard.put(new)
            await shard.claim("y.example", NOW, 10)
            shard.record(new.id, [failed])
            await shard.flush_records()
            assert await shard.claim_report(new.id) is not None
            fail_next_commit(shard, after=after)
            report = message(shard, "a@x.example", sender="")
            with pytest.raises(SpoolRefused):
                await shard.put(report, replaces=[(new.id, [Ruling(0, Failed(NO_SUCH_USER), None)])])
            shard.unclaim(new.id, [0])
            await asyncio.wait_for(accepting(shard), 10)
            assert shard.stats().messages == 1
            assert (await shard.claim_report(new.id) is None) is after
            assert (await shard.show(report.id) is not None) is after
            assert (list((tmp_path / "shard-0" / "bodies").iterdir()) == []) is after

    run(work())


def test_an_id_that_is_there_already_is_refused_and_left_alone(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            await shard.put(new)
            with pytest.raises(SpoolRefused):
                await shard.put(NewMessage(new.id, new.envelope, b"another\r\n", NOW))
            assert shard.refusing() is None
            assert shard.stats().messages == 1
            (claimed,) = await shard.claim("y.example", NOW, 10)
            assert claimed.id == new.id

    run(work())


def test_a_rollback_that_fails_leaves_nobody_waiting(tmp_path: Path) -> None:
    def broken() -> None:
        raise StoreTrouble(Why.TROUBLE, "disk I/O error")

    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            await shard.put(new)
            shard.writer.store.write.rollback = broken  # type: ignore[method-assign]
            again = shard.put(NewMessage(new.id, new.envelope, b"another\r\n", NOW))
            with pytest.raises(SpoolRefused):
                await asyncio.wait_for(again, 10)
            await asyncio.wait_for(accepting(shard), 10)
            await shard.put(message(shard))
            assert shard.stats().messages == 2

    run(work())


def test_a_shard_closed_while_it_is_opened_again_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, found = threading.Event(), threading.Event(), list[Found]()

    def slow(*arguments: Any) -> Found:
        begun.set()
        assert go.wait(30)
        found.append(reopen(*arguments))
        return found[0]

    async def work() -> None:
        async with opened(tmp_path) as shard:
            monkeypatch.setattr(ground, "reopen", slow)
            fail_next_commit(shard, after=False)
            with pytest.raises(SpoolRefused):
                await shard.put(message(shard))
            await asyncio.to_thread(begun.wait, 30)
            closing = asyncio.ensure_future(shard.close())
            await asyncio.sleep(0)
            with pytest.raises(ShardOwned):
                LockOwner(str(tmp_path / "shard-0"))
            go.set()
            await asyncio.wait_for(closing, 30)
            assert found[0].store._connections == []
            LockOwner(str(tmp_path / "shard-0")).release()

    run(work())


def test_a_listener_that_breaks_does_not_unsay_250(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:

            def broken(kept: Any) -> bool:
                raise ZeroDivisionError

            shard.on_kept(broken)
            await shard.put(message(shard))
            assert len(await shard.claim("y.example", NOW, 10)) == 1

    run(work())


def test_a_caller_that_goes_away_does_not_stop_its_put(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            task = asyncio.get_running_loop().create_task(shard.put(message(shard)))
            await asyncio.sleep(0)
            task.cancel()
            await shard.flush_records()
            assert shard.stats().messages == 1

    run(work())


def test_a_database_that_is_none_is_moved_aside_whole(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            await shard.put(message(shard))
        (tmp_path / "shard-0" / "spool.db").write_bytes(b"not a database" * 4096)
        outlet = FakeOutlet()
        async with opened(tmp_path, outlet=outlet) as shard:
            assert shard.stats().messages == 0
            await shard.put(message(shard))
        assert len(outlet.of(facts.Damaged)) == 1
        moved = tmp_path / f"shard-0.damaged-{int(NOW)}"
        assert (moved / "spool.db").exists()
        (tmp_path / f"shard-1.{moved.suffix}").mkdir()
        for _ in range(2):
            outlet = FakeOutlet()
            async with opened(tmp_path, outlet=outlet):
                pass
            told = outlet.of(facts.Damaged)
            assert [(fact.what, fact.where) for fact in told] == [("database", str(moved))], "at each start, once"

    run(work())


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("change", ["hold", "release", "drop", "bounce"])
def test_a_change_whose_sync_failed_is_told_of_once_it_is_known_to_be_there(
    tmp_path: Path, after: bool, change: str
) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            every = Selection()
            await shard.put(message(shard, "b@y.example", "c@z.example"))
            await shard.put(message(shard, sender=""))  # a bounce of it ends at once: nobody wants to hear
            if change == "release":
                await shard.hold(every)
            heard: list[QueuedMessage] = []
            acts: dict[str, Callable[[], Awaitable[Changed]]] = {
                "hold": lambda: shard.hold(every, told=heard.extend),
                "release": lambda: shard.release(every, NOW, told=heard.extend),
                "drop": lambda: shard.drop(every, "by hand", told=heard.extend),
                "bounce": lambda: shard.bounce(every, Failed(NO_SUCH_USER), told=heard.extend),
            }
            fail_next_commit(shard, after=after)
            with pytest.raises(SpoolRefused):
                await acts[change]()
            assert heard == []
            await asyncio.wait_for(accepting(shard), 10)
            assert [len(one.deliveries) for one in heard] == ([2, 1] if after else [])
            assert (await acts[change]()).recipients == (0 if after else 3)

    run(work())


def test_a_read_that_was_under_way_gives_nothing_of_a_change_whose_sync_failed(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            await shard.put(message(shard))
            ((delivery,),) = [one.deliveries for one in (await shard.list(Selection(), after=None, limit=1)).messages]
            watch = shard.agenda.watch()
            assert shard.agenda.may_give(delivery, watch)
            fail_next_commit(shard, after=True)
            with pytest.raises(SpoolRefused):
                await shard.drop(Selection(), "by hand")
            assert not shard.agenda.may_give(delivery, watch)

    run(work())
