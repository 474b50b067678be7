"""Facts on the disk: batches, days, parts, trouble, damage."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from pathlib import Path

import msgspec
import pytest
from tests.contracts.streams import run
from tests.units.facts_place import Place
from tests.units.facts_world import AT, message_id, received, sample, story

from postroad.core import facts
from postroad.core.units import DAY, MIB
from postroad.observe import segments as module
from postroad.observe.outlet import FactOutlet
from postroad.observe.segments import FactStore
from postroad.service.threads import WorkerThreads


@pytest.fixture
def threads():
    threads = WorkerThreads()
    yield threads
    threads.close()


@pytest.fixture
def place(tmp_path, threads):
    return Place(tmp_path, threads)


# --- writing ---


def test_a_message_is_one_row_of_a_batch_and_is_read_back(place):
    async def work():
        one, two = story(1), story(2)
        await place.write([one[0], two[0], *one[1:], *two[1:]])
        assert place.files() == ["2026-09-21-0.db"]
        with sqlite3.connect(f"{place.directory}/2026-09-21-0.db") as database:
            assert database.execute("SELECT count(*) FROM fact").fetchall() == [(2,)]
        assert await place.read(one[0].message) == one
        assert await place.read(two[0].message) == two
        assert await place.read(message_id(3)) == []
        assert place.outlet.facts == []

    run("uvloop", work())


def test_a_batch_is_written_after_a_second_and_at_once_when_it_is_large(place, monkeypatch):
    monkeypatch.setattr(module, "BATCH_AFTER", 0.01)

    async def work():
        async with place.writing() as store:
            store.take(story(1))
            async with asyncio.timeout(10):
                while not await place.read(message_id(1)):
                    pass
            monkeypatch.setattr(module, "BATCH_AFTER", 3600)
            store.take(story(2))
            assert await place.read(message_id(2)) == []
            for number in range(3, 3 + module.BATCH_MAX // 3):
                store.take(story(number))
            async with asyncio.timeout(10):
                while not await place.read(message_id(2)):
                    pass

    run("uvloop", work())


def test_facts_of_no_message_are_stored_and_connections_are_not(place):
    async def work():
        told = [sample(kind) for kind in facts.KINDS]
        await place.write(told)
        with sqlite3.connect(f"{place.directory}/2026-09-21-0.db") as database:
            rows = [msgspec.msgpack.decode(row) for (row,) in database.execute("SELECT facts FROM fact ORDER BY row")]
        kinds = {fact["kind"] for row in rows for fact in row}
        assert kinds == {kind.__struct_config__.tag for kind in facts.KINDS} - {
            "connected",
            "early-octets",
            "incomplete",
        }
        assert [fact["kind"] for fact in rows[-1]] != [fact["kind"] for fact in rows[0]]

    run("uvloop", work())


def test_a_file_of_facts_is_private_whatever_the_umask(place):
    async def work():
        store = place.store()
        store.take(story(1))
        await store.flush()
        modes = {stat.S_IMODE(os.stat(f"{place.directory}/{name}").st_mode) for name in place.files()}
        assert len(place.files()) == 3
        assert modes == {0o600}
        assert stat.S_IMODE(os.stat(place.directory).st_mode) == 0o700
        await store.close()

    old = os.umask(0)
    try:
        run("uvloop", work())
    finally:
        os.umask(old)


def test_what_is_written_is_on_the_disk(place):
    async def work():
        async with place.writing() as store:
            store.take(story(1))
            await store.flush()
            connection = store._segments._segment._connection
            assert connection.pragma("synchronous") == 2
            assert connection.pragma("journal_mode") == "wal"

    run("uvloop", work())


def test_midnight_begins_a_new_segment_and_the_story_goes_on(place):
    async def work():
        first, tried, done = story(1)
        async with place.writing() as store:
            store.take([first])
            await store.flush()
            place.clock.advance(DAY)
            store.take([msgspec.structs.replace(tried, at=AT + DAY), done])
        assert place.files() == ["2026-09-21-0.db", "2026-09-22-0.db"]
        assert await place.read(first.message) == [first, done, msgspec.structs.replace(tried, at=AT + DAY)]

    run("uvloop", work())


def test_a_part_that_is_full_ends_and_the_oldest_go(place, monkeypatch):
    monkeypatch.setattr(module, "PART_MIN", 100_000)

    async def work():
        async with place.writing(disk_max=1_000_000) as store:
            for number in range(0, 3000, 100):
                for one in range(number, number + 100):
                    store.take(story(one))
                await store.flush()
                sizes = [os.stat(f"{place.directory}/{name}").st_blocks * 512 for name in place.files()]
                assert sum(sizes) < 1_500_000
        assert "2026-09-21-0.db" not in place.files()
        assert len(place.files()) >= 5
        assert await place.read(message_id(1)) == []
        assert await place.read(message_id(2999)) == story(2999)

    run("uvloop", work())


def test_nothing_is_stored_where_there_is_no_room_to(place):
    async def work():
        async with place.writing(disk_max=0) as store:
            store.take(story(1))
        assert not os.path.exists(place.directory)
        assert await place.read(message_id(1)) == []

    run("uvloop", work())


# --- trouble ---


def test_a_disk_in_trouble_costs_facts_and_is_told_once_and_when_it_is_over(place):
    async def work():
        Path(place.directory).write_text("no directory")
        async with place.writing() as store:
            for number in (1, 2, 3):
                store.take(story(number))
                await store.flush()
            os.unlink(place.directory)
            store.take(story(4))
            await store.flush()
        begin, end = place.outlet.of(facts.Trouble)
        assert (begin.what, begin.over, end.what, end.over) == ("facts", False, "facts", True)
        assert end.why.startswith("9 facts were not stored")
        assert await place.read(message_id(3)) == []
        assert await place.read(message_id(4)) == story(4)

    run("uvloop", work())


def test_a_full_disk_loses_whole_batches_and_the_file_stays_good(place):
    async def work():
        async with place.writing() as store:
            store.take(story(1))
            await store.flush()
            connection = store._segments._segment._connection
            connection.pragma("max_page_count", connection.pragma("page_count"))
            store.take([fact for number in range(100, 400) for fact in story(number)])
            await store.flush()
            assert len(place.outlet.of(facts.Trouble)) == 1
            assert "full" in place.outlet.of(facts.Trouble)[0].why
            store.take(story(2))
            await store.flush()
        assert [fact.over for fact in place.outlet.of(facts.Trouble)] == [False, True]
        assert await place.read(message_id(1)) == story(1)
        assert await place.read(message_id(100)) == []
        assert await place.read(message_id(2)) == story(2)

    run("uvloop", work())


def test_what_waits_is_bounded_and_what_is_lost_is_told(place, monkeypatch):
    monkeypatch.setattr(module, "WAITING_MAX", 30)
    monkeypatch.setattr(module, "BATCH_AFTER", 3600)

    async def work():
        async with place.writing() as store:
            store.take(story(0))
            store.take([received(1, AT, "a@b.example", *["c@d.example"] * 80)])  # as heavy as 21
            for number in range(2, 100):
                store.take(story(number))
                assert store._weight <= 30
            await store.flush()
            store.take(story(100))
        assert len(await place.read(message_id(1))) == 1
        assert await place.read(message_id(50)) == []
        begin, end = place.outlet.of(facts.Trouble)
        assert "too slow" in begin.why
        assert end.over

    run("uvloop", work())


@pytest.mark.parametrize("garbage", [b"not a database" * 1000, b"SQLite format 3\0" + b"\xff" * 9000])
def test_a_damaged_segment_is_set_aside_and_nothing_is_lost(place, garbage):
    async def work():
        os.makedirs(place.directory)
        Path(f"{place.directory}/2026-09-21-0.db").write_bytes(garbage)
        await place.write(story(1))
        assert await place.read(message_id(1)) == story(1)
        (damaged,) = place.outlet.of(facts.Damaged)
        assert Path(damaged.where).read_bytes() == garbage
        assert place.files() == ["2026-09-21-0.damaged-1790000000.db", "2026-09-21-0.db"]
        assert not place.skipped.segments

    run("uvloop", work())


def test_a_segment_that_breaks_under_the_writer_is_set_aside(place):
    async def work():
        async with place.writing() as store:
            store.take(story(1))
            await store.flush()
            store._segments._segment._connection.execute("DROP TABLE address")
            store.take(story(2))
        assert len(place.outlet.of(facts.Damaged)) == 1
        assert await place.read(message_id(2)) == story(2)

    run("uvloop", work())


def test_a_segment_of_another_version_is_left_alone(place):
    async def work():
        await place.write(story(1))
        with sqlite3.connect(f"{place.directory}/2026-09-21-0.db") as database:
            database.execute("PRAGMA user_version=99")
        await place.write(story(2))
        assert place.files() == ["2026-09-21-0.1.db", "2026-09-21-0.db"]
        assert await place.read(message_id(2)) == story(2)
        assert await place.read(message_id(1)) == []
        assert place.skipped.segments == {"2026-09-21-0.db"}

    run("uvloop", work())


def test_the_outlet_lets_the_store_tell_of_its_trouble(place):
    class Seen:
        def __init__(self):
            self.facts = []

        def take(self, told):
            self.facts += told

        async def close(self):
            pass

    async def work():
        Path(place.directory).write_text("no directory")
        seen = Seen()
        store = FactStore(place.directory, "0", threads=place.threads, clock=place.clock, keep=DAY, disk_max=MIB)
        outlet = FactOutlet(seen, store)
        outlet.emit(story(1)[0])
        outlet.flush()
        await asyncio.sleep(0)
        await store.flush()
        await outlet.close()
        assert [type(fact) for fact in seen.facts] == [facts.Received, facts.Trouble]

    run("uvloop", work())


def test_facts_leave_the_last_room_of_the_disk_to_the_mail(place, monkeypatch):
    """Each refusal is a fact: a client that comes again and again must not fill the disk of the queue."""

    class Room:
        f_bavail, f_frsize = 10, 4096

    async def work():
        monkeypatch.setattr("postroad.observe.segments.os.statvfs", lambda path: Room)
        more = {"threads": place.threads, "clock": place.clock, "keep": DAY, "disk_max": MIB}
        store = FactStore(place.directory, "0", **more, left_free=40_961)
        store.attach(place.outlet)
        store.take(story(1))
        await store.flush()
        assert not os.path.exists(place.directory)
        Room.f_bavail = 11
        store.take(story(2))
        await store.flush()
        await store.close()
        troubles = place.outlet.of(facts.Trouble)
        assert troubles[0].why == "facts are not stored: 40960 octets are free, 40961 are left to the mail"
        assert [one.over for one in troubles] == [False, True]
        assert await place.read(story(2)[0].message)

    run("uvloop", work())


def test_text_that_is_no_unicode_costs_no_fact(place):
    async def work():
        await place.write([*story(1), facts.Stopped(at=AT, why="caf\udce9"), sample(facts.Damaged, where="\udce9")])
        found = await place.read(sample(facts.Damaged).message)
        assert [fact.where for fact in found] == ["\\udce9"]

    run("uvloop", work())


def test_two_who_write_under_one_name_lose_nothing(place):
    """As when a worker is started again before the one it replaces is quite gone."""

    async def work():
        async with place.writing() as one, place.writing() as two:
            for number in range(4):
                (one, two)[number % 2].take(story(number))
                await (one, two)[number % 2].flush()
        assert place.outlet.facts == []
        for number in range(4):
            assert await place.read(message_id(number)) == story(number)

    run("uvloop", work())


@pytest.mark.parametrize("writer", ["", "worker-0", "../x", "A", "0.1"])
def test_a_writer_has_a_name_by_which_its_segments_are_found(place, writer):
    async def work():
        with pytest.raises(ValueError, match="cannot name a writer"):
            place.store(writer)

    run("uvloop", work())
