"""Steering a whole relay: what is written down before it is done, what people say of destinations, how all is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.contracts.steerings import Spools
from tests.units.api_world import CONFIGURATION, Front, process
from tests.units.steering_world import HEALTH, ScriptedSteering

from postroad.core.faces import RecordRow, RecordsTrouble
from postroad.core.facts import Steered, Trouble
from postroad.outbound import audit, by_hand
from postroad.outbound.front import FrontSteering
from postroad.outbound.relay import Override
from postroad.outbound.steering import Change, ControlRefused, Unanswered
from postroad.spool.face import Changed, Selection
from postroad.testing.fake_clock import NOON as NOW
from postroad.testing.memory_records import MemoryRecords

HOUR = 3600.0


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


class Unwritable(MemoryRecords):
    """Takes so many rows of the audit, and no more."""

    left = 0

    async def put(self, table: str, row: RecordRow) -> None:
        self.left -= 1
        if self.left < 0:
            raise RecordsTrouble("disk full")
        await super().put(table, row)


def unwritable(front: Front, left: int) -> FrontSteering:
    records = Unwritable(front.clock)
    records.left = left
    return FrontSteering(replace(front.house, records=records), "alice")


# --- the audit -------------------------------------------------------------------------------------------


def test_every_change_leaves_a_row_that_says_what_came_of_it() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        await front.spools.put()
        front.clock.advance(1)
        await steering.change(Change.HOLD, Selection(domain="y.example"), dry_run=True)
        await steering.change(Change.HOLD, Selection(domain="y.example"))
        front.clock.advance(1)
        await steering.suspend("Y.example", until=NOW + HOUR)
        front.clock.advance(1)
        await steering.override("mx:*.example", connections=3, messages_per_connection=None, rate="20/s", until=None)
        front.clock.advance(1)
        await steering.resume("y.example")
        await steering.restore("z.example")
        await front.steering("bob").reload()
        rows, after = await steering.audit(after="", limit=50)
        assert after == ""
        assert sorted((row.who, row.what, row.about, row.result) for row in rows[:3]) == [
            ("alice", "restore", "z.example", "there was none of that name"),
            ("alice", "resume", "y.example", "done"),
            ("bob", "reload", "configuration", "changed: limits.recipients; needs a restart: workers"),
        ]
        assert [(row.what, row.about, row.result, row.at - NOW) for row in rows[3:]] == [
            ("override", "mx:*.example", "connections=3 rate=20/s until it is lifted", 3),
            ("suspend", "y.example", "until 2026-01-01T13:00:00Z", 2),
            ("hold", "domain=y.example", "1 recipients of 1 messages", 1),
        ]
        assert front.reloads == ["bob"]

    played(test)


def test_what_was_not_reached_is_written_down() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        part = ScriptedSteering()
        part.changed = Changed(3, 2, 1, (3, 5))
        front.parts = {"0": part}
        assert (await front.steering("bob").change(Change.HOLD, Selection())).unreached == (3, 5)
        (row,), _ = await steering.audit(after="", limit=50)
        assert row.result == "3 recipients of 2 messages, 1 in flight left alone, shard-3, shard-5 not reached"

    played(test)


def test_what_is_refused_is_written_down_too() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        front.refuse = ControlRefused("postroad.toml:3: there is no setting of that name.")
        with pytest.raises(ControlRefused, match="there is no setting"):
            await steering.reload()
        front.parts = {"0": ScriptedSteering(), "1": ScriptedSteering()}
        front.parts["1"].refuse = Unanswered("It is away.")  # type: ignore[attr-defined]
        with pytest.raises(Unanswered) as refused:
            await front.steering("alice").change(Change.DELETE, Selection())
        rows, _ = await steering.audit(after="", limit=50)
        assert {(row.what, row.result) for row in rows} == {
            ("reload", "refused: postroad.toml:3: there is no setting of that name."),
            (
                "delete",
                f"refused: {refused.value.text}",
            ),
        }

    played(test)


def test_nothing_is_changed_that_cannot_be_written_down() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        await front.spools.put()
        steering = unwritable(front, 0)
        for change in (
            steering.change(Change.DELETE, Selection()),
            steering.suspend("y.example", until=None),
            steering.resume("y.example"),
            steering.reload(),
        ):
            with pytest.raises(ControlRefused, match=r"disk full\. Nothing was changed"):
                await change
        assert (await steering.stats(1)).messages == 1
        assert (front.reloads, front.outlet.facts) == ([], [])

    played(test)


def test_a_result_that_cannot_be_written_down_is_told() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        await front.spools.put()
        steering = unwritable(front, 1)
        assert (await steering.change(Change.HOLD, Selection())).recipients == 1
        ((row,), _) = await steering.audit(after="", limit=5)
        assert row.result == audit.ASKED
        (trouble,) = front.outlet.of(Trouble)
        assert trouble.why == "what came of hold by alice could not be written: disk full"

    played(test)


def test_the_audit_comes_in_pages_the_newest_first() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        for number in range(7):
            front.clock.advance(0.001)
            await steering.resume(f"d{number}.example")
        seen, after = [], ""
        while True:
            rows, after = await steering.audit(after=after, limit=3)
            assert len(rows) <= 3
            seen += [row.about for row in rows]
            if not after:
                break
        assert seen == [f"d{number}.example" for number in reversed(range(7))]
        front.clock.advance(audit.KEPT + 1)
        assert await steering.audit(after="", limit=3) == ((), "")

    played(test)


# --- destinations ----------------------------------------------------------------------------------------


def test_a_suspension_is_there_until_it_ends() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        row = await steering.suspend("Example.ORG.", until=NOW + HOUR, why="they asked")
        assert (row.destination, row.since, row.until, row.who, row.why) == (
            "example.org",
            NOW,
            NOW + HOUR,
            "alice",
            "they asked",
        )
        await steering.suspend("*", until=None)
        assert [one.destination for one in await steering.suspensions()] == ["*", "example.org"]
        front.clock.advance(HOUR + 1)
        assert [one.destination for one in await steering.suspensions()] == ["*"]
        assert await steering.resume("*")
        assert not await steering.resume("*")
        assert [(one.verb, one.selection) for one in front.outlet.of(Steered)] == [
            ("suspend", "example.org until 2026-01-01T13:00:00Z"),
            ("suspend", "* until it is lifted"),
            ("resume", "*"),
        ]

    played(test)


def test_an_override_takes_the_place_of_an_older_one() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        name = "smtp:relay.example:587"
        await steering.override(name, connections=3, messages_per_connection=9, rate=None, until=None)
        row = await steering.override(name, connections=None, messages_per_connection=None, rate="none", until=NOW + 9)
        assert row == Override(destination=name, rate="none", since=NOW, until=NOW + 9, who="alice")
        assert await steering.overrides() == (row,)
        assert await steering.restore(name)
        assert await steering.overrides() == ()

    played(test)


@pytest.mark.parametrize(
    ("destination", "more"),
    [
        ("", {}),
        ("a@b.example", {}),
        ("mx:", {}),
        ("y.example", {"until": NOW}),
        ("y.example", {"until": float("inf")}),
        ("y.example", {"until": float("nan")}),
        ("y.example", {"until": NOW + 1e10}),
        ("y.example", {"why": "x" * 501}),
        ("y.example", {"why": "a\nb"}),
        ("y.example", {"connections": 0}),
        ("y.example", {"connections": 10_001}),
        ("y.example", {"messages_per_connection": 0}),
        ("y.example", {"rate": "fast"}),
        ("y.example", {"connections": None}),
    ],
)
def test_what_makes_no_sense_is_refused(destination: str, more: dict[str, Any]) -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        fields = {"connections": 3, "messages_per_connection": None, "rate": None, "until": None} | more
        with pytest.raises(ControlRefused) as refused:
            await steering.override(destination, **fields)
        assert refused.value.status == 2
        if not {"connections", "messages_per_connection", "rate"} & set(more):
            with pytest.raises(ControlRefused) as refused:
                await steering.suspend(destination, **{"until": None} | more)
            assert refused.value.status == 2
        assert (await steering.overrides(), await steering.suspensions()) == ((), ())

    played(test)


def test_there_is_an_end_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(by_hand, "ROWS_MAX", 3)

    async def test(front: Front, steering: FrontSteering) -> None:
        for number in range(3):
            await steering.suspend(f"d{number}.example", until=None)
        with pytest.raises(ControlRefused, match="There are 3 suspensions already"):
            await steering.suspend("e.example", until=None)
        await steering.suspend("d1.example", until=None, why="over an older one")
        assert len(await steering.suspensions()) == 3

    played(test)


# --- how all is ------------------------------------------------------------------------------------------


def test_the_relay_is_well_when_everybody_is() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        await front.spools.put()
        health = await steering.relay_health()
        assert (health.is_well, health.troubles, health.messages) == (True, (), 1)
        assert (health.started_at, health.processes) == (NOW - 60, front.processes)
        assert (await steering.health()).pid == front.processes[0].pid
        assert await steering.configuration() == CONFIGURATION

    played(test)


def test_each_trouble_is_a_sentence() -> None:
    async def test(front: Front, steering: FrontSteering) -> None:
        parts = [ScriptedSteering() for _ in range(3)]
        parts[1].refuse = Unanswered("It is away.")
        full = msgspec.structs.replace(HEALTH, accepting=False, trouble="disk full")

        async def health() -> Any:
            return full

        parts[2].health = health  # type: ignore[method-assign]
        front.parts = {str(number): part for number, part in enumerate(parts)}
        front.processes = (process("ledger", is_ready=False),)
        said = await front.steering("alice").relay_health()
        assert not said.is_well
        assert said.troubles == ("worker 2: disk full", "worker 1: It is away.", "ledger 0 is not ready.")
        assert said.messages == 2 * HEALTH.messages

    played(test)
