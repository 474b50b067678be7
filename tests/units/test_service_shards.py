"""The shards of a data_dir: which there are, opening all or none, adoption and what is left of an adopted one."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import apsw
import pytest
from tests.units.test_spool_shard import NOW, content_of, message, run
from tests.units.test_spool_transfer import LARGE, every, large, opened, rows

from postroad.config.load import load_text
from postroad.config.model import Settings
from postroad.core import facts
from postroad.core.faces import Disk
from postroad.service import shards
from postroad.service.adoptions import Adoptions
from postroad.service.shards import Adoption, adopt, open_all_shards, open_shard, shard_numbers
from postroad.service.threads import WorkerThreads
from postroad.spool.face import Selection
from postroad.spool.owner import LockOwner, ShardOwned
from postroad.spool.shard import Shard
from postroad.testing.fake_clock import FakeClock
from postroad.testing.fake_outlet import FakeOutlet


def settings(place: Path, more: str = "") -> Settings:
    return load_text(f'data_dir = "{place}"\n[spool]\nmin_free = "0B"\n{more}').settings


async def fill(place: Path, number: int, messages: int) -> list[int]:
    async with opened(place, number) as shard:
        new = [message(shard) for _ in range(messages)]
        await asyncio.gather(*(shard.put(one) for one in new))
        return [one.id for one in new]


def test_the_numbers_of_the_shards_there_are(tmp_path: Path) -> None:
    assert shard_numbers(tmp_path / "nowhere") == []
    for name in ("shard-10", "shard-2", "shard-02", "shard-1.damaged-7", "shard-x", "shard-256", "records"):
        (tmp_path / name).mkdir()
    (tmp_path / "shard-5").touch()
    assert shard_numbers(tmp_path) == [2, 10]


def test_all_shards_are_opened_or_none(tmp_path: Path) -> None:
    async def work() -> None:
        for number in (0, 3):
            await fill(tmp_path, number, number + 1)
        async with open_all_shards(settings(tmp_path), FakeClock(NOW), FakeOutlet()) as spools:
            assert [spool.stats().messages for spool in spools] == [1, 4]
        held = LockOwner(str(tmp_path / "shard-3"))
        with pytest.raises(ShardOwned):
            async with open_all_shards(settings(tmp_path), FakeClock(NOW), FakeOutlet()):
                raise AssertionError("two owners")
        LockOwner(str(tmp_path / "shard-0")).release()
        held.release()

    run(work())


def test_where_there_is_no_shard_the_first_is_made(tmp_path: Path) -> None:
    async def work() -> None:
        async with open_all_shards(settings(tmp_path), FakeClock(NOW), FakeOutlet()) as spools:
            assert [spool.stats().messages for spool in spools] == [0]
        assert shard_numbers(tmp_path) == [0]

    run(work())


def test_an_adopted_shard_is_moved_whole_and_gone(tmp_path: Path) -> None:
    async def work() -> None:
        ids = await fill(tmp_path, 3, 250)
        async with opened(tmp_path, 3) as shard:
            ids.append(await large(shard))
            await shard.put(message(shard, "f@dropped.example"))
            await shard.drop(Selection(domain="dropped.example"), "by hand")
        outlet, threads = FakeOutlet(), WorkerThreads()
        parts = {"settings": settings(tmp_path), "clock": FakeClock(NOW), "outlet": outlet, "threads": threads}
        async with open_shard(*list(parts.values()), number=1) as shard:
            assert await adopt(3, shard, **parts) == 251
            assert [one.id for one in await every(shard)] == ids
            assert await content_of(shard, ids[-1]) == LARGE
        threads.close()
        assert [path.name for path in tmp_path.iterdir()] == ["shard-1"]
        for table in ("arrived", "copied"):
            assert rows(tmp_path, 1, f"SELECT * FROM {table}") == []
        assert rows(tmp_path, 1, "SELECT rule FROM dropped") == [("by hand",)]
        (adopted,) = outlet.of(facts.Adopted)
        assert (adopted.shard, adopted.into, adopted.messages) == (3, 1, 251)

    run(work())


def test_what_is_left_of_a_removal_is_removed(tmp_path: Path) -> None:
    async def work() -> None:
        (tmp_path / "shard-2").mkdir()
        (tmp_path / "shard-4" / "bodies").mkdir(parents=True)
        (tmp_path / "shard-4" / "owner.lock").touch()
        async with open_shard(settings(tmp_path), FakeClock(NOW), FakeOutlet()) as shard:
            threads = WorkerThreads()
            for number in (2, 4):
                adoption = Adoption(
                    number,
                    shard,
                    settings=settings(tmp_path),
                    clock=FakeClock(NOW),
                    outlet=FakeOutlet(),
                    threads=threads,
                )
                assert await adoption.run() == 0
            threads.close()
        assert shard_numbers(tmp_path) == [0]

    run(work())


def test_whoever_steers_hears_which_shards_are_not_here_yet(tmp_path: Path) -> None:
    """On their way before they are moved at all, and here once their mail is, though their directories may stay."""

    async def work() -> None:
        await fill(tmp_path, 2, 5)
        await fill(tmp_path, 3, 7)
        threads = WorkerThreads()
        parts = {"settings": settings(tmp_path), "clock": FakeClock(NOW), "outlet": FakeOutlet(), "threads": threads}
        held = LockOwner(str(tmp_path / "shard-3"))
        async with open_shard(*list(parts.values()), number=1) as shard:
            third, second = (Adoption(number, shard, **parts) for number in (3, 2))
            adoptions = Adoptions([third, second])
            await adoptions.wait(0.01)
            assert adoptions.missing() == (2, 3)
            adoptions.start()
            await asyncio.wait_for(second.settled(), 20.0)
            assert shard.stats().messages == 5
            await adoptions.wait(0.01)  # the other is held by somebody else
            assert adoptions.missing() == (3,)
            held.release()
            await adoptions.wait(20.0)
            assert adoptions.missing() == ()
            assert shard.stats().messages == 12
            assert await asyncio.gather(*adoptions.tasks) == [7, 5]
        threads.close()

    run(work())


def test_a_shard_is_here_when_its_mail_is_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that cannot be removed keeps nobody waiting; an adoption that was stopped is not over by that."""

    def refuse(directory: str, _: object) -> None:
        raise OSError(errno.EIO, "no", directory)

    async def work() -> None:
        await fill(tmp_path, 3, 7)
        threads = WorkerThreads()
        parts = {"settings": settings(tmp_path), "clock": FakeClock(NOW), "outlet": FakeOutlet(), "threads": threads}
        async with open_shard(*list(parts.values()), number=1) as shard:
            stopped = Adoptions([Adoption(3, shard, **parts)])
            stopped.start()
            await stopped.stop()
            assert stopped.missing() == (3,)
            monkeypatch.setattr("postroad.service.shards.remove_shard", refuse)
            adoptions = Adoptions([Adoption(3, shard, **parts)])
            adoptions.start()
            await adoptions.wait(20.0)
            assert (adoptions.missing(), shard.stats().messages) == ((), 7)
            assert shard_numbers(tmp_path) == [1, 3]
            await adoptions.stop()
        threads.close()

    run(work())


