"""Salvage from a database with pages overwritten: what is intact comes out, once."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.units.test_spool_shard import NOW, content_of, message, opened
from tests.units.test_spool_transfer import LARGE, large
from tests.units.test_spool_transfer import opened as opened_number

from postroad.config.load import load_text
from postroad.core import outcome, reply
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.outbound.steering import ControlRefused
from postroad.service.offline import salvage_queue
from postroad.service.shards import adopt
from postroad.service.threads import WorkerThreads
from postroad.spool.errors import StoreDamaged
from postroad.spool.face import NewMessage, Ruling, Selection
from postroad.spool.rows import body_name
from postroad.spool.salvage import FAILURES_MAX, Salvaged, find_ids
from postroad.spool.store import PAGE_SIZE
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet

MESSAGES = 300
DONE = outcome.Delivered(reply.OK)
LATER = outcome.Deferred(reply.Reply(450, (2, 1), "Busy"), NOW + 600, "mx.y.example", outcome.Stage.RCPT)


def content(number: int) -> bytes:
    return b"Subject: %d\r\n\r\n" % number + b"x" * 2_000 + b"\r\n"


async def fill(place: Path) -> list[MessageId]:
    ids = []
    async with opened(place) as shard:
        for number in range(MESSAGES):
            new = message(shard, "b@y.example", "c@y.example", "d@z.example", content=content(number))
            await shard.put(new)
            ids.append(new.id)
        await shard.claim("y.example", NOW, 2)
        shard.record(ids[0], [Ruling(0, DONE, None), Ruling(1, LATER, DeliveryState.DUE, NOW + 600)])
        await shard.flush_records()
    return ids


def set_aside(place: Path) -> Path:
    damaged = place / f"shard-0.damaged-{int(NOW)}"
    damaged.mkdir()
    for path in (place / "shard-0").glob("spool.db*"):
        path.rename(damaged / path.name)
    return damaged


def overwrite(damaged: Path, pages: range) -> None:
    with (damaged / "spool.db").open("r+b") as file:
        for page in pages:
            file.seek(page * PAGE_SIZE)
            file.write(b"\xa5" * PAGE_SIZE)


def run_salvage(place: Path, damaged: Path) -> Salvaged:
    return salvage_queue(load_text(f'data_dir = "{place}"').settings, FakeClock(NOW), damaged)


async def held(place: Path, ids: list[MessageId]) -> int:
    """Return how many messages the shard holds; each has its own content."""
    async with opened(place) as shard:
        page = await shard.list(Selection(), after=None, limit=2 * MESSAGES)
        for found in page.messages:
            assert await content_of(shard, found.id) == content(ids.index(found.id))
        assert shard.stats().messages == len(page.messages)
        assert shard.stats().recipients == sum(len(found.deliveries) for found in page.messages)
        return len(page.messages)


@pytest.mark.parametrize("first", [False, True], ids=["well", "first page gone"])
def test_what_is_whole_comes_out_as_it_was_once(tmp_path: Path, first: bool) -> None:
    ids = asyncio.run(fill(tmp_path))
    damaged = set_aside(tmp_path)
    overwrite(damaged, range(1 if first else 0))
    before = (damaged / "spool.db").read_bytes()
    assert run_salvage(tmp_path, damaged) == Salvaged(MESSAGES, 0, 0)
    assert run_salvage(tmp_path, damaged) == Salvaged(0, MESSAGES, 0)
    assert asyncio.run(held(tmp_path, ids)) == MESSAGES
    assert (damaged / "spool.db").read_bytes() == before
    assert not list(tmp_path.glob(".salvage-*"))

    async def state() -> None:
        async with opened(tmp_path) as shard:
            found = await shard.show(ids[0])
            assert found is not None
            tried, fresh = found.deliveries  # the first recipient has ended
            assert (tried.number, tried.attempts, tried.due_at, tried.last) == (1, 1, NOW + 600, LATER)
            assert (fresh.number, fresh.attempts) == (2, 0)

    asyncio.run(state())


@pytest.mark.parametrize("part", range(6))
def test_around_damaged_pages_the_rest_comes_out(tmp_path: Path, part: int) -> None:
    ids = asyncio.run(fill(tmp_path))
    damaged = set_aside(tmp_path)
    pages = (damaged / "spool.db").stat().st_size // PAGE_SIZE
    at = 14 + part * (pages - 16) // 6
    overwrite(damaged, range(at, at + 2))
    counts = run_salvage(tmp_path, damaged)
    assert counts.salvaged + counts.unreadable <= MESSAGES
    assert counts.salvaged > MESSAGES - 2 * MESSAGES // 3
    again = run_salvage(tmp_path, damaged)
    assert again == Salvaged(0, counts.salvaged, counts.unreadable)
    assert asyncio.run(held(tmp_path, ids)) == counts.salvaged


def test_a_content_that_is_not_what_was_written_is_unreadable(tmp_path: Path) -> None:
    ids = asyncio.run(fill(tmp_path))
    damaged = set_aside(tmp_path)
    octets = (damaged / "spool.db").read_bytes()
    assert octets.count(b"Subject: 150\r\n") == 1
    (damaged / "spool.db").write_bytes(octets.replace(b"Subject: 150\r\n", b"Subject: 151\r\n"))
    assert run_salvage(tmp_path, damaged) == Salvaged(MESSAGES - 1, 0, 1)
    assert asyncio.run(held(tmp_path, ids)) == MESSAGES - 1


def test_a_content_in_a_file_stays_where_it_is(tmp_path: Path) -> None:
    octets = b"x" * 300_000

    async def put() -> list[MessageId]:
        ids = []
        async with opened(tmp_path) as shard:
            for _ in range(2):
                new = message(shard)
                body = shard.begin_body(new.id)
                await body.write(octets)
                await shard.put(NewMessage(new.id, new.envelope, await body.finish(), NOW))
                ids.append(new.id)
        return ids

    async def read() -> None:
        async with opened(tmp_path) as shard:
            assert await content_of(shard, kept) == octets
            assert shard.stats().octets == len(octets)

    kept, gone = asyncio.run(put())
    damaged = set_aside(tmp_path)
    (tmp_path / "shard-0" / "bodies" / body_name(gone)).unlink()
    assert run_salvage(tmp_path, damaged) == Salvaged(1, 0, 1)
    asyncio.run(read())


def test_what_was_delivered_since_is_not_put_again(tmp_path: Path) -> None:
    asyncio.run(fill(tmp_path))
    damaged = set_aside(tmp_path)
    run_salvage(tmp_path, damaged)

    async def deliver() -> None:
        async with opened(tmp_path) as shard:
            await shard.drop(Selection(), "test")

    asyncio.run(deliver())
    assert run_salvage(tmp_path, damaged) == Salvaged(0, MESSAGES, 0)
    assert asyncio.run(held(tmp_path, [])) == 0


def test_a_running_relay_and_a_wrong_directory_are_told(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path):
            with pytest.raises(ControlRefused, match="stop it first"):
                run_salvage(tmp_path, damaged)

    asyncio.run(fill(tmp_path))
    damaged = set_aside(tmp_path)
    asyncio.run(work())
    for wrong in (tmp_path / "nowhere", tmp_path / "shard-0"):
        with pytest.raises(ControlRefused, match="not a directory with a database"):
            run_salvage(tmp_path, wrong)


class Patchy:
    """A table with ids 1, 8, 15 and so on; a read that comes into a damaged range fails."""

    def __init__(self, *damaged: range) -> None:
        self.damaged = damaged
        self.rows = range(1, 7_000, 7)
        self.reads = 0

    def ids(self, table: str, after: int, before: int, *, backwards: bool) -> Iterator[int]:
        self.reads += 1
        rows = [row for row in self.rows if after < row < before]
        for row in reversed(rows) if backwards else rows:
            if any(row in bad for bad in self.damaged):
                raise StoreDamaged("malformed")
            yield row
        if any(after in bad or before in bad for bad in self.damaged):
            raise StoreDamaged("malformed")

    def whole(self) -> set[int]:
        return {row for row in self.rows if not any(row in bad for bad in self.damaged)}


@pytest.mark.parametrize(
    "damaged",
    [(), (range(1, 700),), (range(6_000, 7_000),), (range(500, 700), range(3_000, 3_300), range(5_000, 6_999))],
    ids=["none", "first", "last", "three"],
)
def test_ids_between_damaged_ranges_are_found(damaged: tuple[range, ...]) -> None:
    source = Patchy(*damaged)
    assert find_ids(source, "message") == source.whole()  # type: ignore[arg-type]
    assert source.reads <= 2 * FAILURES_MAX


def test_a_salvage_looks_into_every_shard_and_finds_contents_that_an_adoption_put_aside(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened_number(tmp_path, 3) as shard:
            moved, ended, content = message(shard), message(shard), await large(shard)
            await shard.put(moved)
            await shard.put(ended)
        damaged = tmp_path / "shard-3.damaged-7"
        shutil.copytree(tmp_path / "shard-3", damaged, ignore=lambda *_: ["bodies", "owner.lock"])
        async with opened_number(tmp_path, 3) as shard:
            await shard.drop(Selection(ids=(content, ended.id)), "test")  # as if they were in the damaged one alone
        (tmp_path / "shard-3" / "bodies" / body_name(content)).write_bytes(LARGE)
        threads, settings = WorkerThreads(), load_text(f'data_dir = "{tmp_path}"\n[spool]\nmin_free = "0B"\n').settings
        async with opened_number(tmp_path, 1) as shard:
            parts = {"clock": FakeClock(NOW), "outlet": FakeOutlet(), "threads": threads}
            assert await adopt(3, shard, settings=settings, **parts) == 1
        threads.close()
        assert [path.name for path in (damaged / "bodies").iterdir()] == [body_name(content)]
        async with opened_number(tmp_path, 0) as shard:
            await shard.put(message(shard))
        assert run_salvage(tmp_path, damaged) == Salvaged(salvaged=2, already_there=1)
        async with opened_number(tmp_path, 0) as shard:
            assert shard.stats().messages == 3
            assert await content_of(shard, content) == LARGE
        assert run_salvage(tmp_path, damaged) == Salvaged(already_there=3)

    asyncio.run(work())
