"""A fleet when a worker is away, hangs or refuses: what is said, what is done all the same, and within what time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from tests.units.steering_world import HEALTH, MESSAGES, NOW, STATS, ScriptedSteering, message_id

from postroad.core.facts import AnyFact, Trouble
from postroad.core.ids import MessageId
from postroad.outbound import fleet as fleet_module
from postroad.outbound import fleet_watch
from postroad.outbound.fleet import Fleet, Silences
from postroad.outbound.merge import STATUS_RANKS, merge_pages
from postroad.outbound.steering import (
    Change,
    ControlRefused,
    DestinationRow,
    Health,
    MessagePage,
    MessageRow,
    NotThere,
    QueueStats,
    Unanswered,
)
from postroad.spool.face import Changed, Selection, SpoolRefused, Why

AWAY = Unanswered("The relay has not answered for 20 seconds.")


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 20))


def away(error: Exception = AWAY) -> ScriptedSteering:
    steering = ScriptedSteering([])
    steering.refuse = error
    return steering


class Hanging(ScriptedSteering):
    """Accepts a question and never answers."""

    async def health(self) -> Health:
        await asyncio.Event().wait()
        raise AssertionError

    async def stats(self, limit: int) -> QueueStats:
        await asyncio.Event().wait()
        raise AssertionError

    async def show(self, message: MessageId) -> MessageRow:
        await asyncio.Event().wait()
        raise AssertionError


def fleet(*parts: ScriptedSteering) -> Fleet:
    return Fleet({str(number): part for number, part in enumerate(parts)})


def test_a_message_is_shown_though_a_worker_is_away() -> None:
    assert run(fleet(away(), ScriptedSteering()).show(message_id(2))) == MESSAGES[1]


def test_whether_it_is_in_the_queue_is_not_said_while_a_worker_is_away() -> None:
    with pytest.raises(Unanswered, match=r"^worker 1: The relay has not answered for 20 seconds\.$"):
        run(fleet(ScriptedSteering(), away()).show(message_id(77)))
    with pytest.raises(NotThere):
        run(fleet(ScriptedSteering(), ScriptedSteering()).show(message_id(77)))


def test_a_listing_with_a_hole_is_refused_by_name() -> None:
    with pytest.raises(Unanswered, match=r"^worker 0: "):
        run(fleet(away(), ScriptedSteering()).list_messages(Selection(), after=None, limit=5))


def test_numbers_name_who_is_missing() -> None:
    parts = (ScriptedSteering(), away())
    stats = run(fleet(*parts).stats(5))
    assert (stats.messages, stats.accepting) == (STATS.messages, True)  # the others take mail
    assert stats.trouble == "worker 1: The relay has not answered for 20 seconds."
    health = run(fleet(*parts).health())
    assert (health.messages, health.accepting, health.trouble) == (HEALTH.messages, True, stats.trouble)
    healths, missing = run(fleet(*parts).healths())
    assert (healths, missing) == ({"0": HEALTH}, (stats.trouble,))
    with pytest.raises(Unanswered, match=r"worker 0.*worker 1"):
        run(fleet(away(Unanswered("One.")), away(Unanswered("Other."))).stats(5))


def test_one_that_hangs_is_waited_for_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "QUICK_TIMEOUT", 0.05)
    monkeypatch.setattr(fleet_module, "STATS_TIMEOUT", 0.05)
    made = fleet(Hanging(), ScriptedSteering())
    assert run(made.stats(5)).trouble == "worker 0 does not answer; its mail is not counted"
    assert run(made.health()).accepting
    assert run(made.show(message_id(1))) == MESSAGES[0]


def test_who_hung_lately_is_not_waited_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "QUICK_TIMEOUT", 0.05)

    async def test() -> None:
        silences, hanging = Silences(), Hanging()
        parts = {"0": hanging, "1": ScriptedSteering()}
        await Fleet(parts, silences=silences).health()
        monkeypatch.setattr(fleet_module, "STATS_TIMEOUT", 100.0)
        again = Fleet(parts, silences=silences)  # each question has a fleet of its own
        assert (await again.stats(5)).trouble == "worker 0 does not answer; its mail is not counted"
        monkeypatch.setattr(silences, "_until", {"0": 0.0})
        parts["0"] = ScriptedSteering()
        assert (await Fleet(parts, silences=silences).stats(5)).trouble == ""

    run(test())


def test_a_change_says_what_was_done_and_who_did_not_do_it() -> None:
    made = fleet(ScriptedSteering(), away())
    with pytest.raises(Unanswered) as refused:
        run(made.change(Change.HOLD, Selection(domain="example.org")))
    assert refused.value.text == (
        "worker 1: The relay has not answered for 20 seconds. The others did it, for 3 recipients of 2 messages. "
        "Try again for the rest."
    )
    with pytest.raises(Unanswered) as dry:
        run(made.change(Change.HOLD, Selection(domain="example.org"), dry_run=True))
    assert "The others did it" not in dry.value.text


def test_a_change_by_name_is_whole_when_all_are_found() -> None:
    part = ScriptedSteering()
    made = fleet(part, away())
    assert run(made.change(Change.HOLD, Selection(ids=(message_id(1), message_id(2))))) == part.changed
    part.changed = Changed(1, 1, 0)
    with pytest.raises(Unanswered):
        run(made.change(Change.HOLD, Selection(ids=(message_id(1), message_id(2)))))


def test_a_change_names_all_shards_that_were_not_reached() -> None:
    parts = [ScriptedSteering() for _ in range(3)]
    for part, unreached in zip(parts, [(5, 8), (), (3,)], strict=True):
        part.changed = Changed(3, 2, 1, unreached)
    assert run(fleet(*parts).change(Change.HOLD, Selection(domain="example.org"))) == Changed(9, 6, 3, (3, 5, 8))
    named = Selection(ids=tuple(message_id(number) for number in range(1, 7)))
    assert run(fleet(*parts).change(Change.HOLD, named)) == Changed(9, 6, 3)  # all are found: none of them is there
    parts[2].changed = Changed(1, 1, 0, (3,))
    assert run(fleet(*parts).change(Change.HOLD, named)).unreached == (3, 5, 8)


def test_what_is_wrong_for_all_is_said_once_and_with_its_status() -> None:
    wrong = ControlRefused('"late" is not a state.', 2)
    with pytest.raises(ControlRefused) as refused:
        run(fleet(away(wrong), away(wrong)).stats(5))
    assert refused.value is wrong


def test_a_spool_that_refuses_is_a_sentence() -> None:
    with pytest.raises(ControlRefused, match=r"^worker 0: The spool refuses \(trouble\): disk\. Part of it"):
        run(fleet(away(SpoolRefused(Why.TROUBLE, "disk"))).change(Change.HOLD, Selection(domain="a.example")))


class Here:
    """What happens outside the parts."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        self.asked.append(everything)
        yield Trouble(at=NOW, what="process", why="ended")


