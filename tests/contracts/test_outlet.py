"""The contract of core.faces.Outlet, for the real outlet and the shipped fake."""

from __future__ import annotations

import asyncio

import pytest
from tests.contracts.streams import run

from postroad.core.facts import Stopped
from postroad.observe.outlet import FactOutlet
from postroad.testing.fake_outlet import FakeOutlet


class Collecting:
    def __init__(self) -> None:
        self.facts = []

    def take(self, facts) -> None:
        self.facts.extend(facts)

    async def close(self) -> None:
        pass


def real():
    collecting = Collecting()
    return FactOutlet(collecting), collecting


def fake():
    outlet = FakeOutlet()
    return outlet, outlet


@pytest.fixture(params=[real, fake], ids=["real", "fake"])
def make(request):
    return request.param


def test_every_fact_arrives_soon_and_in_order(make):
    facts = [Stopped(at=number, why="test") for number in range(5000)]

    async def work():
        outlet, seen = make()
        for fact in facts:
            outlet.emit(fact)
        async with asyncio.timeout(1):
            while len(seen.facts) < len(facts):
                await asyncio.sleep(0)
        assert seen.facts == facts

    run("asyncio", work())


def test_emitting_is_done_at_once_whoever_looks(make):
    """It is no coroutine and gives nothing back: what happened cannot depend on who looks."""

    async def work():
        outlet, _ = make()
        assert outlet.emit(Stopped(at=1.0, why="test")) is None

    run("asyncio", work())