def test_what_a_newer_postroad_wrote_is_named_and_not_waited_for(tmp_path: Path) -> None:
    async def work() -> None:
        await fill(tmp_path, 3, 7)
        database = apsw.Connection(str(tmp_path / "shard-3" / "spool.db"))
        database.execute("INSERT INTO migration VALUES (99, 'later', 0)")
        database.close()
        threads = WorkerThreads()
        parts = {"settings": settings(tmp_path), "clock": FakeClock(NOW), "outlet": FakeOutlet(), "threads": threads}
        async with open_shard(*list(parts.values()), number=1) as shard:
            adoptions = Adoptions([Adoption(3, shard, **parts)])
            adoptions.start()
            await asyncio.wait_for(adoptions.wait(1_000.0), 20.0)
            assert adoptions.missing() == (3,)
            assert await asyncio.gather(*adoptions.tasks) == [0]
        threads.close()

    run(work())


@pytest.mark.parametrize("what", ["close", "remove"])
def test_a_stop_waits_for_what_is_under_way_before_the_lock_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A shard that is being closed, or removed, is nobody else's yet."""
    begun, may_end = threading.Event(), threading.Event()
    close, remove = Shard.close, shards.remove_shard

    async def close_slowly(shard: Shard) -> None:
        if shard.number == 3:
            begun.set()
            assert await asyncio.to_thread(may_end.wait, 20.0)
        await close(shard)

    def remove_slowly(directory: str, disk: Disk) -> None:
        begun.set()
        assert may_end.wait(20.0)
        remove(directory, disk)

    async def work() -> None:
        await fill(tmp_path, 3, 7)
        if what == "close":
            monkeypatch.setattr(Shard, "close", close_slowly)
        else:
            monkeypatch.setattr(shards, "remove_shard", remove_slowly)
        threads = WorkerThreads()
        parts = {"settings": settings(tmp_path), "clock": FakeClock(NOW), "outlet": FakeOutlet(), "threads": threads}
        async with open_shard(*list(parts.values()), number=1) as shard:
            adoptions = Adoptions([Adoption(3, shard, **parts)])
            adoptions.start()
            assert await asyncio.to_thread(begun.wait, 20.0)
            stopping = asyncio.ensure_future(adoptions.stop())
            for _ in range(10):
                await asyncio.sleep(0)
            assert adoptions.tasks[0].cancelling()
            with pytest.raises(ShardOwned):
                LockOwner(str(tmp_path / "shard-3"))
            may_end.set()
            await asyncio.wait_for(stopping, 20.0)
            assert shard_numbers(tmp_path) == ([1, 3] if what == "close" else [1])
            if what == "close":
                LockOwner(str(tmp_path / "shard-3")).release()
            assert shard.stats().messages == 7
        threads.close()

    run(work())


