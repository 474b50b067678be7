"""``postroad trace`` beyond its golden file: what is followed, stories too long to be grouped, dialogues, colours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator

import pytest
from tests.units.relay_world import ScriptedRelay, fill, story
from tests.units.steering_world import NOW, message_id
from tests.units.test_cli_cases import CONFIG, Script, said
from tests.units.test_cli_output import terminal

from postroad.cli import trace
from postroad.cli.main import run
from postroad.core.facts import AnyFact, Reported, Trouble
from postroad.core.ids import format_id


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_CONFIG", str(CONFIG))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)


class Followed(ScriptedRelay):
    """A relay in which a few things happen while it is followed, and which then ends."""

    happens: list[AnyFact] = []

    async def trace(self, wanted: str, *, follow: bool = False, limit: int = 100) -> AsyncGenerator[AnyFact, None]:
        assert follow
        for fact in self.happens:
            yield fact
            await asyncio.sleep(0)


def followed(happens: list[AnyFact]) -> Script:
    script = Script()
    script.steering = Followed()
    script.steering.happens = happens
    return script


def test_the_tail_of_everything_names_the_messages() -> None:
    trouble = Trouble(at=NOW, what="disk", why="full")
    lines = said(["trace", "--follow"], followed([*story(1, "bob@example.net")[:1], trouble]).house())
    assert lines[0] == "2026-11-23 UTC"
    assert lines[1].startswith(f"02:12:12.000  {format_id(message_id(1))}  received from 192.0.2.7")
    assert lines[2].startswith("03:12:11.000  -              trouble with disk")


def test_nothing_to_follow_is_no_failure() -> None:
    assert said(["trace", "--follow"], followed([]).house()) == []


def test_one_message_is_followed_with_its_dialogue() -> None:
    lines = said(["trace", format_id(message_id(1)), "-f"], followed(story(1, "bob@example.net")).house())
    assert sum("< 220 mx1 ESMTP" in line for line in lines) == 1
    assert not any(format_id(message_id(1)) in line for line in lines)
    lines = said(["trace", "bob@example.net", "-f"], followed(story(1, "bob@example.net")).house())
    assert not any("< 220 mx1 ESMTP" in line for line in lines)


def test_a_day_is_named_once() -> None:
    facts = [Trouble(at=NOW + hours * 3600, what="disk", why="full") for hours in (0, 1, 24, 25)]
    days = [line for line in said(["trace", "-f"], followed(list(facts)).house()) if line.endswith(" UTC")]
    assert days == ["2026-11-23 UTC", "2026-11-24 UTC"]


def test_a_story_too_long_for_memory_is_told_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "GROUPED_MAX", 5)
    script = Script()
    assert isinstance(script.steering, ScriptedRelay)
    fill(script.steering.relay)
    lines = said(["trace", "alice@example.org"], script.house())
    assert lines[0] == "! The story is long: its 6 facts and more follow in the order of time."
    times = [line.split()[0] for line in lines[2:]]
    assert len(times) == 8
    assert times == sorted(times)


def test_json_has_ids_as_text() -> None:
    fact = Reported(
        at=NOW, message=message_id(1), report=message_id(2), action="failed", to="a@b.example", recipients=("c@d",)
    )
    (line,) = said(["trace", "-f", "--json"], followed([fact]).house())
    row = json.loads(line)
    assert (row["kind"], row["message"], row["report"]) == ("reported", "0ca9vy9nw0001", "0ca9vy9nw0002")


def test_a_terminal_gets_colours_and_nothing_of_a_strangers() -> None:
    script = Script()
    assert isinstance(script.steering, ScriptedRelay)
    fill(script.steering.relay)
    with terminal() as screen:
        assert run(script.house(), ["trace", "0ca9vy9nw0001"]) == 0
    assert "\x1b[32m" in screen.getvalue()
    assert "busy \\x1b[31m" in screen.getvalue()
    assert "\x1b[31m" not in screen.getvalue()
