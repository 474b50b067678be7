"""The contract of core.faces.Marks: in one process, and over the ledger, where each call goes to another worker."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
from tests.contracts.streams import run
from tests.units.ledger_world import LedgerWorld

from postroad.ledger.marks import LocalMarks


class Time:
    def __init__(self) -> None:
        self.now = 5000.0

    def __call__(self) -> float:
        return self.now


class Turns:
    """Marks whose calls go to several workers in turn."""

    def __init__(self, all_marks) -> None:
        self._all = all_marks
        self._turn = 0

    def __getattr__(self, name):
        self._turn += 1
        return getattr(self._all[self._turn % len(self._all)], name)


@asynccontextmanager
async def local(path, time):
    yield LocalMarks(time)


@asynccontextmanager
async def two_workers(path, time):
    async with LedgerWorld(path, workers=2, time=time) as world:
        yield Turns([client.marks for client in world.clients])


@pytest.fixture(params=[local, two_workers], ids=["local", "ledger"])
def play(request, tmp_path):
    def player(work):
        async def played():
            time = Time()
            async with request.param(tmp_path, time) as marks:
                await work(marks, time)

        run("uvloop", played())

    return player


def test_events_are_counted_for_a_while(play):
    async def work(marks, time):
        assert [await marks.count("failed:192.0.2.1", 60) for _ in range(3)] == [1, 2, 3]
        assert await marks.count("failed:192.0.2.2", 60) == 1
        time.now += 30
        assert await marks.count("failed:192.0.2.1", 60, 2) == 5
        assert await marks.count("failed:192.0.2.1", 60, 0) == 5
        time.now += 34  # the first three are past, and the twentieth that they may count longer
        assert await marks.count("failed:192.0.2.1", 60, 0) == 2
        time.now += 64
        assert await marks.count("failed:192.0.2.1", 60, 0) == 0

    play(work)


def test_a_mark_lasts_as_long_as_it_was_said(play):
    async def work(marks, time):
        assert await marks.marked("ban:192.0.2.1") == 0.0
        await marks.mark("ban:192.0.2.1", 100)
        assert await marks.marked("ban:192.0.2.1") == 100
        assert await marks.marked("ban:192.0.2.2") == 0.0
        time.now += 99
        assert await marks.marked("ban:192.0.2.1") == 1
        time.now += 1
        assert await marks.marked("ban:192.0.2.1") == 0.0

    play(work)


def test_a_mark_is_set_anew_and_taken_away(play):
    async def work(marks, time):
        await marks.mark("ban:192.0.2.1", 100)
        await marks.mark("ban:192.0.2.1", 10)
        assert await marks.marked("ban:192.0.2.1") == 10
        await marks.mark("ban:192.0.2.1", 0)
        assert await marks.marked("ban:192.0.2.1") == 0.0

    play(work)


def test_the_first_who_claims_a_key_has_it_for_a_while(play):
    async def work(marks, time):
        assert [await marks.claim("once:4711", 60) for _ in range(4)] == [True, False, False, False]
        assert await marks.claim("once:4712", 60)
        time.now += 59
        assert not await marks.claim("once:4711", 60)
        time.now += 1
        assert await marks.claim("once:4711", 60)

    play(work)


def test_counts_and_marks_do_not_meet(play):
    async def work(marks, time):
        await marks.count("k", 60)
        assert await marks.marked("k") == 0.0
        assert await marks.claim("k", 60)
        assert await marks.count("k", 60, 0) == 1

    play(work)
