"""A file of records that cannot be read keeps nobody from anything but records, and is read when it can be."""

from __future__ import annotations

import pytest
from tests.contracts.streams import run

from postroad.core.faces import RecordRow, RecordsTrouble
from postroad.core.facts import Trouble
from postroad.records.reader import SqliteReader
from postroad.records.recovering import RecoveringRecords
from postroad.service.threads import WorkerThreads
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet


def test_an_unreadable_file_is_told_once_and_read_again_when_it_can_be(tmp_path):
    async def work():
        threads, outlet = WorkerThreads(), FakeOutlet()
        path = tmp_path / "records.db"
        path.write_bytes(b"this is no database, whatever its name says " * 100)
        records = await RecoveringRecords.open(str(path), threads, FakeClock(), outlet)
        for _ in range(3):
            with pytest.raises(RecordsTrouble, match="not a database"):
                await records.put("users", RecordRow("ann", b"1", None))
        assert [(fact.what, fact.over) for fact in outlet.of(Trouble)] == [("records", False)]
        path.unlink()
        await records.put("users", RecordRow("ann", b"1", None))
        assert await records.get("users", "ann") == RecordRow("ann", b"1", None)
        assert [fact.over for fact in outlet.of(Trouble)] == [False, True]
        await records.close()
        threads.close()

    run("uvloop", work())


def test_a_reader_without_a_file_says_so_and_finds_it_later(tmp_path):
    async def work():
        threads = WorkerThreads()
        path = str(tmp_path / "records.db")
        reader = SqliteReader(path, threads, FakeClock())
        with pytest.raises(RecordsTrouble):
            await reader.get("users", "ann")
        records = await RecoveringRecords.open(path, threads, FakeClock(), FakeOutlet())
        assert await reader.get("users", "ann") is None
        await records.put("users", RecordRow("ann", b"1", None))
        assert await reader.get("users", "ann") == RecordRow("ann", b"1", None)
        await reader.close()
        await records.close()
        threads.close()

    run("uvloop", work())


def test_a_reader_cannot_write(tmp_path):
    async def work():
        threads = WorkerThreads()
        path = str(tmp_path / "records.db")
        records = await RecoveringRecords.open(path, threads, FakeClock(), FakeOutlet())
        reader = SqliteReader(path, threads, FakeClock())
        await reader.get("users", "ann")
        assert reader._connection.readonly("main")
        await reader.close()
        await records.close()
        threads.close()

    run("uvloop", work())
