"""Documents that name the code are held to it: a message's path, the layout, each file and command they mention."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.structure.source import (
    HEIGHT,
    ROOT,
    SOURCE,
    SOURCE_FILES,
    imported_package,
    imports,
    package_of,
    repository_files,
    shown,
    syntax,
)

FLOW = ROOT / "docs" / "flow.md"
LAYOUT = ROOT / "docs" / "layout.md"
DOCUMENTS = [path for path in repository_files() if path.suffix == ".md"]
STEP = re.compile(r"^\s*\d+\.\s+.*?`(?:src/postroad/)?([a-z_/]+\.py)`", re.M)  # 3. ... `smtp/server.py` ...
MENTION = re.compile(
    r"`([\w-][\w./-]*/[\w.-]+\.(?:py|sql|toml|txt|in|md|smtp)|(?:src|tests|tools|docs|requirements)/[\w./-]+)`"
)
PLACES = [ROOT, SOURCE, ROOT / "docs", ROOT / "tests"]
STEPS_MIN = 12  # of the 16 on the design's path, some share a file


def steps() -> list[str]:
    """The files of docs/flow.md in the order of a message's path: the first one named in each numbered line."""
    return STEP.findall(FLOW.read_text(encoding="utf-8"))


def test_flow_leads_all_the_way() -> None:
    packages = [name.split("/")[0] for name in steps()]
    assert len(steps()) >= STEPS_MIN, 'a step is a line like "3. `smtp/server.py`: legal? -> event"'
    for earlier, later in (("inbound", "spool"), ("spool", "outbound"), ("smtp", "outbound")):
        assert earlier in packages
        assert later in packages
    assert packages.index("inbound") < packages.index("spool") < packages.index("outbound")


def test_flow_names_files_that_exist() -> None:
    assert [name for name in steps() if not (SOURCE / name).exists()] == []


def test_each_step_imports_the_next_only_as_allowed() -> None:
    """Where the next step stands higher or beside, the mail gets there by a face, never by an import."""
    wrong = []
    for name, following in zip(steps(), steps()[1:], strict=False):
        mine, other = name.split("/")[0], following.split("/")[0]
        imported = {imported_package(module) for module in imports(syntax(SOURCE / name))}
        if other != mine and HEIGHT[other] >= HEIGHT[mine] and other in imported:
            wrong.append(f"{name} imports {other}")
    assert wrong == []


def test_steps_of_one_package_know_each_other() -> None:
    """Two steps in a row in one package are joined: one imports the other, or a third of the package knows both."""
    loose = []
    for name, following in zip(steps(), steps()[1:], strict=False):
        if name != following and name.split("/")[0] == following.split("/")[0]:
            package = [shown_in_source(path) for path in (SOURCE / name).parent.glob("*.py")]
            joined = _imports_module(name, following) or _imports_module(following, name)
            joined |= any(_imports_module(third, name) and _imports_module(third, following) for third in package)
            loose += [] if joined else [f"{name} and {following}"]
    assert loose == []


def shown_in_source(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def _imports_module(name: str, other: str) -> bool:
    module = "postroad." + other.removesuffix(".py").replace("/", ".")
    return any(found == module or found.startswith(module + ".") for found in imports(syntax(SOURCE / name)))


def test_layout_mentions_every_package() -> None:
    text = LAYOUT.read_text(encoding="utf-8")
    packages = {package_of(path) for path in SOURCE_FILES if path.parent != SOURCE}
    assert sorted(name for name in packages if not re.search(rf"`(?:src/postroad/)?{name}/?`", text)) == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_every_file_that_is_mentioned_exists(path: Path) -> None:
    mentioned = MENTION.findall(path.read_text(encoding="utf-8"))
    here = [*PLACES, path.parent]
    assert [name for name in mentioned if not any((place / name).exists() for place in here)] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=shown)
def test_every_make_target_that_is_mentioned_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    mentioned = re.findall(r"`make ([a-z]+)|^ *(?:\$ )?make ([a-z]+)", path.read_text(encoding="utf-8"), re.M)
    assert {name for pair in mentioned for name in pair if name} - targets == set()


def test_the_patterns_read_what_they_should() -> None:
    assert STEP.findall("1. `net/listen.py`: accept\n 12. Then `src/postroad/smtp/client.py`, and `smtp/data.py`.") == [
        "net/listen.py",
        "smtp/client.py",
    ]
    assert MENTION.findall(
        "`tools/setup`, `smtp/server.py`, `postroad-data/mail`, `./x/a.toml`, `/etc/x/a.toml`, `{user}/x.py`"
    ) == [
        "tools/setup",
        "smtp/server.py",
    ]
