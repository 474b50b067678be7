"""The lanes of a destination: when one that has finished waits for more, and when it ends."""

from __future__ import annotations

import asyncio

from postroad.outbound.destination import IDLE_KEEP, Destination


def destination() -> Destination:
    # What lanes wait for depends on none of the parts.
    return Destination(None, None, None, None, None, None, lambda: 0.0)  # type: ignore[arg-type]


def test_a_stop_ends_the_lanes_that_wait_and_those_that_would() -> None:
    """A lane at work when we stop finishes after it: it must not keep its connection for IDLE_KEEP then."""

    async def work() -> None:
        async with asyncio.timeout(IDLE_KEEP / 2):
            one = destination()
            waits = asyncio.ensure_future(one.wait_for_job())
            await asyncio.sleep(0)
            assert one.idle_lanes == 1
            one.stop()
            assert await waits is None
            assert await one.wait_for_job() is None

    asyncio.run(work())


def test_letting_idle_lanes_go_ends_none_that_come_later() -> None:
    async def work() -> None:
        one = destination()
        one.let_idle_go()
        waits = asyncio.ensure_future(one.wait_for_job())
        await asyncio.sleep(0)
        assert one.idle_lanes == 1
        one.stop()
        assert await waits is None

    asyncio.run(work())
