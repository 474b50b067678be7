"""The file of records: durable, private, tidy, and told when it cannot be."""

from __future__ import annotations

import os
import shutil
import stat
from contextlib import asynccontextmanager

import apsw
import pytest
from tests.contracts.streams import run

from postroad.core.faces import RecordRow, RecordsTrouble
from postroad.records import store
from postroad.records.migrations import RecordsTooNew
from postroad.records.store import SqliteRecords
from postroad.service.threads import WorkerThreads


class Clock:
    seconds = 1000.0

    def now(self) -> float:
        return self.seconds


@pytest.fixture
def opened(tmp_path):
    @asynccontextmanager
    async def opening(clock=None):
        threads = WorkerThreads()
        try:
            records = await SqliteRecords.open(str(tmp_path / "records.db"), threads, clock or Clock())
            yield records
            await records.close()
        finally:
            threads.close()

    return opening


def test_rows_outlive_the_process(opened):
    async def work():
        async with opened() as records:
            await records.put("users", RecordRow("ann", b"1", None))
        async with opened() as records:
            assert await records.get("users", "ann") == RecordRow("ann", b"1", None)

    run("uvloop", work())


def test_a_call_returns_when_its_change_is_durable(opened, tmp_path):
    async def work():
        async with opened() as records:
            assert list(records._connection.execute("PRAGMA synchronous")) == [(2,)]  # FULL
            assert list(records._connection.execute("PRAGMA journal_mode")) == [("wal",)]
            await records.put("users", RecordRow("ann", b"1", None))
            other = apsw.Connection(str(tmp_path / "records.db"), flags=apsw.SQLITE_OPEN_READONLY)
            assert list(other.execute("SELECT key FROM record")) == [("ann",)]  # an ordinary reader
            other.close()

    run("uvloop", work())


def test_the_file_is_private_whatever_the_umask(opened, tmp_path):
    async def work():
        async with opened() as records:
            await records.put("users", RecordRow("ann", b"1", None))
            for name in os.listdir(tmp_path):
                assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600

    old = os.umask(0)
    try:
        run("uvloop", work())
    finally:
        os.umask(old)


def test_expired_rows_do_not_gather(opened):
    async def work():
        clock = Clock()
        async with opened(clock) as records:
            for number in range(100):
                await records.put("bans", RecordRow(f"{number}", b"", 1001.0))
            clock.seconds = 2000.0
            for number in range(6):
                await records.put("users", RecordRow(f"{number}", b"", None))
            assert list(records._connection.execute("SELECT count(*) FROM record")) == [(6,)]

    run("uvloop", work())


def test_a_file_of_a_newer_version_is_left_alone(opened, tmp_path):
    async def work():
        async with opened() as records:
            records._connection.execute("INSERT INTO migration VALUES (99, 'later', 0)")
        with pytest.raises(RecordsTooNew, match="schema 99"):
            async with opened():
                pass

    run("uvloop", work())


def test_a_file_that_cannot_be_used_is_named(opened, tmp_path):
    async def work():
        with pytest.raises(RecordsTrouble, match=r"records\.db"):
            async with opened():
                pass

    (tmp_path / "records.db").write_bytes(b"not a database" * 100)
    run("uvloop", work())
    (tmp_path / "records.db").unlink()
    (tmp_path / "records.db").mkdir()
    run("uvloop", work())


def test_a_failed_write_changes_nothing_and_is_told(opened):
    async def work():
        async with opened() as records:
            await records.put("users", RecordRow("ann", b"1", None))
            pages = records._connection.pragma("page_count")
            records._connection.execute(f"PRAGMA max_page_count={pages}")
            with pytest.raises(RecordsTrouble, match="full"):
                await records.put("users", RecordRow("bob", bytes(100_000), None))
            assert await records.get("users", "bob") is None
            assert await records.get("users", "ann") == RecordRow("ann", b"1", None)

    run("uvloop", work())


def test_the_wal_is_written_again_before_anything_rests_on_it(opened, tmp_path, monkeypatch):
    """A sync that failed before the process died left frames that only the kernel's memory holds."""

    async def work():
        async with opened() as records:
            await records.put("users", RecordRow("ann", b"1", None))
            for name in ("records.db", "records.db-wal"):  # as they are when the process dies
                shutil.copy(tmp_path / name, tmp_path / "killed" / name)
        for name in ("records.db", "records.db-wal"):
            shutil.copy(tmp_path / "killed" / name, tmp_path / name)
        told = []
        written = os.pwrite
        monkeypatch.setattr(os, "pwrite", lambda *those: (told.append(len(those[1])), written(*those))[1])
        async with opened() as records:
            assert await records.get("users", "ann") == RecordRow("ann", b"1", None)
        assert told == [(tmp_path / "killed" / "records.db-wal").stat().st_size]
        assert told[0] > 4096

    (tmp_path / "killed").mkdir()
    run("uvloop", work())


def test_a_file_that_stays_without_a_wal_is_not_used(opened, tmp_path, monkeypatch):
    """SQLite passes over what keeps it from changing the mode, as another connection that is open."""

    async def work():
        with pytest.raises(RecordsTrouble):
            async with opened():
                pass

    other = apsw.Connection(str(tmp_path / "records.db"))
    other.execute("CREATE TABLE x (y); BEGIN; SELECT * FROM x").fetchall()
    monkeypatch.setattr(store, "BUSY_MILLISECONDS", 1)
    run("uvloop", work())
    other.close()
