"""Stored facts when their writer is killed, and when the disk is full: at most the last second is missing."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

from tests.units.facts_world import AT, message_id, story
from tests.world.test_full_disk import fill, small_disk
from tests.world.waiting import soon

from postroad.core import facts
from postroad.core.units import DAY, GIB
from postroad.observe.segments import BATCH_AFTER, FactStore
from postroad.observe.stories import read_story
from postroad.service.threads import WorkerThreads
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet

WRITER = """
import asyncio, sys, time
from tests.units.facts_world import AT, story
from postroad.observe.outlet import FactOutlet
from postroad.observe.segments import FactStore
from postroad.service.threads import WorkerThreads
from postroad.testing.fake_clock import FakeClock

async def main():
    store = FactStore(sys.argv[1], "0", threads=WorkerThreads(), clock=FakeClock(AT), keep=1e7, disk_max=1 << 30)
    outlet = FactOutlet(store)
    number = 0
    while True:
        for fact in story(number):
            outlet.emit(fact)
        print(number, time.monotonic(), flush=True)
        number += 1
        await asyncio.sleep(0.001)

asyncio.run(main())
"""
LATE = 1.0
"""Seconds that a busy machine may take to write a batch."""


def test_a_killed_writer_costs_about_a_second(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    emitted: dict[int, float] = {}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            number, at = line.split()
            emitted[int(number)] = float(at)
            if float(at) - emitted[0] > 4 * BATCH_AFTER:
                break
        writer.kill()
        killed_at = time.monotonic()
    segment = tmp_path / "2026-09-21-0.db"
    assert (tmp_path / "2026-09-21-0.db-wal").exists()
    due = [number for number, at in emitted.items() if at < killed_at - BATCH_AFTER - LATE]
    assert len(due) > 100

    async def check() -> None:
        threads = WorkerThreads()
        for number in (due[0], due[len(due) // 2], due[-1]):
            assert [fact async for fact in read_story(str(tmp_path), message_id(number), threads)] == story(number)
        found = {
            fact.message
            async for fact in read_story(str(tmp_path), "a@sender.example", threads, limit=1_000_000)
            if isinstance(fact, facts.Delivered)
        }
        assert {message_id(number) for number in due} <= found
        store = FactStore(str(tmp_path), "0", threads=threads, clock=FakeClock(AT), keep=DAY, disk_max=GIB)
        store.take(story(1_000_000))
        await store.close()  # the next one goes on in the same segment
        story_of = read_story(str(tmp_path), message_id(1_000_000), threads)
        assert [fact async for fact in story_of] == story(1_000_000)
        threads.close()

    asyncio.run(check())
    assert sorted(os.listdir(tmp_path)) == [segment.name]
    with sqlite3.connect(segment) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_full_disk_costs_the_facts_of_that_time_and_no_more(tmp_path: Path) -> None:
    async def work(directory: Path) -> None:
        threads, outlet = WorkerThreads(), FakeOutlet()
        store = FactStore(str(directory / "facts"), "0", threads=threads, clock=FakeClock(AT), keep=DAY, disk_max=GIB)
        store.attach(outlet)
        store.take(story(0))
        await store.flush()
        ballast = directory / "ballast"
        fill(ballast, 64 << 20)
        number = 0
        async with asyncio.timeout(60):
            while not outlet.facts:
                for _ in range(200):
                    number += 1
                    store.take(story(number))
                await store.flush()
        assert [(fact.what, fact.over) for fact in outlet.of(facts.Trouble)] == [("facts", False)]
        store.take(story(number + 1))
        await store.flush()
        ballast.unlink()

        def is_over() -> bool:
            store.take(story(1_000_000))
            return any(fact.over for fact in outlet.of(facts.Trouble))

        await soon(is_over)
        await store.close()
        assert len(outlet.facts) == 2
        for one, expected in ((0, story(0)), (number, []), (number + 1, [])):
            assert [fact async for fact in read_story(store_directory(directory), message_id(one), threads)] == expected
        found = [fact async for fact in read_story(store_directory(directory), message_id(1_000_000), threads)]
        assert found[:1] == story(1_000_000)[:1]
        threads.close()

    with small_disk(tmp_path / "disk") as directory:
        asyncio.run(work(directory))


def store_directory(directory: Path) -> str:
    return str(directory / "facts")
