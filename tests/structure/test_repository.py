"""What is committed: nothing of one machine, nothing that says where packages come from, nothing left for later.

Where a library is fetched from is the business of the pip configuration of whoever installs; the files here say which
one, by hash. The words that may not appear are put together here, so that this file may be read like all others.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from tests.structure.source import PYTHON_FILES, ROOT, repository_files, shown, syntax, text_of

FILES = repository_files()
REQUIREMENTS = sorted((ROOT / "requirements").glob("*.txt"))

HOSTS = [
    ".".join(parts)
    for parts in (
        *(("py" + "pi", "org"), ("python" + "hosted", "org"), ("deb", "debian", "org"), ("security", "debian", "org")),
        *(("npm" + "js", "org"), ("npm" + "js", "com"), ("crates", "io"), ("proxy", "golang", "org")),
    )
]
DOWNLOAD = re.compile(r"(?:https?|file)://[^\s\"'<>]+\.(?:whl|tar\.\w+|tgz|zip|deb|crate)\b")
HOMES = ("home/[a-z]", "Users/[A-Za-z]", "ro" + "ot/", "wo" + "rk/")
MACHINE_PATH = re.compile(rf"(?<![\w.~-])/(?:{'|'.join(HOMES)})")
LOCK_FILES = {"poetry.lock", "uv.lock", "pdm.lock", "Pipfile.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}
LEFT_FOR_LATER = re.compile(r"(?<![.\w])(?:TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)(?![.\w])")  # not 4.XXX.XXX
OPTIONS = re.compile(r"^\s*(?:-i|-f|-e|--(?:index-url|extra-index-url|find-links|trusted-host|editable))\b", re.M)

MAY_WAIT = {
    "tests/world/waiting.py": "polls the world outside (other programs' files and ports) until a question is answered",
    "tests/world/steady.py": "sends at a steady rate, which is what it is for",
    "tests/units/ledger_world.py": "for tests on a simulated loop, where it takes no time",
}
"""The only test files that may sleep: everybody else waits for events, or moves a clock of their own."""
VIRTUAL_TIME = {"tests/sim"}  # on a simulated loop asyncio.sleep takes no time


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_no_address_of_a_registry(path: Path) -> None:
    text = text_of(path)
    assert [host for host in HOSTS if host in text] == []
    assert DOWNLOAD.findall(text) == []


@pytest.mark.parametrize("path", FILES, ids=shown)
def test_no_path_of_one_machine(path: Path) -> None:
    text = text_of(path)
    assert MACHINE_PATH.findall(text) == []
    for place in (str(ROOT), str(Path.home())):
        assert not re.search(rf"(?<![\w.~-]){re.escape(place)}/", text), f"{place} is of this machine"


def test_no_lock_file() -> None:
    """Such files name the address of every download; requirements/*.txt hold names, versions and hashes."""
    assert [shown(path) for path in FILES if path.name in LOCK_FILES] == []


# --- requirements ------------------------------------------------------------------------------------------


def entries(text: str) -> list[str]:
    """The entries of a requirements file, continuation lines joined, comments dropped."""
    joined = text.replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def name_of(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def names(file_name: str) -> set[str]:
    return {name_of(entry) for entry in entries((ROOT / "requirements" / file_name).read_text(encoding="utf-8"))}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=shown)
def test_every_requirement_is_pinned_and_hashed(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert entries(text)
    loose = [
        entry for entry in entries(text) if "==" not in entry or not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)
    ]
    assert loose == []
    assert OPTIONS.findall(text) == []
    assert " @ " not in text


@pytest.mark.parametrize("purpose", ["run", "build", "test"])
def test_requirements_are_compiled(purpose: str) -> None:
    assert names(f"{purpose}.in") <= names(f"{purpose}.txt"), "run: make requirements"


def test_one_version_of_each_library() -> None:
    """All three files are installed into one environment."""
    versions: dict[str, set[str]] = {}
    for path in REQUIREMENTS:
        for entry in entries(path.read_text(encoding="utf-8")):
            versions.setdefault(name_of(entry), set()).add(entry.split("==")[1].split()[0])
    assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_pyproject_asks_for_the_same() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert {name_of(entry) for entry in project["project"]["dependencies"]} == names("run.in")
    assert {name_of(entry) for entry in project["build-system"]["requires"]} <= names("build.in")


# --- code ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for path in FILES if path.is_relative_to(ROOT / "src")], ids=shown)
def test_nothing_is_left_for_later(path: Path) -> None:
    assert LEFT_FOR_LATER.findall(text_of(path)) == []


def sleeps(tree: ast.AST) -> list[int]:
    """The lines that wait for a fixed time. ``asyncio.sleep(0)`` is a turn of the loop, not a wait."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep", "asyncio.sleep"}:
            is_turn = ast.unparse(node) in {"asyncio.sleep(0)", "sleep(0)"}
            found += [] if is_turn else [node.lineno]
    return found


@pytest.mark.parametrize("path", [path for path in PYTHON_FILES if path.is_relative_to(ROOT / "tests")], ids=shown)
def test_no_test_sleeps(path: Path) -> None:
    if shown(path) in MAY_WAIT or any(path.is_relative_to(ROOT / place) for place in VIRTUAL_TIME):
        return
    assert sleeps(syntax(path)) == [], "wait for an event, pass the clock, or use tests/world/waiting.py"


def test_what_may_wait_exists() -> None:
    assert [name for name in MAY_WAIT if not (ROOT / name).exists()] == []


def test_the_checks_see_what_they_are_for() -> None:
    assert DOWNLOAD.search("https://host.example/a/b-1.0-py3-none-any." + "whl")
    assert MACHINE_PATH.search("in /ho" + "me/anna/postroad")
    assert MACHINE_PATH.search('"/wo' + 'rk/x"')
    assert not MACHINE_PATH.search("frame" + "work/x and ~/wo" + "rk/x")
    assert LEFT_FOR_LATER.search("# TO" + "DO: more")
    assert OPTIONS.search("a==1\n--extra-index-url x")
    assert entries("a==1 \\\n    --hash=sha256:0\n# b\n") == ["a==1      --hash=sha256:0"]
    assert sleeps(ast.parse("time.sleep(0)\nasyncio.sleep(0)\nasyncio.sleep(1)\nawait_(asyncio.sleep(x))")) == [1, 3, 4]
