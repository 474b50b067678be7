"""The contract of outbound.steering.Steering: of one spool, of several, and from the other side of a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.contracts.steerings import KINDS, Spools

from postroad.core.facts import Bounced, Dropped, Held, Trouble
from postroad.core.ids import MessageId, format_id
from postroad.core.outcome import Dropped as DroppedOutcome
from postroad.outbound.steering import Change, ControlRefused, NotThere
from postroad.spool.face import Ruling, Selection
from postroad.testing.fake_clock import NOON as NOW

EVERY = Selection()
Script = Callable[[Spools], Awaitable[None]]
Play = Callable[[Script], None]


@pytest.fixture(params=KINDS)
def play(request: pytest.FixtureRequest, tmp_path: Path) -> Play:
    def run(script: Script) -> None:
        async def work() -> None:
            async with KINDS[request.param](tmp_path) as made, asyncio.timeout(20):
                await script(made)

        asyncio.run(work())

    return run


async def listed(made: Spools, selection: Selection, limit: int) -> list[str]:
    """Return the ids of all pages; none is longer than ``limit``."""
    found: list[str] = []
    after: MessageId | None = None
    while True:
        page = await made.steering.list_messages(selection, after=after, limit=limit)
        assert len(page.messages) <= limit
        found += [row.id for row in page.messages]
        if page.after is None:
            return found
        assert after is None or page.after > after
        after = page.after


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_a_listing_comes_in_pages_in_the_order_of_ids(play: Play, limit: int) -> None:
    async def script(made: Spools) -> None:
        ids = [format_id(await made.put(f"b{number}@y.example")) for number in range(7)]
        assert await listed(made, EVERY, limit) == ids
        assert await listed(made, Selection(to="b3@y.example"), limit) == [ids[3]]
        assert await listed(made, Selection(domain="z.example"), limit) == []

    play(script)


def test_one_message_is_shown_and_another_is_not_there(play: Play) -> None:
    async def script(made: Spools) -> None:
        ids = [await made.put("b@y.example", "c@z.example") for _ in range(3)]
        for one in ids:
            row = await made.steering.show(one)
            assert (row.id, [each.address for each in row.recipients]) == (
                format_id(one),
                ["b@y.example", "c@z.example"],
            )
        with pytest.raises(NotThere, match="is not in the queue"):
            await made.steering.show(MessageId(ids[-1] + 999))

    play(script)


def test_counts_are_of_all(play: Play) -> None:
    async def script(made: Spools) -> None:
        for _ in range(4):
            await made.put("b@y.example", "c@z.example")
        await made.put("d@z.example")
        await made.steering.change(Change.HOLD, Selection(domain="y.example"))
        stats = await made.steering.stats(10)
        assert (stats.messages, stats.recipients, stats.held, stats.accepting) == (5, 9, 4, True)
        assert [(row.domain, row.due, row.held) for row in stats.destinations] == [
            ("z.example", 5, 0),
            ("y.example", 0, 4),
        ]
        assert len((await made.steering.stats(1)).destinations) == 1
        health = await made.steering.health()
        assert (health.messages, health.recipients, health.accepting, health.trouble) == (5, 9, True, "")
        assert health.listeners == ("127.0.0.1:2525",)

    play(script)


def test_a_change_is_done_to_all_that_is_meant_and_counted(play: Play) -> None:
    async def script(made: Spools) -> None:
        ids = [await made.put("b@y.example", "c@z.example") for _ in range(3)]
        would = await made.steering.change(Change.HOLD, EVERY, dry_run=True)
        assert (would.recipients, would.messages, would.in_flight) == (6, 3, 0)
        assert (await made.steering.stats(1)).held == 0
        assert await made.steering.change(Change.HOLD, EVERY) == would
        assert (await made.steering.stats(1)).held == 6
        one = await made.steering.change(Change.RELEASE, Selection(ids=(ids[1],)))
        assert (one.recipients, one.messages) == (2, 1)
        assert (await made.steering.change(Change.DELETE, EVERY)).messages == 3
        assert (await made.steering.stats(1)).messages == 0

    play(script)


def test_what_cannot_be_meant_is_refused(play: Play) -> None:
    async def script(made: Spools) -> None:
        await made.put()
        for wrong in (Selection(state="late"), Selection(to="a@b@c@"), Selection(domain="..")):
            for call in (
                made.steering.list_messages(wrong, after=None, limit=1),
                made.steering.change(Change.DELETE, wrong),
            ):
                with pytest.raises(ControlRefused) as refused:
                    await call
                assert refused.value.status == 2
        assert (await made.steering.stats(1)).messages == 1

    play(script)


def test_what_was_dropped_has_rows(play: Play) -> None:
    async def script(made: Spools) -> None:
        ids = [await made.put("b@y.example", "c@z.example") for _ in range(3)]
        await made.steering.change(Change.DELETE, Selection(ids=(ids[1],)))
        drops = await made.steering.drops(ids[1])
        assert [(drop.number, drop.recipient, drop.rule) for drop in drops] == [
            (0, "b@y.example", "queue delete by alice"),
            (1, "c@z.example", "queue delete by alice"),
        ]
        assert await made.steering.drops(ids[0]) == ()

    play(script)


def test_counters_are_summed(play: Play) -> None:
    async def script(made: Spools) -> None:
        (counter,) = await made.steering.own_counters()
        assert counter.labels == (("listener", "outside"),)
        assert counter.value == 2.0 * len(made.spools)

    play(script)


def dropped(message: MessageId, number: int = 0) -> Dropped:
    return Dropped(at=NOW, message=message, number=number, recipient="b@y.example", rule="discard")


def test_a_message_is_followed_to_its_end(play: Play) -> None:
    async def script(made: Spools) -> None:
        await made.put()
        message = await made.put()
        spool = next(one for one in made.spools if message in one._kept)
        made.outlet.emit(dropped(MessageId(message + 1)))
        async with aclosing(made.steering.watch(message)) as facts:
            waiting = asyncio.ensure_future(facts.__anext__())
            while not any(control._recent and control._recent._watchers for control in made.controls):
                await asyncio.sleep(0)
            await spool.claim("y.example", NOW, 9)
            spool.record(message, [Ruling(0, DroppedOutcome("discard"), None)])
            made.outlet.emit(dropped(message))
            assert await waiting == dropped(message)
            assert [fact async for fact in facts] == []
        with pytest.raises(NotThere):
            async with aclosing(made.steering.watch(MessageId(message + 77))) as facts:
                await facts.__anext__()

    play(script)


@pytest.mark.parametrize("change", [Change.DELETE, Change.BOUNCE])
def test_following_ends_when_a_person_ends_the_message(play: Play, change: Change) -> None:
    async def script(made: Spools) -> None:
        await made.put()
        message = await made.put("b@y.example", "c@y.example")
        async with aclosing(made.steering.watch(message)) as facts:
            waiting = asyncio.ensure_future(facts.__anext__())
            while not any(control._recent and control._recent._watchers for control in made.controls):
                await asyncio.sleep(0)
            await made.steering.change(Change.HOLD, Selection(ids=(message,)))
            await made.steering.change(change, Selection(ids=(message,)))
            told = [await waiting, *[fact async for fact in facts]]
        ended = Dropped if change is Change.DELETE else Bounced
        assert [(type(fact), getattr(fact, "number", None)) for fact in told] == [
            (Held, 0),
            (Held, 1),
            (ended, 0),
            (ended, 1),
        ]

    play(script)


def test_everything_is_told_to_who_asks_for_it(play: Play) -> None:
    async def script(made: Spools) -> None:
        trouble = Trouble(at=NOW, what="disk", why="full")
        for everything, wanted in ((True, [trouble]), (False, [])):
            async with aclosing(made.steering.watch(None, everything=everything)) as facts:
                waiting = asyncio.ensure_future(facts.__anext__())
                while not all(control._recent and control._recent._watchers for control in made.controls):
                    await asyncio.sleep(0)
                made.outlet.emit(trouble)
                made.outlet.emit(dropped(MessageId(1)))
                told = [await waiting]
                while not isinstance(told[-1], Dropped):
                    told.append(await facts.__anext__())
            assert [fact for fact in told if isinstance(fact, Trouble)][:1] == wanted
            while any(control._recent and control._recent._watchers for control in made.controls):
                await asyncio.sleep(0)

    play(script)


def test_a_report_due_shows(play: Play) -> None:
    async def script(made: Spools) -> None:
        await made.put()
        message = await made.put()
        assert (await made.steering.change(Change.BOUNCE, Selection(ids=(message,)))).recipients == 1
        assert [row.state for row in (await made.steering.show(message)).recipients] == ["report"]
        assert (await made.steering.stats(5)).reports == 1

    play(script)
