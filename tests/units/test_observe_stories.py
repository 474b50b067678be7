"""Stories read back: of a message, of an address, over writers and days, beside their writer, past what is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from tests.contracts.streams import run
from tests.units.facts_place import Place
from tests.units.facts_world import AT, LATER, attempted, delivered, message_id, received, sample, story

from postroad.core import facts
from postroad.core.ids import format_id
from postroad.core.outcome import Stage
from postroad.core.units import DAY
from postroad.observe.packing import rows_of
from postroad.observe.segment import Segment, SegmentReader
from postroad.observe.stories import Skipped, parse_wanted, read_story
from postroad.service.threads import WorkerThreads


@pytest.fixture
def threads():
    threads = WorkerThreads()
    yield threads
    threads.close()


@pytest.fixture
def place(tmp_path, threads):
    return Place(tmp_path, threads)


def test_a_story_over_several_writers_and_days_is_in_the_order_of_time(place):
    async def work():
        first = received(1)
        there = [first]
        await place.write([first], "0")
        for number, writer in enumerate(("1", "0", "ledger", "1")):
            at = AT + (number + 1) * DAY / 2
            place.clock.advance(DAY / 2)
            there.append(attempted(first.message, at))
            await place.write([there[-1], *story(50 + number, at)], writer)
        there.append(delivered(first.message, AT + 2 * DAY + 1))
        await place.write([there[-1]], "0")
        assert await place.read(first.message) == there
        assert await place.read(first.message, since=AT + DAY) == [fact for fact in there if fact.at >= AT + DAY]

    run("uvloop", work())


def test_a_report_belongs_to_the_story_of_its_message(place):
    async def work():
        first, report = received(1), message_id(2)
        told = facts.Reported(
            at=AT + 1, message=first.message, report=report, action="failed", to="a@sender.example", recipients=("b",)
        )
        done = delivered(report, AT + 2, "a@sender.example")
        await place.write([first, told])
        await place.write([done, *story(3)], "1")
        assert await place.read(first.message) == [first, told, done]
        assert await place.read(report) == [done]

    run("uvloop", work())


def test_an_address_leads_to_whole_messages_and_to_refusals(place):
    async def work():
        mine = story(1)
        elsewhere = [received(2, AT + 1, "x@example.org", "y@example.org")]
        refused = sample(facts.Refused, at=AT + 2, sender="a@sender.example", recipient="z@example.org", message=None)
        of_message = sample(facts.Refused, at=AT + 3, sender="a@sender.example", recipient="q@e.example", message=None)
        await place.write([*mine, *elsewhere, refused, of_message])
        assert await place.read("a@sender.example") == [*mine, refused, of_message]
        assert await place.read("b@example.org") == mine
        assert await place.read("b@EXAMPLE.org") == mine
        assert await place.read("B@example.org") == []  # only who delivers there may say that it is the same
        assert await place.read("z@example.org") == [refused]
        assert await place.read("nobody@example.org") == []
        assert await place.read("x@example.org", since=AT + 2) == []

    run("uvloop", work())


def test_of_many_messages_of_an_address_the_newest_are_told_in_the_order_of_time(place):
    async def work():
        stories = {}
        for number in range(1, 41):
            at = AT + number * 3600.0
            place.clock.advance(3600.0)
            stories[number] = story(number, at)
            await place.write(stories[number], str(number % 3))
        for limit, is_more in ((40, False), (39, True), (1, True)):
            skipped = Skipped()
            reading = read_story(place.directory, "a@sender.example", place.threads, limit=limit, skipped=skipped)
            assert [fact async for fact in reading]
            assert skipped.messages_left_out is is_more
        assert await place.read("a@sender.example", limit=5) == [f for n in range(36, 41) for f in stories[n]]
        assert await place.read("a@sender.example") == [f for n in range(1, 41) for f in stories[n]]

    run("uvloop", work())


def test_another_process_reads_while_it_is_written(place):
    async def work():
        async with place.writing() as store:
            store.take(story(1)[:1])
            await store.flush()
            other = WorkerThreads()  # connections of its own
            assert [fact async for fact in read_story(place.directory, message_id(1), other)] == story(1)[:1]
            store.take(story(1)[1:])
            await store.flush()
            assert [fact async for fact in read_story(place.directory, message_id(1), other)] == story(1)
            other.close()

    run("uvloop", work())


def test_a_kind_of_a_later_version_is_skipped_and_counted(place):
    async def work():
        first, tried, done = story(1)
        os.makedirs(place.directory)
        segment = Segment(f"{place.directory}/2026-09-21-0.db")
        later = {"kind": "teleported", "at": AT, "message": first.message}
        encoded = msgspec.msgpack.encode([first, later, tried])
        segment.append([rows_of([[first]])[0]._replace(facts=encoded)])
        grown = {**msgspec.to_builtins(done), "a_new_field": [1]}
        segment.append([rows_of([[done]])[0]._replace(facts=msgspec.msgpack.encode([grown]))])
        segment.close()
        assert await place.read(first.message) == [first, tried, done]
        assert (place.skipped.facts, place.skipped.segments) == (1, set())

    run("uvloop", work())


def test_a_segment_that_cannot_be_read_hides_no_other(place):
    async def work():
        await place.write(story(1))
        Path(f"{place.directory}/2026-09-21-1.db").write_bytes(b"garbage" * 1000)
        Path(f"{place.directory}/2026-09-21-2.db").mkdir()
        Path(f"{place.directory}/README").write_text("not a segment")
        assert await place.read("b@example.org") == story(1)
        assert place.skipped.segments == {"2026-09-21-1.db", "2026-09-21-2.db"}
        assert place.skipped.facts == 0

    run("uvloop", work())


def test_segments_older_than_the_message_are_not_opened(place, monkeypatch):
    opened = []

    class Watched(SegmentReader):
        def __init__(self, path):
            opened.append(os.path.basename(path))
            super().__init__(path)

    monkeypatch.setattr("postroad.observe.stories.SegmentReader", Watched)

    async def work():
        for number in range(5):
            await place.write(story(number, AT + number * DAY))
            place.clock.advance(DAY)
        await place.read(message_id(3, AT + 3 * DAY))
        assert set(opened) == {"2026-09-23-0.db", "2026-09-24-0.db", "2026-09-25-0.db"}  # a day of slack

    run("uvloop", work())


def test_who_stops_listening_leaves_nothing_open(place):
    async def work():
        await place.write([fact for number in range(500) for fact in story(number)])
        telling = read_story(place.directory, "b@example.org", place.threads, limit=500)
        assert await anext(telling) == story(0)[0]
        await telling.aclose()
        await place.threads.run_blocking(int, lane="stories")
        open_files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
        assert not [path for path in open_files if path.startswith(place.directory)]

    run("uvloop", work())


def test_what_is_wanted_is_an_id_or_an_address():
    assert parse_wanted(format_id(message_id(1)).upper()) == message_id(1)
    assert parse_wanted("a@b.example") == "a@b.example"


def test_a_refusal_of_a_message_belongs_to_its_story(place):
    async def work():
        refused = sample(facts.Refused, message=message_id(1), stage=Stage.DOT, reply=LATER)
        await place.write([refused, *story(1)])
        assert await place.read(message_id(1)) == [refused, *story(1)]

    run("uvloop", work())


def test_two_addresses_of_one_hash_are_told_apart(place, monkeypatch):
    monkeypatch.setattr("postroad.observe.packing.address_hash", lambda _: bytes(8))
    monkeypatch.setattr("postroad.observe.stories.address_hash", lambda _: bytes(8))

    async def work():
        one, two = received(1, AT, "a@b.example", "x@example.org"), received(2, AT, "c@d.example", "y@example.org")
        await place.write([one, two])
        assert await place.read("x@example.org") == [one]
        assert await place.read("c@d.example") == [two]
        assert await place.read("z@example.org") == []

    run("uvloop", work())


def test_what_is_overwritten_in_a_segment_costs_that_and_no_more(place):
    async def work():
        for writer in ("0", "1"):
            await place.write([fact for number in range(2000) for fact in story(number)], writer)
        path = Path(place.directory) / "2026-09-21-0.db"
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 3)
            file.write(b"\xff" * (path.stat().st_size // 3))
        for number in range(0, 2000, 100):
            read = await place.read(message_id(number))
            assert read in (story(number), sorted(story(number) * 2, key=lambda fact: fact.at))
        assert len(await place.read("b@example.org", limit=10_000)) >= 6000
        assert place.skipped.segments == {"2026-09-21-0.db"}

    run("uvloop", work())


def test_messages_that_went_side_by_side_are_told_side_by_side(place):
    async def work():
        one, two = story(1, AT), story(2, AT + 0.005)  # tried at .01 and .015, in one batch
        await place.write([one[0], two[0], *one[1:], *two[1:]])
        assert await place.read("b@example.org") == [one[0], two[0], *one[1:], *two[1:]]

    run("uvloop", work())
