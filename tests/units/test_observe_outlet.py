"""Batches, subscribers, and a log whose reader is slow or gone."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.contracts.streams import LOOPS, run

from postroad.core.facts import Stopped, Trouble
from postroad.observe import outlet as module
from postroad.observe import writer
from postroad.observe.log import Level, LogLines
from postroad.observe.outlet import FactOutlet
from postroad.observe.writer import LogWriter
from postroad.service.threads import WorkerThreads
from postroad.testing.fake_outlet import FakeOutlet


@pytest.fixture(params=list(LOOPS))
def loop(request):
    return request.param


@pytest.fixture
def threads():
    threads = WorkerThreads()
    yield threads
    threads.close()


@pytest.fixture
def pipe():
    reader, end = os.pipe()
    with open(reader, "rb", 0) as reading, open(end, "wb", 0) as writing:
        yield reading, writing


class Batches:
    def __init__(self) -> None:
        self.batches = []
        self.closed = False

    def take(self, facts) -> None:
        assert not self.closed
        self.batches.append(list(facts))

    async def close(self) -> None:
        self.closed = True


def stopped(number: int) -> Stopped:
    return Stopped(at=float(number), why=f"w{number}")


# --- the outlet ---


def test_what_comes_together_is_one_batch(loop):
    async def work():
        seen = Batches()
        outlet = FactOutlet(seen)
        for number in range(5):
            outlet.emit(stopped(number))
            await asyncio.sleep(0)
        assert seen.batches == []
        while not seen.batches:
            await asyncio.sleep(0)
        assert seen.batches == [[stopped(number) for number in range(5)]]

    run(loop, work())


def test_a_large_batch_does_not_wait_for_the_timer(loop, monkeypatch):
    monkeypatch.setattr(module, "FLUSH_AFTER", 3600)

    async def work():
        seen = Batches()
        outlet = FactOutlet(seen)
        for number in range(module.BATCH_MAX + 1):
            outlet.emit(stopped(number))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [len(batch) for batch in seen.batches] == [module.BATCH_MAX]

    run(loop, work())


def test_the_end_hands_on_the_last_facts_and_closes(loop, monkeypatch):
    monkeypatch.setattr(module, "FLUSH_AFTER", 3600)

    async def work():
        first, second = Batches(), Batches()
        outlet = FactOutlet(first)
        outlet.subscribe(second)
        outlet.emit(stopped(1))
        await outlet.close()
        assert first.batches == second.batches == [[stopped(1)]]
        assert first.closed
        assert second.closed
        outlet.emit(stopped(2))
        outlet.flush()

    run(loop, work())


def test_a_subscriber_that_breaks_takes_nothing_from_the_others(loop):
    class Broken(Batches):
        def take(self, facts):
            raise ZeroDivisionError

    async def work():
        errors = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: errors.append(context["exception"]))
        seen = Batches()
        outlet = FactOutlet(Broken(), seen)
        outlet.emit(stopped(1))
        await outlet.close()
        assert seen.batches == [[stopped(1)]]
        assert [type(error) for error in errors] == [ZeroDivisionError]

    run(loop, work())


def test_a_subscriber_may_leave(loop):
    async def work():
        seen = Batches()
        outlet = FactOutlet()
        leave = outlet.subscribe(seen)
        leave()
        outlet.emit(stopped(1))
        await outlet.close()
        assert seen.batches == []

    run(loop, work())


def test_the_fake_waits_for_a_fact(loop):
    async def work():
        outlet = FakeOutlet()
        outlet.emit(stopped(1))
        waiting = asyncio.ensure_future(outlet.until(Trouble, lambda fact: fact.over))
        await asyncio.sleep(0)
        outlet.emit(Trouble(at=1.0, what="disk", why="full"))
        await asyncio.sleep(0)
        assert not waiting.done()
        outlet.emit(over := Trouble(at=2.0, what="disk", why="full", over=True))
        assert await waiting is over

    run(loop, work())


# --- the writer ---


def test_lines_are_written_whole_and_in_order(loop, threads, tmp_path):
    async def work():
        with open(tmp_path / "log", "wb") as file:
            log = LogWriter(file.fileno(), LogLines(), threads)
            outlet = FactOutlet(log)
            for number in range(3000):
                outlet.emit(stopped(number))
                if number % 500 == 0:
                    await asyncio.sleep(0)
            await outlet.close()
        lines = (tmp_path / "log").read_text().splitlines()
        assert [line.rpartition("=")[2] for line in lines] == [f"w{number}" for number in range(3000)]

    run(loop, work())


def test_a_reader_that_stands_still_stops_nobody(loop, threads, pipe, monkeypatch):
    monkeypatch.setattr(writer, "PENDING_MAX", 20_000)
    reader, end = pipe

    async def work():
        log = LogWriter(end.fileno(), LogLines(level=Level.DEBUG), threads)
        for number in range(4000):  # about 200 KiB; the pipe takes 64
            log.take([stopped(number)])
            if number % 100 == 0:
                log.take([Trouble(at=float(number), what="disk", why=f"t{number}")])
                await asyncio.sleep(0)
        assert log._octets <= 20_000
        closing = asyncio.ensure_future(log.close())
        os.set_blocking(reader.fileno(), False)
        got = b""
        while not closing.done():
            try:
                got += os.read(reader.fileno(), 65_536)
            except BlockingIOError:
                await asyncio.sleep(0)
        await closing
        while True:
            try:
                got += os.read(reader.fileno(), 65_536)
            except BlockingIOError:
                break
        lines = got.decode().splitlines()
        lost = sum(int(line.partition('why="')[2].split()[0]) for line in lines if "left out" in line)
        kept = [line for line in lines if "left out" not in line]
        assert lost > 1000
        assert lost + len(kept) == 4040
        assert sum("kind=trouble" in line for line in kept) == 40  # warnings outlive what matters less
        assert kept[-1].endswith("w3999")

    run(loop, work())


def test_the_end_does_not_wait_for_ever(loop, threads, pipe, monkeypatch):
    monkeypatch.setattr(writer, "CLOSE_TIMEOUT", 0.01)
    _, end = pipe

    async def work():
        log = LogWriter(end.fileno(), LogLines(), threads)
        log.take([stopped(number) for number in range(3000)])
        await log.close()

    run(loop, work())
    threads.close()  # its lane ends too, though the pipe is still full


def test_a_reader_that_is_gone_hurts_nobody(loop, threads, pipe):
    reader, end = pipe
    reader.close()

    async def work():
        log = LogWriter(end.fileno(), LogLines(), threads)
        log.take([stopped(1)])
        await log.close()
        assert log._lost == 1

    run(loop, work())


def test_what_is_below_the_level_is_not_written(loop, threads, tmp_path):
    async def work():
        with open(tmp_path / "log", "wb") as file:
            log = LogWriter(file.fileno(), LogLines(level=Level.WARNING), threads)
            log.take([stopped(1), Trouble(at=2.0, what="disk", why="full")])
            log.take([stopped(3)])
            await log.close()
        assert (tmp_path / "log").read_text() == (
            "time=1970-01-01T00:00:02.000Z level=warning kind=trouble what=disk why=full\n"
        )

    run(loop, work())
