"""What the front asks of a worker besides: for whom, counters, drops, everything that happens, what is not there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.units.control_world import relay
from tests.units.steering_world import COUNTERS, message_id

from postroad.http.control_client import RemoteSteering
from postroad.net.local import user_name
from postroad.outbound.steering import Change, ControlRefused, NotThere
from postroad.spool.face import Selection

TIMEOUT = 20.0


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, TIMEOUT))


def test_whom_the_front_asks_for_is_named(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            await RemoteSteering(made.path, "alice").change(Change.HOLD, Selection(domain="example.org"))
            await made.client.health()
            assert made.control.who == ["alice", user_name(os.geteuid())]
            for name in ("a\nb", "x" * 101):
                with pytest.raises(ControlRefused, match="That is not a name") as refused:
                    await RemoteSteering(made.path, name).health()
                assert refused.value.status == 2

    run(test())


def test_counters_drops_and_everything_come_through(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            assert await made.client.own_counters() == COUNTERS
            assert await made.client.drops(message_id(1)) == made.steering.dropped
            assert [fact async for fact in made.client.watch(None, everything=True)] == []
            assert made.steering.asked == [("counters",), ("drops", message_id(1)), ("everything", None)]

    run(test())


def test_what_is_not_there_is_told_from_other_refusals(tmp_path: Path) -> None:
    async def test() -> None:
        async with relay(tmp_path) as made:
            with pytest.raises(NotThere, match="is not in the queue"):
                await made.client.show(message_id(99))
            made.steering.refuse = ControlRefused("Not today.")
            with pytest.raises(ControlRefused) as refused:
                await made.client.show(message_id(1))
            assert type(refused.value) is ControlRefused

    run(test())
