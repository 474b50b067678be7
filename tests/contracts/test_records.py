"""The contract of core.faces.Records, for the file and the shipped fake."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from tests.contracts.streams import run
from tests.units.ledger_world import LedgerWorld

from postroad.core.faces import RecordRow
from postroad.records.reader import SqliteReader
from postroad.records.recovering import RecoveringRecords
from postroad.records.store import SLICE, SqliteRecords
from postroad.service.threads import WorkerThreads
from postroad.testing.fake_outlet import FakeOutlet
from postroad.testing.memory_records import MemoryRecords


class Clock:
    seconds = 1000.0

    def now(self) -> float:
        return self.seconds


@asynccontextmanager
async def in_memory(path, clock):
    yield MemoryRecords(clock)


@asynccontextmanager
async def in_file(path, clock):
    threads = WorkerThreads()
    records = await SqliteRecords.open(str(path / "records.db"), threads, clock)
    try:
        yield records
    finally:
        await records.close()
        threads.close()


@asynccontextmanager
async def in_recovering_file(path, clock):
    threads = WorkerThreads()
    records = await RecoveringRecords.open(str(path / "records.db"), threads, clock, FakeOutlet())
    try:
        yield records
    finally:
        await records.close()
        threads.close()


@asynccontextmanager
async def by_the_ledger(path, clock):
    """What another process has: it reads the file and has the ledger write."""
    threads = WorkerThreads()
    records = await SqliteRecords.open(str(path / "records.db"), threads, clock)
    reader = SqliteReader(str(path / "records.db"), threads, clock)
    try:
        async with LedgerWorld(path, workers=1, records=records, reader=reader) as world:
            yield world.clients[0].records
    finally:
        await reader.close()
        await records.close()
        threads.close()


@pytest.fixture(
    params=[in_memory, in_file, in_recovering_file, by_the_ledger], ids=["memory", "file", "recovering", "ledger"]
)
def play(request, tmp_path):
    def player(script):
        clock = Clock()

        async def work():
            async with request.param(tmp_path, clock) as records:
                await script(records, clock)

        run("uvloop", work())

    return player


def row(key, value=b"v", expires_at=None):
    return RecordRow(key, value, expires_at)


async def keys(records, table, prefix=""):
    return [found.key async for found in records.scan(table, prefix)]


def test_what_is_put_is_there(play):
    async def script(records, _):
        assert await records.get("users", "ann") is None
        await records.put("users", row("ann", bytes(range(256)), 2000.0))
        assert await records.get("users", "ann") == row("ann", bytes(range(256)), 2000.0)
        assert await records.get("bans", "ann") is None
        assert await records.get("users", "Ann") is None

    play(script)


def test_a_row_replaces_an_older_one(play):
    async def script(records, _):
        await records.put("users", row("ann", b"1", 2000.0))
        await records.put("users", row("ann", b"2"))
        assert await records.get("users", "ann") == row("ann", b"2")
        assert await keys(records, "users") == ["ann"]

    play(script)


def test_a_row_is_deleted_once(play):
    async def script(records, _):
        await records.put("users", row("ann"))
        assert await records.delete("users", "ann") is True
        assert await records.delete("users", "ann") is False
        assert await records.get("users", "ann") is None

    play(script)


def test_a_row_expires(play):
    async def script(records, clock):
        await records.put("bans", row("192.0.2.1", expires_at=1010.0))
        await records.put("bans", row("192.0.2.2"))
        clock.seconds = 1009.9
        assert await records.get("bans", "192.0.2.1")
        clock.seconds = 1010.0
        assert await records.get("bans", "192.0.2.1") is None
        assert await keys(records, "bans") == ["192.0.2.2"]
        assert await records.delete("bans", "192.0.2.1") is False
        await records.put("bans", row("192.0.2.1", b"again", 1020.0))
        assert await records.get("bans", "192.0.2.1") == row("192.0.2.1", b"again", 1020.0)

    play(script)


def test_a_scan_is_in_order_and_by_prefix(play):
    async def script(records, _):
        for key in ("b", "a/2", "a/10", "a", "a0", "A", "é", "a/", "", "日本", "z%_"):
            await records.put("t", row(key))
        assert await keys(records, "t") == sorted(["b", "a/2", "a/10", "a", "a0", "A", "é", "a/", "", "日本", "z%_"])
        assert await keys(records, "t", "a/") == ["a/", "a/10", "a/2"]
        assert await keys(records, "t", "z%") == ["z%_"]
        assert await keys(records, "t", "none") == []
        assert await keys(records, "empty") == []

    play(script)


def test_a_long_scan_lets_others_have_their_turn(play):
    async def script(records, _):
        names = [f"{number:05}" for number in range(SLICE * 2 + 10)]
        for name in names:
            await records.put("t", row(name))
        seen = []
        async for found in records.scan("t"):
            if found.key == "00003":
                await records.delete("t", names[-1])
                await records.put("t", row("00001x"))
            seen.append(found.key)
        assert seen == names[:-1]

    play(script)
