"""The building's floors: a module imports from lower floors and from its own package.

Never up, and never sideways: inbound and outbound meet in the spool and nowhere else. Floors 1 and 2 are pure. Above
them the wall clock, chance, threads and the spool's files come as faces from core.faces, so that a simulation can stand
under the code; the house plugs the real ones in. docs/layout.md tells the same; this file is the one that is obeyed.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.structure.source import (
    FLOORS,
    HEIGHT,
    SOURCE,
    SOURCE_FILES,
    imported_package,
    imports,
    package_of,
    shown,
    syntax,
)

PURE = FLOORS[0] | FLOORS[1]
FACED = FLOORS[2] | FLOORS[3] | {"http"}  # reach the world through faces; the house (and the command line) is the world

IMPURE_MODULES = {
    *("asyncio", "socket", "ssl", "select", "selectors", "signal", "subprocess", "multiprocessing", "threading"),
    *("concurrent", "queue", "time", "random", "secrets", "uuid", "logging", "sqlite3", "apsw", "uvloop"),
    *("os", "io", "pathlib", "shutil", "tempfile", "fcntl", "mmap"),
}
READS_FILES = {"config"}  # config.load reads the configuration: files, not the network
FILE_MODULES = {"os", "io", "pathlib"}
UNFACED_MODULES = {"random", "secrets", "uuid", "threading", "concurrent", "multiprocessing", "sqlite3"}

ONLY_IN = {  # a library has one home, so that exchanging it is one package's work
    "apsw": {"spool", "records", "ledger", "observe", "testing"},
    "dns": {"net", "testing"},
    "uvloop": {"service"},
    "typer": {"cli"},
    "rich": {"cli"},
    "fastapi": {"http"},
    "h11": {"http"},
    "prometheus_client": {"http"},
    "starlette": {"http"},
    "uvicorn": {"http"},
    "socket": {"net", "ledger", "service", "cli", "testing"},
}
UNFACED_CALLS = {
    "asyncio.to_thread": "a thread that the simulation cannot see: Threads.run_blocking",
    "asyncio.run": "the loop belongs to the house",
    "datetime.now": "the wall clock: Clock.now",
    "datetime.utcnow": "the wall clock: Clock.now",
    "date.today": "the wall clock: Clock.now",
}
TIME_CALLS = {f"time.{name}{unit}" for name in ("time", "monotonic", "perf_counter") for unit in ("", "_ns")} | {
    "time.sleep"
}
UNFACED_CALLS |= dict.fromkeys(TIME_CALLS, "the wall clock is Clock.now, durations are loop.time(); strftime is free")
UNFACED_METHODS = {"run_in_executor": "a thread that the simulation cannot see: Threads.run_blocking"}


def wrong_imports(package: str, tree: ast.Module) -> list[str]:
    """Every import that the floor of ``package`` forbids, with the reason."""
    found = []
    at_run_time = imports(tree, for_types=False)
    for name in sorted(imports(tree)):
        top, other = name.split(".")[0], imported_package(name)
        allowed_files = FILE_MODULES if package in READS_FILES else set()
        if name == "..":
            found.append("relative import out of the package: write the full name")
        if other and other != package and HEIGHT[other] >= HEIGHT[package]:
            found.append(f"{package} (floor {HEIGHT[package]}) must not import {name} (floor {HEIGHT[other]})")
        if package in PURE and name in at_run_time and top in IMPURE_MODULES - allowed_files:
            found.append(f"{package} is pure but imports {name}")
        if package in FACED and name in at_run_time and (top in UNFACED_MODULES or name in TIME_CALLS):
            found.append(f"{package} must reach the world through core.faces but imports {name}")
        if top in ONLY_IN and package not in ONLY_IN[top] and package not in PURE:
            found.append(f"{name} is used by {', '.join(sorted(ONLY_IN[top]))} only, not by {package}")
    return found


def wrong_calls(package: str, tree: ast.Module) -> list[str]:
    """Every call that goes around a face."""
    if package not in PURE | FACED:
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func)
            for name, why in UNFACED_CALLS.items():
                if called == name or called.endswith("." + name):
                    found.append(f"line {node.lineno}: {called}: {why}")
            if node.func.attr in UNFACED_METHODS:
                found.append(f"line {node.lineno}: {called}: {UNFACED_METHODS[node.func.attr]}")
    return found


@pytest.mark.parametrize("path", SOURCE_FILES, ids=shown)
def test_a_module_imports_from_lower_floors_only(path: Path) -> None:
    package = package_of(path)
    if package == "__init__":
        assert not [name for name in imports(syntax(path)) if imported_package(name)], "the top package imports nothing"
        return
    assert package in HEIGHT, f"{package} stands on no floor: add it to FLOORS in tests/structure/source.py"
    assert wrong_imports(package, syntax(path)) == []


@pytest.mark.parametrize("path", SOURCE_FILES, ids=shown)
def test_nothing_goes_around_a_face(path: Path) -> None:
    assert wrong_calls(package_of(path), syntax(path)) == []


def test_every_floor_is_lived_on() -> None:
    """A package that was renamed or never came must not stand in the table for ever."""
    here = {package_of(path) for path in SOURCE_FILES}
    assert [sorted(floor) for floor in FLOORS if not floor & here] == []


def test_every_package_says_what_it_is() -> None:
    packages = {path.parent for path in SOURCE_FILES}
    assert [shown(package) for package in sorted(packages) if not (package / "__init__.py").exists()] == []
    assert SOURCE / "core" in packages


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("core", "from postroad.smtp import server"),
        ("core", "import asyncio"),
        ("core", "from time import time"),
        ("core", "if TYPE_CHECKING:\n    from postroad.smtp import server"),
        ("smtp", "from postroad.mail import received"),
        ("smtp", "import os.path"),
        ("config", "import socket"),
        ("mail", "from pathlib import Path"),
        ("spool", "from postroad.net.stream import Stream"),
        ("spool", "from time import monotonic"),
        ("spool", "import random"),
        ("spool", "from .. import net"),
        ("inbound", "from postroad.outbound.pool import Pool"),
        ("inbound", "from postroad import outbound"),
        ("inbound", "import postroad.service.worker"),
        ("inbound", "import apsw"),
        ("outbound", "def late():\n    from random import random"),
        ("cli", "import postroad.service"),
        ("service", "import typer"),
        ("service", "from postroad.testing.clock import FakeClock"),
    ],
)
def test_a_wrong_import_is_seen(package: str, line: str) -> None:
    assert wrong_imports(package, ast.parse(line)) != []


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("smtp", "from postroad.core import reply"),
        ("smtp", "from postroad.smtp.errors import PeerError"),
        ("config", "from pathlib import Path"),
        ("core", "if TYPE_CHECKING:\n    import asyncio"),
        ("observe", "import time"),
        ("spool", "import apsw, os"),
        ("net", "import socket, ssl, dns.asyncresolver"),
        ("inbound", "from postroad.spool.face import Spool"),
        ("service", "import time, random, threading, uvloop"),
        ("__main__", "from postroad.service import supervisor\nfrom postroad.cli.main import app"),
    ],
)
def test_a_right_import_is_left_alone(package: str, line: str) -> None:
    assert wrong_imports(package, ast.parse(line)) == []


@pytest.mark.parametrize(
    "line",
    [
        "time.time()",
        "time.monotonic_ns()",
        "asyncio.to_thread(f)",
        "datetime.datetime.now()",
        "date.today()",
        "loop.run_in_executor(None, f)",
    ],
)
def test_a_call_around_a_face_is_seen(line: str) -> None:
    assert wrong_calls("spool", ast.parse(line)) != []
    assert wrong_calls("service", ast.parse(line)) == []
