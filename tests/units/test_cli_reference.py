"""docs/reference/cli.md is what the commands' help says, and every option has a word about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer

from postroad.cli.main import app
from postroad.cli.reference import reference

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == reference(), "python -m postroad.cli.reference > docs/reference/cli.md"


def commands(command: Any, name: str) -> list[tuple[str, Any]]:
    found = [(name, command)]
    for inner in getattr(command, "commands", {}).values():
        found += commands(inner, f"{name} {inner.name}")
    return found


ALL = commands(typer.main.get_command(app), "postroad")


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_command_and_option_says_what_it_does(name: str, command: Any) -> None:
    assert command.help
    assert command.help.endswith(".")
    for parameter in command.params:
        text = getattr(parameter, "help", None)
        assert text, f"{name} {parameter.name} has no help"
        assert text.endswith("."), f"{name} {parameter.name}: {text}"


def test_it_lists_what_there_is_and_nothing_else() -> None:
    """Commands of later versions are not announced."""
    assert [name for name, _ in ALL if name.count(" ") == 1] == [
        "postroad serve",
        "postroad check",
        "postroad reload",
        "postroad send",
        "postroad sendmail",
        "postroad mailq",
        "postroad top",
        "postroad trace",
        "postroad completion",
        "postroad version",
        "postroad config",
        "postroad queue",
        "postroad user",
    ]
