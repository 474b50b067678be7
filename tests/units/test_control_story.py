"""Following a message: what was, what comes, without a gap, and for how long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager

import pytest
from tests.units.spool_world import ListSpool
from tests.units.steering_world import NOW, SetClock, message_id
from tests.units.test_control_steering import ABOUT, Known

from postroad.core.facts import AnyFact, Connected, Delivered
from postroad.core.ids import MessageId
from postroad.core.reply import OK
from postroad.observe.outlet import FactOutlet
from postroad.outbound import story
from postroad.outbound.control import Control
from postroad.outbound.steering import ControlRefused

ONE, TWO = message_id(1), message_id(2)


def delivered(message: MessageId, number: int = 0) -> Delivered:
    return Delivered(
        at=NOW,
        message=message,
        number=number,
        recipient="b@example.org",
        sender="",
        destination="d",
        host="h",
        reply=OK,
        delay=0.1,
    )


class World:
    """A control behind a real outlet."""

    def __init__(self) -> None:
        self.spool = ListSpool()
        self.outlet = FactOutlet()
        self.control = Control(self.spool, SetClock(), self.outlet, self.outlet, Known(), ABOUT)  # type: ignore[arg-type]

    async def told(self, message: MessageId | None, count: int = 1000) -> list[AnyFact]:
        """Return what a watcher is told, up to so many facts."""
        facts: list[AnyFact] = []
        async with aclosing(self.control.on_behalf_of("p").watch(message)) as watched:
            async for fact in watched:
                facts.append(fact)
                if len(facts) == count:
                    break
        return facts

    @property
    def watchers(self) -> int:
        assert self.control._recent is not None
        return len(self.control._recent._watchers)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    made = World()
    yield made
    made.control.close()
    await made.outlet.close()


def played(test: Callable[[World], Awaitable[None]]) -> None:
    async def play() -> None:
        async with world() as made, asyncio.timeout(20):
            await test(made)
            assert made.watchers == 0

    asyncio.run(play())


def test_a_message_that_has_just_gone_has_a_story() -> None:
    """Delivered within milliseconds of its 250: the facts may still lie in the outlet's batch."""

    async def test(made: World) -> None:
        made.outlet.emit(delivered(ONE))
        made.spool.deliver(ONE)
        assert await made.told(ONE) == [delivered(ONE)]

    played(test)


def test_the_story_goes_on_until_each_recipient_has_ended() -> None:
    async def test(made: World) -> None:
        made.outlet.emit(delivered(ONE))  # of another message
        made.outlet.emit(delivered(TWO, 0))
        watching = asyncio.create_task(made.told(TWO))
        while not made.watchers:
            await asyncio.sleep(0)
        made.outlet.emit(delivered(ONE))
        made.outlet.flush()
        await asyncio.sleep(0)
        assert not watching.done()
        made.outlet.emit(delivered(TWO, 1))
        assert await watching == [delivered(TWO, 0), delivered(TWO, 1)]

    played(test)


def test_one_whose_report_is_due_has_ended() -> None:
    async def test(made: World) -> None:
        assert await made.told(message_id(3)) == []

    played(test)


def test_of_a_message_that_nobody_knows_nothing_can_be_told() -> None:
    async def test(made: World) -> None:
        with pytest.raises(ControlRefused, match="nothing of it is remembered"):
            await made.told(message_id(9))

    played(test)


def test_all_messages_are_watched_from_now_on() -> None:
    async def test(made: World) -> None:
        made.outlet.emit(delivered(ONE))
        made.outlet.flush()
        await asyncio.sleep(0)
        watching = asyncio.create_task(made.told(None, 2))
        while not made.watchers:
            await asyncio.sleep(0)
        made.outlet.emit(Connected(at=NOW, session=1, listener="l", client="c"))  # type: ignore[arg-type]
        made.outlet.emit(delivered(TWO))
        made.outlet.emit(delivered(ONE, 7))
        assert await watching == [delivered(TWO), delivered(ONE, 7)]

    played(test)


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "RECENT_MAX", 3)

    async def test(made: World) -> None:
        for number in range(5):
            made.outlet.emit(delivered(message_id(20 + number)))
        made.outlet.flush()
        await asyncio.sleep(0)
        with pytest.raises(ControlRefused):
            await made.told(message_id(21))
        assert await made.told(message_id(22)) == [delivered(message_id(22))]

    played(test)


def test_one_who_does_not_listen_loses_his_place_and_blocks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "BEHIND_MAX", 3)

    async def test(made: World) -> None:
        async with aclosing(made.control.on_behalf_of("p").watch(None)) as watched:
            first = asyncio.ensure_future(anext(watched))
            while not made.watchers:
                await asyncio.sleep(0)
            for number in range(3):
                made.outlet.emit(delivered(ONE, number))
            assert await first == delivered(ONE, 0)
            for _ in range(2):
                made.outlet.emit(delivered(TWO))
            made.outlet.flush()
            await asyncio.sleep(0)
            assert [await anext(watched), await anext(watched)] == [delivered(ONE, 1), delivered(ONE, 2)]
            with pytest.raises(ControlRefused, match="too slowly"):
                await anext(watched)

    played(test)


def test_who_watches_when_the_relay_stops_is_told_the_end() -> None:
    async def test(made: World) -> None:
        watching = asyncio.create_task(made.told(ONE))
        while not made.watchers:
            await asyncio.sleep(0)
        made.outlet.emit(delivered(TWO))
        await made.outlet.close()
        assert await watching == []

    played(test)


def test_without_a_relay_there_is_nothing_to_watch() -> None:
    async def test() -> None:
        control = Control(ListSpool(), SetClock(), FactOutlet(), None, Known(), ABOUT)  # type: ignore[arg-type]
        with pytest.raises(ControlRefused, match="postroad serve"):
            await anext(control.on_behalf_of("p").watch(ONE))

    asyncio.run(test())
