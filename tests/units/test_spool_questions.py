"""What only the store knows after a failed sync: who asked is told when it is open again, and cannot keep it shut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.units.test_spool_shard import NOW, message, opened, run
from tests.units.test_spool_trouble import accepting, fail_next_commit

from postroad.core import facts
from postroad.core.ids import MessageId
from postroad.core.outcome import Delivered, DeliveryState, Failed
from postroad.core.reply import OK, Reply
from postroad.spool.errors import StoreDamaged
from postroad.spool.face import NewMessage, Ruling, Selection, SpoolRefused
from postroad.spool.shard import Shard
from postroad.spool.store_read import ReadStore
from postroad.testing.fake_outlet import FakeOutlet

GONE = Ruling(0, Failed(Reply(550, (1, 1), "No such user")), None)
WARNED = Ruling(0, Delivered(OK), DeliveryState.DUE, warned=True)
WARNED_1 = Ruling(1, Delivered(OK), DeliveryState.DUE, warned=True)


async def claimed(shard: Shard, *to: str) -> MessageId:
    new = message(shard, *to)
    await shard.put(new)
    await shard.claim("y.example", NOW, 10)
    return new.id


def report(shard: Shard) -> NewMessage:
    return message(shard, "a@x.example", sender="")


async def refused(work: Any) -> None:
    with pytest.raises(SpoolRefused):
        await work


@pytest.mark.parametrize("after", [False, True])
def test_a_report_whose_sync_failed_is_told_of_once_if_it_is_there(tmp_path: Path, after: bool) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            told = list[int]()
            about = await claimed(shard)
            fail_next_commit(shard, after=after)
            await refused(shard.put(report(shard), replaces=[(about, [GONE])], told=lambda: told.append(1)))
            assert told == [], "nobody knows yet"
            await asyncio.wait_for(accepting(shard), 10)
            assert told == ([1] if after else [])
            fail_next_commit(shard, after=True)
            await refused(shard.put(message(shard)))
            await asyncio.wait_for(accepting(shard), 10)
            assert told == ([1] if after else [])

    run(work())


def test_a_delay_report_is_told_of_though_what_it_warned_of_has_been_delivered(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            told = list[str]()
            about = await claimed(shard, "b@y.example", "c@y.example")
            fail_next_commit(shard, after=True)
            first = shard.put(
                report(shard), replaces=[(about, [WARNED])], told=lambda: told.append("the one of the first")
            )
            other = shard.put(
                report(shard),
                replaces=[(about, [Ruling(1, GONE.outcome, None)])],
                told=lambda: told.append("the one of the second"),
            )
            await asyncio.gather(refused(first), refused(other))
            shard.record(about, [Ruling(0, Delivered(OK), None)])
            await asyncio.wait_for(accepting(shard), 10)
            assert sorted(told) == ["the one of the first", "the one of the second"]
            await shard.flush_records()
            assert await shard.show(about) is None

    run(work())


def test_what_was_refused_without_a_commit_is_never_told_of(tmp_path: Path) -> None:
    """Nor where what it was about is gone when the store is open again: a person may have deleted it."""

    async def work() -> None:
        async with opened(tmp_path) as shard:
            told = list[int]()
            about = await claimed(shard)
            fail_next_commit(shard, after=True)
            shard.record(about, [GONE])
            while shard.refusing() is None:
                await asyncio.sleep(0)
            await refused(shard.put(report(shard), replaces=[(about, [GONE])], told=lambda: told.append(1)))
            await asyncio.wait_for(accepting(shard), 10)
            await shard.flush_records()
            assert await shard.show(about) is None
            assert told == []

    run(work())


def test_what_a_client_was_refused_is_removed_and_not_told_of(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            told = list[int]()
            fail_next_commit(shard, after=True)
            await refused(shard.put(message(shard), told=lambda: told.append(1)))
            await asyncio.wait_for(accepting(shard), 10)
            assert (told, shard.stats().messages) == ([], 0)

    run(work())


async def held_as_a_sync_failed(shard: Shard, told: Callable[[Any], None]) -> None:
    await shard.put(message(shard))
    fail_next_commit(shard, after=True)
    await refused(shard.hold(Selection(), told=told))


def test_a_question_that_meets_damage_has_the_database_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(store: ReadStore, one: int) -> Any:
        raise StoreDamaged("database disk image is malformed")

    async def work() -> None:
        outlet, heard = FakeOutlet(), list[Any]()
        async with opened(tmp_path, outlet=outlet) as shard:
            monkeypatch.setattr(ReadStore, "message", damaged)
            await held_as_a_sync_failed(shard, heard.extend)
            await asyncio.wait_for(accepting(shard), 10)
            monkeypatch.undo()
            await shard.put(message(shard))
            assert (shard.stats().messages, heard) == (1, []), "the question went with the database"
        assert [fact.what for fact in outlet.of(facts.Damaged)] == ["database"]
        assert [fact.over for fact in outlet.of(facts.Trouble)][-1]
        assert (tmp_path / f"shard-0.damaged-{int(NOW)}" / "spool.db").exists()

    run(work())


@pytest.mark.parametrize("where", ["read", "learn"])
def test_an_error_of_who_asked_is_told_and_does_not_keep_the_store_shut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    known = ReadStore.known

    async def work() -> None:
        outlet, handled, told = FakeOutlet(), list[str](), list[int]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.append(repr(context["exception"])))
        async with opened(tmp_path, outlet=outlet) as shard:
            about = await claimed(shard, "b@y.example", "c@y.example")
            first, other = report(shard), report(shard)

            def broken(*_: object) -> None:
                raise ZeroDivisionError

            def read(store: ReadStore, messages: Sequence[int]) -> set[int]:
                if first.id in messages:
                    broken()
                return known(store, messages)

            if where == "read":
                monkeypatch.setattr(ReadStore, "known", read)
            fail_next_commit(shard, after=True)
            broken_one = shard.put(first, replaces=[(about, [GONE])], told=broken)
            other_one = shard.put(other, replaces=[(about, [WARNED_1])], told=lambda: told.append(1))
            await asyncio.gather(refused(broken_one), refused(other_one))
            await asyncio.wait_for(accepting(shard), 10)
            assert told == [1], "others that asked are told"
            await shard.put(message(shard))
        assert [why.partition("(")[0] for why in handled] == ["ZeroDivisionError"]
        assert [fact.over for fact in outlet.of(facts.Trouble) if "ZeroDivisionError(" in fact.why] == [False]
        assert outlet.of(facts.Trouble)[-1].over

    run(work())
