"""Lookups of hosts that break by an error of ours."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest
from tests.units.outbound_world import Receiver, World, run

from postroad.core import facts
from postroad.outbound.scheduler import BROKEN_PAUSE
from postroad.testing.fake_resolver import FakeResolver
from postroad.testing.simulated_loop import passes


def test_a_lookup_that_breaks_is_not_tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    async def mx(self: FakeResolver, domain: str) -> None:
        asked.append(asyncio.get_running_loop().time())
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(FakeResolver, "mx", mx)

    async def work(world: World) -> None:
        await world.put("bob@one.example")
        await passes(1.0)
        assert len(asked) == 1
        await passes(10 * BROKEN_PAUSE)
        assert 10 <= len(asked) <= 11
        assert all(later - before >= BROKEN_PAUSE for before, later in pairwise(asked))
        assert (world.spool.left, world.spool.claimed) == (1, 0)
        assert {fact.why for fact in world.outlet.of(facts.Trouble)} == {"RuntimeError: a fault of ours"}

    run(lambda: World("", {25: Receiver()}), work)
