"""Stories of a message or an address: what is stored, drops that only the spool knows, what comes; nothing twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace

import pytest
from tests.contracts.steerings import Spools
from tests.units.api_world import Front

from postroad.core.facts import AnyFact, Attempted, Dropped, Incomplete, Received, Steered
from postroad.core.ids import MessageId, SessionId, format_id
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.observe.stories import Skipped
from postroad.outbound import trace
from postroad.outbound.front import FrontSteering
from postroad.outbound.steering import Change, ControlRefused, NotThere
from postroad.spool.face import Selection
from postroad.testing.fake_clock import NOON as NOW

BUSY = Reply(450, (4, 2), "Busy")


def played(test: Callable[[Front, FrontSteering], Awaitable[None]]) -> None:
    async def play() -> None:
        spools = Spools(2)
        front = Front(spools)
        try:
            async with asyncio.timeout(20):
                await test(front, front.steering("alice"))
        finally:
            await spools.close()

    asyncio.run(play())


def received(message: MessageId, at: float = NOW) -> Received:
    return Received(
        at=at,
        message=message,
        session=SessionId(7),
        listener="outside",
        client="192.0.2.1",
        hello="h",
        protocol="ESMTP",
        tls="",
        sender="a@x.example",
        recipients=("b@y.example",),
        size=1,
        seconds=0.1,
        rule="relay.networks",
    )


def attempted(message: MessageId, at: float) -> Attempted:
    return Attempted(
        at=at,
        message=message,
        destination="d",
        host="h",
        address="192.0.2.2",
        tls="",
        recipients=1,
        stage=Stage.RCPT,
        reply=BUSY,
        seconds=0.1,
    )


def dropped(message: MessageId, at: float, rule: str = "queue delete by alice") -> Dropped:
    return Dropped(at=at, message=message, number=0, recipient="b@y.example", rule=rule)


async def told(steering: FrontSteering, wanted: str, count: int = 99, *, follow: bool = False) -> list[AnyFact]:
    facts: list[AnyFact] = []
    async with aclosing(steering.trace(wanted, follow=follow)) as source:
        async for fact in source:
            facts.append(fact)
            if len(facts) == count:
                break
    return facts


def test_a_stored_story_is_told_in_order() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        message = await front.spools.put()
        front.stored = [received(message), attempted(message, NOW + 1)]
        assert await told(steering, format_id(message)) == front.stored
        assert await told(steering, format_id(message).upper()) == front.stored

    played(test)


def test_a_drop_whose_fact_was_lost_is_in_its_place() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        message = await front.spools.put("b@y.example", "c@y.example")
        await steering.change(Change.DELETE, Selection(to="b@y.example"))
        lost = dropped(message, NOW)
        front.stored = [received(message, NOW - 5), attempted(message, NOW + 90)]
        assert await told(steering, format_id(message)) == [front.stored[0], lost, front.stored[1]]
        front.stored = [received(message, NOW - 5), attempted(message, NOW + 9)]
        assert await told(steering, format_id(message)) == [*front.stored, lost]
        front.stored = [received(message, NOW - 5), lost]
        assert await told(steering, format_id(message)) == front.stored
        front.stored = []
        assert await told(steering, format_id(message)) == [lost]

    played(test)


def test_the_story_of_an_address_knows_lost_drops_too() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        first, second = await front.spools.put("b@y.example"), await front.spools.put("b@y.example")
        await steering.change(Change.DELETE, Selection())
        stored = [received(first, NOW - 5), received(second, NOW - 4), dropped(second, NOW), attempted(first, NOW + 90)]

        async def stories(
            wanted: MessageId | str, *, since: float | None = None, **_: object
        ) -> AsyncIterator[AnyFact]:
            for fact in stored:
                yield fact

        steering = FrontSteering(replace(front.house, stories=stories), "alice")
        assert await told(steering, "b@y.example") == [*stored[:3], dropped(first, NOW), stored[3]]

    played(test)


def test_what_a_story_lacks_is_said_at_its_end() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        message = await front.spools.put("b@y.example")
        asked: list[int] = []

        async def stories(
            wanted: MessageId | str,
            *,
            since: float | None = None,
            limit: int = 100,
            skipped: Skipped | None = None,
        ) -> AsyncIterator[AnyFact]:
            asked.append(limit)
            yield received(message)
            if skipped is not None:
                skipped.messages_left_out = True
                skipped.segments = {f"2026-01-0{day}-0.db" for day in range(1, 6)}

        steering = FrontSteering(replace(front.house, stories=stories), "alice")
        async with aclosing(steering.trace("b@y.example", limit=7)) as source:
            first, *lacks = [fact async for fact in source]
        assert set(asked) == {7}
        assert first == received(message)
        assert [fact.why for fact in lacks if isinstance(fact, Incomplete)] == [
            "These are the newest 7 messages and refusals; there are more (--limit).",
            "Facts are missing here: 2026-01-01-0.db, 2026-01-02-0.db, 2026-01-03-0.db and 2 more cannot be read.",
        ]

    played(test)


def test_the_reply_of_a_drop_is_read_back() -> None:
    for reply in (BUSY, Reply(550, None, "No such user"), Reply(451, (4, 0), "two\nlines")):
        assert trace._parse_reply(str(reply)) == reply
    assert trace._parse_reply("") is None


def test_what_nobody_knows_is_not_there() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        message = await front.spools.put()
        assert await told(steering, format_id(message)) == []  # it is in the queue
        with pytest.raises(NotThere, match="Nothing is known of it"):
            await told(steering, format_id(message + 1))
        assert await told(steering, "nobody@y.example") == []
        for wrong in ("", "abc", "y.example"):
            with pytest.raises(ControlRefused) as refused:
                await told(steering, wrong)
            assert refused.value.status == 2

    played(test)


async def heard(front: Front, *facts: AnyFact) -> None:
    """Have both workers listened to, then have facts happen."""
    while not all(control._recent and control._recent._watchers for control in front.spools.controls):
        await asyncio.sleep(0)
    for fact in facts:
        front.spools.outlet.emit(fact)
    front.spools.outlet.flush()


def test_following_everything_begins_now() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        steered = Steered(at=NOW, who="bob", verb="hold", recipients=1, selection="all")
        following = asyncio.create_task(told(steering, "", 1, follow=True))
        await heard(front, steered)
        assert await following == [steered]

    played(test)


def test_following_has_no_gap_and_tells_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts around the beginning are live, stored late, or both."""
    monkeypatch.setattr(trace, "STORED_AFTER", 0.0)

    async def test(front: Front, steering: FrontSteering) -> None:
        message, other = await front.spools.put(), await front.spools.put()
        old, both = received(message, NOW - 900), attempted(message, NOW - 1)
        late, live = attempted(message, NOW - 0.5), attempted(message, NOW + 1)
        paused, go_on = asyncio.Event(), asyncio.Event()

        async def stories(
            wanted: MessageId | str, *, since: float | None = None, **_: object
        ) -> AsyncIterator[AnyFact]:
            for fact in [old] if since is None else [both, late]:
                yield fact
            if since is None:
                paused.set()
                await go_on.wait()

        steering = FrontSteering(replace(front.house, stories=stories), "alice")
        following = asyncio.create_task(told(steering, "b@y.example", 4, follow=True))
        await paused.wait()
        await heard(front, both, received(other, NOW), live)
        go_on.set()
        facts = await following
        assert facts[:3] == [old, both, late]
        assert facts[3] == live or isinstance(facts[3], Received)
        assert len(set(facts)) == 4

    played(test)


def test_an_address_leads_to_its_messages() -> None:
    about = trace.About("b@Y.Example")
    first, other = received(MessageId(1)), attempted(MessageId(1), NOW)
    assert about.means(first)
    assert not about.means(other)
    about.learn(first)
    assert about.means(other)
    assert not about.means(attempted(MessageId(2), NOW))
    assert not about.means(Steered(at=NOW, who="x", verb="hold", recipients=0, selection="all"))


def test_who_does_not_listen_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "WAITING_MAX", 2)

    async def test(front: Front, steering: FrontSteering) -> None:
        message = await front.spools.put()
        async with aclosing(steering.trace("", follow=True)) as facts:
            first = asyncio.ensure_future(facts.__anext__())
            await heard(front, *(attempted(message, NOW + number) for number in range(9)))
            await first
            with pytest.raises(ControlRefused, match="too slowly"):
                _ = [fact async for fact in facts]

    played(test)
