"""How the command line looks: spans, sizes, tables in pipes and on terminals, what must not steer a terminal."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

import pytest
from tests.units.steering_world import NOW, ScriptedSteering
from tests.units.test_cli_cases import CONFIG, Script

from postroad.cli import output
from postroad.cli.main import run
from postroad.cli.output import Column, TableWriter, shown_next, shown_size, shown_span, shown_time, with_progress
from postroad.spool.face import Changed


class Terminal(io.StringIO):
    """Standard output or input of a person."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_CONFIG", str(CONFIG))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


@pytest.mark.parametrize(
    ("command", "shown", "left_out"),
    [
        ("list", ("RECIPIENT", "STATE", "NEXT", "REASON", "carol@example.com"), ("SIZE", "SENDER")),
        ("stats", ("DOMAIN", "DUE", "NEXT", "STATUS", "REASON", "example.com"), ("REPORTS",)),
    ],
)
def test_a_narrow_screen_leaves_out_what_matters_least(
    command: str, shown: tuple[str, ...], left_out: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    with terminal() as screen:
        run(Script().house(), ["queue", command])
    head = next(line for line in screen.getvalue().splitlines() if "REASON" in line)
    assert all(word in screen.getvalue() for word in shown)
    assert not any(word in head for word in left_out)


class Full(io.StringIO):
    """Standard output on a disk that is full."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_an_output_that_cannot_be_written_is_a_sentence() -> None:
    said = io.StringIO()
    with redirect_stdout(Full()), redirect_stderr(said):
        assert run(Script().house(), ["version"]) == 1
    assert "postroad: Standard output cannot be written: No space left on device." in said.getvalue()


@contextmanager
def terminal() -> Iterator[Terminal]:
    """Show everything on one screen. Within the test: pytest exchanges the streams between set-up and call."""
    screen = Terminal()
    with redirect_stdout(screen), redirect_stderr(screen):
        yield screen


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (59.9, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h"), (86_399, "23h"), (90_000, "1d")],
)
def test_spans(seconds: float, text: str) -> None:
    assert shown_span(seconds) == text


@pytest.mark.parametrize(
    ("octets", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (52_428_800, "50.0 MiB"),
        (2**40, "1.0 TiB"),
        (2**52, "4096.0 TiB"),
    ],
)
def test_sizes(octets: int, text: str) -> None:
    assert shown_size(octets) == text


def test_times() -> None:
    assert shown_time(NOW) == "2026-11-23 03:12:11 UTC"
    assert [shown_next(at, NOW) for at in (None, NOW - 1, NOW, NOW + 61)] == ["-", "now", "now", "in 1m"]


def test_pages_of_a_table_keep_in_line_and_one_long_cell_pushes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    table = TableWriter([Column("A", 3), Column("N", 4, right=True), Column("REST")])
    for row in (["x", "1", "free"], ["y" * 100, "22", "text"]):
        table.add(row)
    table.flush()
    table.add(["z", "3", "and more"])
    table.flush()
    table.flush()
    header, first, long, second = capsys.readouterr().out.splitlines()
    assert header == "A" + " " * 49 + "   N  REST"
    assert first == "x" + " " * 49 + "   1  free"
    assert long == "y" * 100 + "    22  text"
    assert second == "z" + " " * 49 + "   3  and more"


def test_a_terminal_gets_colours() -> None:
    with terminal() as screen:
        assert run(Script().house(), ["queue", "list"]) == 0
    text = screen.getvalue()
    assert "\x1b[" in text
    assert "\x1b[33mdeferred" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert plain.splitlines()[0].startswith("ID ")
    assert "bob@example.net" in plain
    assert plain.count("RECIPIENT") == 1


def test_what_strangers_wrote_does_not_steer_the_terminal() -> None:
    with terminal() as screen:
        assert run(Script().house(), ["queue", "show", "0ca9vy9nw009c"]) == 0
    assert "No such user \\x1b[31m" in screen.getvalue()
    assert "\x1b[31m" not in screen.getvalue()


def test_a_person_is_asked_before_many_are_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, status, asked in (("n\n", 1, 1), ("y\n", 0, 2)):
        script = Script()
        script.steering.changed = Changed(101, 100, 0)
        monkeypatch.setattr(sys, "stdin", Terminal(answer))
        with terminal() as screen:
            assert run(script.house(), ["queue", "delete", "--all"]) == status
        assert "Delete 101 recipients of 100 messages?" in screen.getvalue()
        assert [dry_run for _, _, dry_run in script.steering.asked] == [True, False][:asked]


def test_a_hundred_are_not_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script()
    script.steering.changed = Changed(100, 100, 0)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run(script.house(), ["queue", "delete", "--all"]) == 0
    assert [dry_run for _, _, dry_run in script.steering.asked] == [True, False]


def test_a_dry_run_changes_nothing() -> None:
    script = Script()
    script.steering.changed = Changed(1000, 100, 0)
    assert run(script.house(), ["queue", "delete", "--all", "--dry-run"]) == 0
    assert [dry_run for _, _, dry_run in script.steering.asked] == [True]


def test_a_listing_ends_at_its_limit() -> None:
    for limit in (1, 2, 3):
        with terminal() as screen:
            assert run(Script().house(), ["queue", "list", "--json", "--limit", str(limit)]) == 0
        assert len(screen.getvalue().splitlines()) == limit


def test_long_work_is_seen_by_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PROGRESS_AFTER", 0.0)

    async def work(screen: Terminal) -> int:
        while "Counting" not in screen.getvalue():
            await asyncio.sleep(0)
        return 7

    with terminal() as screen:
        assert asyncio.run(asyncio.wait_for(with_progress("Counting", work(screen)), 20)) == 7


def test_a_million_rows_need_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are asked for one after another, and written before the next one: here 300 of them, counted."""
    import msgspec
    from tests.units.steering_world import MESSAGES

    from postroad.core.ids import format_id, parse_id

    first = parse_id("0ca9vy9nw0000")
    rows = [msgspec.structs.replace(MESSAGES[0], id=format_id(first + number)) for number in range(3_000)]

    class Counting(io.StringIO):
        written = 0

        def write(self, text: str) -> int:
            self.written += text.count("\n")
            return len(text)

    class Watched(ScriptedSteering):
        seen: list[tuple[int, int]] = []

        async def list_messages(self, *arguments: object, **named: object) -> object:  # type: ignore[override]
            self.seen.append((len(self.seen) * self.page_size, screen.written))
            return await super().list_messages(*arguments, **named)  # type: ignore[arg-type]

    screen = Counting()
    monkeypatch.setattr(sys, "stdout", screen)
    script = Script()
    script.steering = Watched(rows, page_size=10)
    assert run(script.house(), ["queue", "list", "--json"]) == 0
    assert len(script.steering.seen) == 300
    assert all(asked_for == written for asked_for, written in script.steering.seen)


def test_json_has_escapes_for_what_would_steer_a_terminal() -> None:
    foul = {"a": "x\x9b2J\u202ey\x7f\U000e0001\u00e9"}
    with redirect_stdout(io.StringIO()) as said:
        output.write_json(foul)
    assert said.getvalue().strip().isprintable()
    assert "\u00e9" in said.getvalue()
    assert json.loads(said.getvalue()) == foul
