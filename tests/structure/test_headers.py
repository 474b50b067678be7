"""What a reader may count on: a header on every module, files and functions of a readable size, one word for one thing.

Sizes are ceilings with a door: a file or function that is better long goes into the budget, with the reason. An entry
that is no longer needed fails too, so that the budget only ever tells the truth.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.structure.source import PYTHON_FILES, ROOT, SOURCE, SOURCE_FILES, shown, syntax

HEADER_MIN, HEADER_MAX = 3, 12  # lines of a module's docstring with something on them
FILE_MAX = 400  # lines
FUNCTION_MAX = 60  # lines, from def to the last one

FILE_BUDGET: dict[str, str] = {}
"""Path in the checkout -> why it is better in one piece."""
FUNCTION_BUDGET: dict[str, str] = {}
"""``path::name`` -> why it is better in one piece."""

BANNED_WORDS = {
    "manager": "say what it does to what",
    "handler": "say what it answers",
    "helper": "say what it does",
    "helpers": "say what they do",
    "util": "say what it does",
    "utils": "say what they do",
    "msg": "message",
    "email": "message or address",
}
TOOLS = [path for path in PYTHON_FILES if path.is_relative_to(ROOT / "tools")]


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def words(name: str) -> set[str]:
    """``_SpoolManager2`` and ``spool_manager`` -> spool, manager."""
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}


def header_trouble(tree: ast.Module, least: int) -> str | None:
    header = ast.get_docstring(tree)
    if header is None:
        return "opens without a header: what it owns, what it does not own, what to keep in step"
    lines = len([line for line in header.splitlines() if line.strip()])
    if not least <= lines <= HEADER_MAX:
        return f"its header has {lines} lines; {least} to {HEADER_MAX} are right"
    return None


@pytest.mark.parametrize("path", [*SOURCE_FILES, *TOOLS], ids=shown)
def test_a_module_opens_with_its_contract(path: Path) -> None:
    is_package = path.name == "__init__.py"  # what a package is may be said in one line
    assert header_trouble(syntax(path), 1 if is_package else HEADER_MIN) is None


@pytest.mark.parametrize("path", PYTHON_FILES, ids=shown)
def test_a_file_is_of_readable_size(path: Path) -> None:
    if shown(path) not in FILE_BUDGET:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        assert lines <= FILE_MAX, "split it, or justify it in FILE_BUDGET"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=shown)
def test_a_function_is_of_readable_size(path: Path) -> None:
    long = [f"{node.name}: {length(node)} lines" for node in functions(syntax(path)) if length(node) > FUNCTION_MAX]
    assert [line for line in long if f"{shown(path)}::{line.split(':')[0]}" not in FUNCTION_BUDGET] == []


def test_the_budget_holds_only_what_needs_it() -> None:
    for name in FILE_BUDGET:
        assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) > FILE_MAX, f"{name} no longer needs it"
    for entry in FUNCTION_BUDGET:
        name, _, function = entry.partition("::")
        sizes = [length(node) for node in functions(syntax(ROOT / name)) if node.name == function]
        assert max(sizes, default=0) > FUNCTION_MAX, f"{entry} no longer needs it"


def banned_names(path: Path, tree: ast.Module) -> list[str]:
    named = [path.stem, *(part for part in path.relative_to(SOURCE).parts[:-1])] if path.is_relative_to(SOURCE) else []
    named += [node.name for node in functions(tree) if node.name != "get_route_handler"]  # FastAPI names what it asks
    named += [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    ours = [node for node in functions(tree) if not node.name.startswith("__get_")]  # pydantic names those arguments
    named += [argument.arg for node in ours for argument in node.args.args]
    return [f"{name}: {BANNED_WORDS[word]}" for name in named for word in words(name) & BANNED_WORDS.keys()]


@pytest.mark.parametrize("path", SOURCE_FILES, ids=shown)
def test_one_word_for_one_thing(path: Path) -> None:
    assert banned_names(path, syntax(path)) == []


def test_the_checks_see_what_they_are_for() -> None:
    assert header_trouble(ast.parse("import os"), 3) is not None
    assert header_trouble(ast.parse('"""One line."""'), 3) is not None
    assert header_trouble(ast.parse('"""' + "line\n" * 13 + '"""'), 3) is not None
    assert header_trouble(ast.parse('"""One.\nTwo.\n\nThree.\n"""'), 3) is None
    assert words("_SpoolManager2") == words("spool_manager") == {"spool", "manager"}
    assert words("SMTPHandler") == {"smtp", "handler"}
    assert banned_names(SOURCE / "core" / "utils.py", ast.parse("def f(msg): ...")) == [
        "utils: say what they do",
        "msg: message",
    ]
    source = "def f():\n" + "    pass\n" * 60
    assert [length(node) for node in functions(ast.parse(source))] == [61]