def test_who_follows_everything_hears_what_happens_outside_the_parts() -> None:
    async def heard(here: Here, *, everything: bool) -> list[AnyFact]:
        return [one async for one in Fleet({}, here=here).watch(None, everything=everything)]

    here = Here()
    assert [getattr(one, "what", "") for one in run(heard(here, everything=True))] == ["process"]
    assert run(heard(here, everything=False)) == []
    assert here.asked == [True]


def test_counters_are_of_those_that_answer() -> None:
    rows = run(fleet(away(), ScriptedSteering()).worker_counters())
    assert [(row.worker, row.counter.name) for row in rows] == [("1", "messages_received_total"), ("1", "connections")]


def test_a_page_ends_where_somebody_has_more() -> None:
    """A part may give fewer than asked for and have more: what others have past it comes with the next page."""
    short = MessagePage(MESSAGES[:1], message_id(1))
    long = MessagePage(MESSAGES[1:], None)
    assert merge_pages([short, long], 10) == MessagePage(MESSAGES[:1], message_id(1))
    assert merge_pages([MessagePage((), None), long], 10) == long
    assert merge_pages([long, long], 10) == long  # held by two for the moment of a transfer
    assert merge_pages([long, long], 1) == MessagePage(MESSAGES[1:2], message_id(2))


def test_a_domain_is_one_row_with_the_worst_status_and_its_reason() -> None:
    row = DestinationRow(
        domain="y.example", destination="", status="", due=1, held=2, reports=0, oldest_at=9.0, next_at=None, reason=""
    )
    other = msgspec.structs.replace(
        row, destination="mx:h", status="down", due=5, oldest_at=7.0, next_at=8.0, reason="refused"
    )
    parts = []
    for rows in ((row,), (other,)):
        part = ScriptedSteering()
        part.stats_answer = msgspec.structs.replace(STATS, destinations=rows)
        parts.append(part)
    (merged,) = run(fleet(*parts).stats(5)).destinations
    assert merged == msgspec.structs.replace(other, due=6, held=4)
    assert STATUS_RANKS[0] == ""


class Broken(ScriptedSteering):
    """Breaks off once after its first fact, as a worker does that is killed, then goes on."""

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        self._note("watch", message)
        yield Trouble(at=NOW, what="disk", why=str(len(self.asked)))
        if len(self.asked) == 1:
            raise Unanswered("The relay ended the connection.")


def test_watching_goes_on_when_a_worker_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_watch, "AGAIN_AFTER", 0.001)

    async def test() -> None:
        told = [fact.why async for fact in fleet(Broken(), ScriptedSteering()).watch(None)]  # type: ignore[union-attr]
        assert told == ["1", "2"]

    run(test())


def test_watching_a_message_that_nobody_knows_is_refused() -> None:
    async def first(made: Fleet) -> None:
        async with aclosing(made.watch(message_id(9))) as facts:
            await facts.__anext__()

    unknown = NotThere("It is not in the queue.")
    with pytest.raises(NotThere):
        run(first(fleet(away(unknown), away(unknown))))
    with pytest.raises(Unanswered):
        run(first(fleet(away(unknown), away())))
    with pytest.raises(ControlRefused, match="Watching broke: KeyError"):
        run(first(fleet(away(KeyError("oops")), away(unknown))))
