"""Every ``postroad`` command that docs/howto shows is one that can be typed: run against a scripted relay."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.units.relay_world import ScriptedRelay, fill, story
from tests.units.test_cli_cases import CONFIG, Script, said
from tests.units.test_cli_trace import followed

PAGES = sorted((Path(__file__).parents[2] / "docs" / "howto").glob("*.md"))
COMMAND = re.compile(r"^    ((?:postroad|mailq)(?: [^#\n]*)?)(?:#.*)?$", re.M)
ELSEWHERE = ("check", "send")
"""Commands that do something to this machine or the network: they have tests of their own."""


def commands() -> list[str]:
    found = [match[1].strip() for page in PAGES for match in COMMAND.finditer(page.read_text())]
    return [command for command in dict.fromkeys(found) if command.split()[1:2] not in [[name] for name in ELSEWHERE]]


@pytest.mark.parametrize("command", commands())
def test_it_can_be_typed(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROAD_CONFIG", str(CONFIG))
    words = shlex.split(command.replace(" ID", " 0ca9vy9nw0001"))
    words = words[1:] if words[0] == "postroad" else words
    script = followed(story(1, "bob@example.net")) if "--follow" in words else Script()
    assert isinstance(script.steering, ScriptedRelay)
    fill(script.steering.relay)
    lines = said([*words, "--interval", "0.1"] if "--once" in words else words, script.house())
    if words == ["top"]:  # wants a terminal, and says so
        assert lines[0].startswith("! postroad: Standard output is no terminal")
    else:
        assert not {"exit 2", "exit 64"} & set(lines), lines


def test_there_are_pages() -> None:
    assert len(PAGES) >= 3
    assert len(commands()) >= 20
