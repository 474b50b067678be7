"""A ledger process is killed and another takes its place on the same socket: limits hold, and it does not take long.

The test is the supervisor: it binds the socket, starts each ledger with it, and ends each by its pid. Two workers live
in the test's own process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager

import pytest
from tests.contracts.streams import run
from tests.world.harness import SOURCES
from tests.world.waiting import soon

from postroad.core.faces import Rate, RecordRow
from postroad.ledger.client import LedgerClient
from postroad.net.local import bind_private
from postroad.records.reader import SqliteReader
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock
from postroad.testing.fake_outlet import FakeOutlet

LEDGER = """
import asyncio, socket, sys
import uvloop
from postroad.ledger.server import LedgerServer
from postroad.records.recovering import RecoveringRecords
from postroad.service.threads import WorkerThreads
from postroad.service.wall_clock import WallClock
from postroad.testing.fake_outlet import FakeOutlet

async def live():
    clock, outlet = WallClock(), FakeOutlet()
    records = await RecoveringRecords.open(sys.argv[2], WorkerThreads(), clock, outlet)
    server = LedgerServer(records, clock=clock, outlet=outlet, time=asyncio.get_running_loop().time)
    await server.start(socket.socket(fileno=int(sys.argv[1])))
    await asyncio.Event().wait()

uvloop.run(live())
"""
RESTART_MAX = 5.0
"""Seconds. On an idle machine a Python process with these modules is there in about 0.3."""


class House:
    """The socket, the file, one ledger process at a time, and two workers."""

    def __init__(self, path) -> None:
        self.path = path
        self.bound = bind_private(path / "ledger.sock")
        self.bound.listen()
        self.records = str(path / "records.db")
        self.outlet = FakeOutlet()
        self.threads = WorkerThreads()
        self.reader = SqliteReader(self.records, self.threads, WallClock())
        self.clients = []
        self.process = None

    async def start_ledger(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", LEDGER, str(self.bound.fileno()), self.records),
            pass_fds=[self.bound.fileno()],
            env={**os.environ, "PYTHONPATH": SOURCES},
        )

    async def kill_ledger(self, number=signal.SIGKILL) -> None:
        os.kill(self.process.pid, number)
        if number == signal.SIGKILL:
            await self.process.wait()

    def start_workers(self) -> None:
        for slot in range(2):
            client = LedgerClient(
                self.path / "ledger.sock",
                slot=slot,
                workers=2,
                reader=self.reader,
                clock=WallClock(),
                outlet=self.outlet,
                time=asyncio.get_running_loop().time,
            )
            client.start()
            self.clients.append(client)

    async def until_there(self) -> None:
        await soon(lambda: all(client.is_there for client in self.clients), what="the ledger answers")

    async def until_away(self) -> None:
        await soon(lambda: not any(client.is_there for client in self.clients), what="the ledger is missed")


@pytest.fixture
def play(tmp_path):
    @asynccontextmanager
    async def living():
        house = House(tmp_path)
        try:
            await house.start_ledger()
            house.start_workers()
            await house.until_there()
            yield house
        finally:
            for client in house.clients:
                await client.close()
            if house.process.returncode is None:
                await house.kill_ledger()
            await house.reader.close()
            house.threads.close()
            house.bound.close()

    def player(script):
        async def work():
            async with living() as house:
                await script(house, *house.clients)

        run("uvloop", work())

    return player


def test_connections_are_counted_over_the_death_of_a_ledger(play):
    async def script(house, one, two):
        assert [await one.take_connection("to:mx.example", 3) for _ in range(3)] == [True] * 3
        assert not await two.take_connection("to:mx.example", 3)
        await house.kill_ledger()
        await house.until_away()
        assert not await two.take_connection("to:mx.example", 3), "its share is lent, and it knows"
        one.give_connection("to:mx.example")
        await house.start_ledger()
        await house.until_there()
        async with asyncio.timeout(RESTART_MAX):
            while not await two.take_connection("to:mx.example", 3):
                await asyncio.sleep(0)
        assert not await one.take_connection("to:mx.example", 3)

    play(script)


def test_a_new_ledger_knows_what_has_been_used_of_a_rate(play):
    async def script(house, one, two):
        rate = Rate(10, 60)
        assert [await one.take_tokens("to:mx.example", rate) for _ in range(8)] == [0.0] * 8
        await house.kill_ledger()
        await house.until_away()
        await house.start_ledger()
        await house.until_there()
        waits = [await two.take_tokens("to:mx.example", rate) for _ in range(4)]
        assert waits[:2] == [0.0, 0.0]
        assert all(50 < wait < 70 for wait in waits[2:])

    play(script)


def test_what_was_written_is_there_and_what_cannot_be_written_waits_for_the_next_ledger(play):
    async def script(house, one, two):
        changes = []
        two.on_records_changed(changes.append)
        await one.records.put("suspensions", RecordRow("a", b"1", None))
        assert await two.records.get("suspensions", "a") == RecordRow("a", b"1", None)
        await soon(lambda: changes == ["suspensions"])
        await house.kill_ledger()
        await house.until_away()
        assert await two.records.get("suspensions", "a") == RecordRow("a", b"1", None), "reads need no ledger"
        write = asyncio.create_task(one.records.put("suspensions", RecordRow("b", b"2", None)))
        await house.start_ledger()
        await write
        assert await two.records.get("suspensions", "b") == RecordRow("b", b"2", None)
        await soon(lambda: changes.count("suspensions") >= 3)  # once for the reconnect, once for the row

    play(script)


def test_a_ledger_that_hangs_is_left_and_found_again(play):
    async def script(house, one, two):
        assert [await one.take_connection("to:mx.example", 4) for _ in range(3)] == [True] * 3
        await house.kill_ledger(signal.SIGSTOP)
        try:
            await house.until_away()
            assert not await two.take_connection("to:mx.example", 4), "it may wake and lend"
            await soon(lambda: not two._link.is_leaving)
            assert await two.take_connection("to:mx.example", 4), "what is left of its share"
            assert not await two.take_connection("to:mx.example", 4)
        finally:
            await house.kill_ledger(signal.SIGCONT)
        await house.until_there()
        assert not await one.take_connection("to:mx.example", 4)
        two.give_connection("to:mx.example")
        await soon(lambda: not one._refused)
        assert await one.take_connection("to:mx.example", 4)

    play(script)