KILLS = 6
MESSAGES = 3_000
ROOT = Path(__file__).parents[2]


def test_an_adoption_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    ids = set(asyncio.run(fill(tmp_path, 3, MESSAGES)))
    ids.add(asyncio.run(one_large(tmp_path)))
    kills = 0
    for number in range(1, 100):
        done = adopted_or_killed(tmp_path, 0.02 * number if kills < KILLS else 60.0)
        if done:
            break
        kills += 1
        asyncio.run(counted(tmp_path, ids))
    assert kills >= KILLS // 2
    assert shard_numbers(tmp_path) == [1]
    asyncio.run(counted(tmp_path, ids))
    assert rows(tmp_path, 1, "SELECT * FROM arrived") == []
    assert len(list((tmp_path / "shard-1" / "bodies").iterdir())) == 1


async def one_large(place: Path) -> int:
    async with opened(place, 3) as shard:
        return await large(shard)


async def counted(place: Path, ids: set[int]) -> None:
    """Each message is in one of the shards, or, where the kill fell between the two, in both, noted as arrived."""
    held: dict[int, list[int]] = {}
    for number in shard_numbers(place):
        async with opened(place, number) as shard:
            held[number] = [one.id for one in await every(shard)]
            assert len(held[number]) == len(set(held[number])) == shard.stats().messages
    source, target = set(held.get(3, ())), set(held.get(1, ()))
    assert source | target == ids
    if both := source & target:
        assert both <= {row[0] for row in rows(place, 1, "SELECT message_id FROM arrived")}


def adopted_or_killed(place: Path, seconds: float) -> bool:
    """Run an adoption for so long at most, from when it has begun, then kill it; True if it was done before."""
    command = [sys.executable, "-m", "tests.units.adopting", str(place), "3", "1"]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        deadline = time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            return False
        assert process.returncode == 0
        return True
