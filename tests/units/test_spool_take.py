"""Taking a shard on a disk that fails in the middle of it: nothing stays open, and an orphan is no reason to wait."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.units.test_spool_shard import NOW, message, opened, run

from postroad.core import facts
from postroad.service.threads import WorkerThreads
from postroad.spool.errors import StoreTrouble
from postroad.spool.ground import ShardSettings
from postroad.spool.real_disk import OsDisk
from postroad.spool.recovery import Found, drop_contents, reopen
from postroad.spool.rows import body_name
from postroad.spool.shard import Shard
from postroad.spool.store import StoreOptions
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet


class BrokenDisk(OsDisk):
    """A disk that does not do one thing to content files."""

    def __init__(self, operation: str) -> None:
        super().__init__()
        self.operation = operation

    def _look(self, operation: str, path: str) -> None:
        if operation == self.operation and "/bodies" in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    def unlink(self, path: str) -> None:
        self._look("unlink", path)
        super().unlink(path)

    def list(self, path: str) -> Sequence[str]:
        self._look("list", path)
        return super().list(path)


async def take(place: Path, disk: OsDisk, threads: WorkerThreads, outlet: FakeOutlet) -> Shard:
    return await Shard.take(
        str(place / "shard-0"),
        number=0,
        clock=FakeClock(NOW),
        outlet=outlet,
        disk=disk,
        threads=threads,
        settings=ShardSettings(min_free=0),
    )


def files_open_below(place: Path) -> list[str]:
    found = (os.path.realpath(f"/proc/self/fd/{number}") for number in os.listdir("/proc/self/fd"))
    return [path for path in found if path.startswith(str(place))]


async def an_orphan(place: Path) -> None:
    async with opened(place) as shard:
        await shard.put(message(shard))
        writer = shard.begin_body(shard.new_id())
        await writer.write(b"x")
        await writer.finish()


def test_a_shard_that_cannot_be_taken_leaves_nothing_open(tmp_path: Path) -> None:
    async def work() -> None:
        await an_orphan(tmp_path)
        threads = WorkerThreads()
        for _ in range(3):
            with pytest.raises(StoreTrouble, match="bodies"):
                await take(tmp_path, BrokenDisk("list"), threads, FakeOutlet())
        assert files_open_below(tmp_path) == []
        shard = await take(tmp_path, OsDisk(), threads, FakeOutlet())
        assert shard.stats().messages == 1
        await shard.close()
        threads.close()

    run(work())


def test_a_shard_whose_taking_is_cancelled_leaves_nothing_open(tmp_path: Path) -> None:
    async def work() -> None:
        await an_orphan(tmp_path)
        threads = WorkerThreads()
        taking = asyncio.ensure_future(take(tmp_path, OsDisk(), threads, FakeOutlet()))
        while not any(path.endswith("spool.db") for path in files_open_below(tmp_path)):
            await asyncio.sleep(0)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert files_open_below(tmp_path) == []
        threads.close()

    run(work())


def test_a_content_that_cannot_be_dropped_keeps_no_other(tmp_path: Path) -> None:
    class OneStays(OsDisk):
        def unlink(self, path: str) -> None:
            if path.endswith(body_name(1)):
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)
            super().unlink(path)

    directory = tmp_path / "shard-0"
    (directory / "bodies").mkdir(parents=True)
    for number in (1, 2, 3):
        (directory / "bodies" / body_name(number)).write_bytes(b"x")
    found = reopen(str(directory), StoreOptions(), OsDisk(), (), NOW, 10)
    drop_contents(str(directory), OneStays(), found.store, [1, 2, 3])
    found.store.close(checkpoint=True)
    assert [one.name for one in (directory / "bodies").iterdir()] == [body_name(1)]


class HeldDisk(OsDisk):
    """A disk that does not say how much is free until it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()

    def free(self, path: str) -> int:
        self.begun.set()
        assert self.go.wait(30)
        return super().free(path)


def test_a_shard_whose_taking_is_cancelled_at_its_last_step_leaves_nothing_open(tmp_path: Path) -> None:
    async def work() -> None:
        await an_orphan(tmp_path)
        threads, disk = WorkerThreads(), HeldDisk()
        taking = asyncio.ensure_future(take(tmp_path, disk, threads, FakeOutlet()))
        await asyncio.to_thread(disk.begun.wait, 30)
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(taking, 10)
        assert files_open_below(tmp_path) == []
        disk.go.set()
        again = await take(tmp_path, disk, threads, FakeOutlet())
        await again.close()
        threads.close()

    run(work())


def test_a_shard_whose_taking_is_cancelled_twice_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> Found:
        begun.set()
        assert go.wait(30)
        return reopen(*arguments)

    async def work() -> None:
        await an_orphan(tmp_path)
        monkeypatch.setattr("postroad.spool.shard.reopen", slow)
        threads = WorkerThreads()
        taking = asyncio.ensure_future(take(tmp_path, OsDisk(), threads, FakeOutlet()))
        await asyncio.to_thread(begun.wait, 30)
        for _ in range(3):
            taking.cancel()
            for _ in range(10):
                await asyncio.sleep(0)
            assert files_open_below(tmp_path) == [str(tmp_path / "shard-0" / "owner.lock")], "the lock is held"
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await taking
        assert files_open_below(tmp_path) == []
        threads.close()

    run(work())


def test_an_orphan_that_cannot_be_removed_is_told_of_and_left_for_the_next_start(tmp_path: Path) -> None:
    async def work() -> None:
        await an_orphan(tmp_path)
        threads, outlet = WorkerThreads(), FakeOutlet()
        shard = await take(tmp_path, BrokenDisk("unlink"), threads, outlet)
        assert shard.stats().messages == 1
        (told,) = outlet.facts
        assert isinstance(told, facts.Trouble)
        assert told.why.startswith("content of no message could not be removed: ")
        await shard.close()
        threads.close()
        assert len(list((tmp_path / "shard-0" / "bodies").iterdir())) == 1
        async with opened(tmp_path):
            assert list((tmp_path / "shard-0" / "bodies").iterdir()) == []

    run(work())
