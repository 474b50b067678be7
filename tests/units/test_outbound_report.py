"""Reports go on being made, and being told of, whatever breaks: a sync, a look, a loop of outbound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.units import outbound_world, test_outbound_flow
from tests.units.test_outbound_flow import World
from tests.units.test_spool_trouble import fail_next_commit

from postroad.core import facts
from postroad.core.ids import MessageId
from postroad.outbound import report
from postroad.outbound.report import Reporter
from postroad.spool.face import NewMessage, Ruling, Selection, SpoolRefused, Why
from postroad.testing.simulated_loop import passes

Replaces = Sequence[tuple[MessageId, Sequence[Ruling]]]
Told = Callable[[], None] | None


def handled_errors() -> list[str]:
    """Return a list that gets what the loop is told of as a bug."""
    handled: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: handled.append(repr(context.get("exception"))))
    return handled


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_report_whose_put_seemed_to_fail_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    """A failed sync: the spool refuses, and finds at its reopening that the report is there, or that it is not."""
    monkeypatch.setattr(report, "LOOK_EVERY", 0.01)

    async def work(world: World) -> None:
        shard, put = world.shard, world.shard.put
        tries: list[MessageId] = []

        async def doubtful(new: NewMessage, *, replaces: Replaces = (), told: Told = None) -> None:
            if replaces and not tries:
                tries.append(new.id)
                await shard.flush_records()
                fail_next_commit(shard, after=is_kept)
            await put(new, replaces=replaces, told=told)

        shard.put = doubtful  # type: ignore[method-assign]
        await world.put("carol@example.net")
        reported = await world.outlet.until(facts.Reported)
        assert (reported.report == tries[0]) is is_kept
        assert reported.recipients == ("carol@example.net",)
        await world.outlet.until(facts.Delivered, lambda fact: fact.message == reported.report)
        await world.reporter.report_due()
        assert len(world.outlet.of(facts.Reported)) == 1

    test_outbound_flow.run(tmp_path, work)


def test_a_report_that_was_refused_is_not_told_of_though_a_person_deletes_what_it_was_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LOOK_EVERY", 0.01)

    async def work(world: World) -> None:
        shard, put, tried = world.shard, world.shard.put, asyncio.Event()

        async def busy(new: NewMessage, *, replaces: Replaces = (), told: Told = None) -> None:
            if replaces:
                tried.set()
                raise SpoolRefused(Why.BUSY)
            await put(new, replaces=replaces, told=told)

        shard.put = busy  # type: ignore[method-assign]
        await world.put("carol@example.net")
        await tried.wait()
        while not (await shard.drop(Selection(), "by hand")).recipients:
            await asyncio.sleep(0)
        for _ in range(3):
            assert await world.reporter.report_due()
        assert world.outlet.of(facts.Reported) == []

    test_outbound_flow.run(tmp_path, work)


def test_a_look_for_reports_that_breaks_is_told_and_the_next_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "LOOK_EVERY", 0.01)

    async def work(world: World) -> None:
        handled, due_reports = handled_errors(), world.shard.due_reports

        def broken(limit: int) -> Sequence[MessageId]:
            world.shard.due_reports = due_reports  # type: ignore[method-assign]
            raise ZeroDivisionError

        world.shard.due_reports = broken  # type: ignore[method-assign]
        trouble = await world.outlet.until(facts.Trouble)
        assert (trouble.what, trouble.why, handled) == ("report", "ZeroDivisionError: ", ["ZeroDivisionError()"])
        await world.put("carol@example.net")
        await world.outlet.until(facts.Reported)

    test_outbound_flow.run(tmp_path, work)


def test_a_loop_of_outbound_that_ends_by_an_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(reporter: Reporter) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Reporter, "run", broken)

    async def work(world: outbound_world.World) -> None:
        handled = handled_errors()
        await world.until(lambda: bool(world.outlet.of(facts.Trouble)))
        (trouble,) = world.outlet.of(facts.Trouble)
        assert (trouble.what, trouble.why) == ("outbound", "ZeroDivisionError: ")
        assert handled == ["ZeroDivisionError()"]

    outbound_world.run(lambda: outbound_world.World("", {}), work)


def test_a_rule_that_cannot_end_is_told_and_the_next_ends() -> None:
    async def work(world: outbound_world.World) -> None:
        handled, scheduler = handled_errors(), world.outbound._scheduler
        steer, steered = scheduler.steer, list[Any]()

        def broken(rules: Any) -> None:
            steered.append(rules)
            if len(steered) == 1:
                raise ZeroDivisionError
            steer(rules)

        world.suspend("a.example", until=10.0)
        scheduler.steer = broken  # type: ignore[method-assign]
        await world.until(lambda: bool(world.outlet.of(facts.Trouble)))
        assert [fact.what for fact in world.outlet.of(facts.Trouble)] == ["rules"]
        assert handled == ["ZeroDivisionError()"]
        scheduler.steer = steer  # type: ignore[method-assign]
        world.suspend("b.example", until=10.0)
        scheduler.steer = broken  # type: ignore[method-assign]
        await passes(12.0)
        assert len(steered) == 2

    outbound_world.run(lambda: outbound_world.World("", {}), work)
