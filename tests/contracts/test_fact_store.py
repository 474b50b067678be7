"""What was taken is read back, in order, and nothing else: on threads, and without any."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.units.facts_world import AT, message_id, story

from postroad.core.units import DAY, GIB
from postroad.observe.outlet import FactOutlet
from postroad.observe.segments import FactStore
from postroad.observe.stories import read_story
from postroad.service.threads import WorkerThreads
from postroad.testing.fake_clock import FakeClock
from postroad.testing.inline_threads import InlineThreads


@pytest.fixture(params=[WorkerThreads, InlineThreads])
def threads(request: pytest.FixtureRequest) -> Iterator[WorkerThreads | InlineThreads]:
    made = request.param()
    yield made
    made.close()


def test_what_was_emitted_is_read_back_in_order(tmp_path, threads):
    async def work():
        directory = str(tmp_path / "facts")
        store = FactStore(directory, "0", threads=threads, clock=FakeClock(AT), keep=DAY, disk_max=GIB)
        outlet = FactOutlet(store)
        told = [fact for number in range(1000) for fact in story(number, AT + number / 1000)]
        for number, fact in enumerate(told):
            outlet.emit(fact)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await outlet.close()
        for number in (0, 500, 999):
            of_message = [fact async for fact in read_story(directory, message_id(number, AT + number / 1000), threads)]
            assert of_message == told[3 * number : 3 * number + 3]
        everything = [fact async for fact in read_story(directory, "a@sender.example", threads, limit=2000)]
        assert everything == sorted(told, key=lambda fact: fact.at)

    asyncio.run(work())
