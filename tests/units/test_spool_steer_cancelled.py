"""Steering whose client goes away while a slice is being committed: what is on the disk is what memory counts."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.units.test_spool_shard import NOW, message, opened, run

from postroad.core import outcome, reply
from postroad.spool.face import QueuedMessage, Selection
from postroad.spool.shard import Shard

ALL = Selection(to="y.example")
RETURNED = outcome.Failed(reply.RETURNED_BY_HAND)


class SlowCommit:
    """The next COMMIT begins, and does not end before ``let_go``."""

    def __init__(self, shard: Shard) -> None:
        self._begun, self._go = threading.Event(), threading.Event()
        write = shard.writer.store.write
        commit = write.commit

        def slow() -> None:
            write.commit = commit  # type: ignore[method-assign]
            self._begun.set()
            assert self._go.wait(30)
            commit()

        write.commit = slow  # type: ignore[method-assign]

    async def begun(self) -> None:
        await asyncio.to_thread(self._begun.wait, 30)

    def let_go(self) -> None:
        self._go.set()


Steering = Callable[[Shard, Any], Coroutine[Any, Any, Any]]
VERBS: dict[str, Steering] = {
    "hold": lambda shard, told: shard.hold(ALL, told=told),
    "release": lambda shard, told: shard.release(ALL, NOW, told=told),
    "bounce": lambda shard, told: shard.bounce(ALL, RETURNED, told=told),
    "drop": lambda shard, told: shard.drop(ALL, "queue delete by root", told=told),
}

SEEN: dict[str, Callable[[int], tuple[Any, ...]]] = {
    "hold": lambda message: (1, 1, 0, None, []),
    "release": lambda message: (1, 0, 0, NOW, []),
    "bounce": lambda message: (1, 0, 1, None, [message]),
    "drop": lambda message: (0, 0, 0, None, []),
}
"""Recipients, held, reports, when the next is due, messages with a report due."""


async def break_off(shard: Shard, verb: str) -> list[int]:
    """Begin to steer, and be cancelled during the commit; return the messages that were told of."""
    told: list[int] = []

    def tell(messages: Sequence[QueuedMessage]) -> None:
        told.extend(one.id for one in messages)

    commit = SlowCommit(shard)
    steering = asyncio.ensure_future(VERBS[verb](shard, tell))
    await commit.begun()
    steering.cancel()
    await asyncio.sleep(0)
    assert await shard.claim("y.example", NOW, 10) == [], "it is being changed"
    commit.let_go()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(steering, 30)
    return told


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_committed_is_known_although_nobody_waits_for_it(tmp_path: Path, verb: str) -> None:
    async def work() -> None:
        async with opened(tmp_path) as shard:
            new = message(shard)
            await shard.put(new)
            if verb == "release":
                await shard.hold(ALL)
            assert await break_off(shard, verb) == [new.id]
            stats = shard.stats()
            seen = (stats.recipients, stats.held, stats.reports, shard.next_due_at(), list(shard.due_reports(10)))
            assert seen == SEEN[verb](new.id)
            assert shard.agenda.changing == set()
            left = await shard.show(new.id)
            assert (left is None) is (verb == "drop")
            if verb == "release":
                assert len(await shard.claim("y.example", NOW, 10)) == 1

    run(work())


def test_what_a_broken_off_slice_has_taken_is_nobody_elses_while_it_waits(tmp_path: Path) -> None:
    """The slice waits for a batch that is under way, and nobody claims or changes meanwhile what it is going to."""

    async def work() -> None:
        async with opened(tmp_path) as shard:
            for _ in range(2):
                await shard.put(message(shard))
            commit = SlowCommit(shard)
            put = asyncio.ensure_future(shard.put(message(shard, "c@z.example")))
            await commit.begun()
            hold = asyncio.ensure_future(shard.hold(ALL))
            while not shard.writer._works:
                await asyncio.sleep(0)
            hold.cancel()
            await asyncio.sleep(0)
            assert await shard.claim("y.example", NOW, 10) == []
            assert (await shard.drop(ALL, "queue delete by root")).in_flight == 2
            commit.let_go()
            await put
            with pytest.raises(asyncio.CancelledError):
                await hold
            assert (shard.stats().recipients, shard.stats().held) == (3, 2)
            assert shard.agenda.changing == set()

    run(work())
