"""The shard among very many: looks that race with deliveries, counts by priority, slices of changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.units.test_spool_shard import DONE, NOW, message, opened

from postroad.spool.face import Ruling, Selection
from postroad.spool.steer import CHANGE_SECONDS, SLICE, SLICE_MIN, _next_size
from postroad.testing.fake_outlet import FakeOutlet


def test_a_message_that_ends_between_two_looks_is_no_damage(tmp_path: Path) -> None:
    """Its deliveries were read, then it was delivered, then its own row was looked for: nothing is counted anew."""

    async def main() -> None:
        outlet = FakeOutlet()
        async with opened(tmp_path, outlet=outlet) as shard:
            await shard.put(ended := message(shard))
            await shard.put(message(shard))
            rows, _ = await shard._read(lambda store: store.message(ended.id))
            await shard.drop(Selection(ids=(ended.id,)), "test")
            counted = shard.agenda.domains["y.example"]
            assert await shard._check_rows(rows, []) == []
            assert shard.agenda.domains["y.example"] is counted
            assert shard.stats().messages == 1
            assert not [fact for fact in outlet.facts if type(fact).__name__ == "Damaged"]

    asyncio.run(main())


@pytest.mark.parametrize("priorities", [(0, 0), (3, 0, 0), (0, 3, -2), (5,)])
def test_priorities_are_known_however_they_come_and_go(tmp_path: Path, priorities: tuple[int, ...]) -> None:
    async def main() -> None:
        async with opened(tmp_path) as shard:
            for priority in priorities:
                new = message(shard)
                envelope = msgspec.structs.replace(new.envelope, priority=priority)
                await shard.put(msgspec.structs.replace(new, envelope=envelope))
            assert shard.agenda.levels("y.example") == sorted(set(priorities), reverse=True)
        async with opened(tmp_path) as shard:
            left = list(priorities)
            assert shard.agenda.levels("y.example") == sorted(set(left), reverse=True)
            for expected in sorted(priorities, reverse=True):
                (claimed,) = await shard.claim("y.example", NOW, 1)
                assert claimed.deliveries[0].priority == expected
                shard.record(claimed.id, [Ruling(0, DONE, None)])
                await shard.flush_records()
                left.remove(expected)
                assert shard.agenda.levels("y.example") == sorted(set(left), reverse=True)

    asyncio.run(main())


def test_slices_of_changes_become_as_long_as_they_may_take() -> None:
    assert _next_size(SLICE, CHANGE_SECONDS * 4) == SLICE // 4
    assert _next_size(20, CHANGE_SECONDS / 10) == 40  # not at once: the next may be dearer
    assert _next_size(SLICE, 0.0) == SLICE
    assert _next_size(SLICE_MIN, 10.0) == SLICE_MIN
