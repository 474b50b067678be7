"""The source tree as the structure tests see it: its files, their syntax, what they import, the floor they stand on."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "postroad"
SOURCE_FILES = sorted(SOURCE.rglob("*.py"))
PYTHON_FILES = sorted(
    [*SOURCE_FILES, *(path for name in ("tests", "tools", "bench") for path in (ROOT / name).rglob("*.py"))]
)

FLOORS: list[set[str]] = [  # lowest first
    {"core"},
    {"smtp", "mail", "policy", "config"},
    {"net", "spool", "records", "ledger", "pipeline", "access", "observe"},
    {"inbound", "outbound"},
    {"http", "cli"},
    {"service"},
    {"testing"},  # beside the house, but for the simulation, which builds one of its own (testing/sim/house.py)
    {"__main__"},
]
HEIGHT = {package: height for height, packages in enumerate(FLOORS, start=1) for package in packages}


def shown(path: Path) -> str:
    """The path as a person would type it in the checkout; the id of a test case."""
    return str(path.relative_to(ROOT))


def package_of(path: Path) -> str:
    """The package, or the module at the top: ``core``, ``__main__``, ``__init__``."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@cache
def syntax(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def runs(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under ``if TYPE_CHECKING:``."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from runs(node)


def imports(tree: ast.Module, *, for_types: bool = True) -> set[str]:
    """Every module that is imported anywhere in the file, late ones too, and those for types alone unless told not.

    ``from postroad import core`` counts as ``postroad.core``; a relative import that
    leaves its package as ``..``, which no rule allows.
    """
    found = set()
    for node in ast.walk(tree) if for_types else runs(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level > 1:
            found.add("..")
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def imported_package(name: str) -> str | None:
    """``core`` for ``postroad.core.reply.OK``; None for what is not a package of ours."""
    parts = name.split(".")
    return parts[1] if parts[0] == "postroad" and len(parts) > 1 and parts[1] in HEIGHT else None


@cache
def repository_files() -> tuple[Path, ...]:
    """What is committed or would be; without git (an unpacked archive) everything but what tools leave behind."""
    listing = subprocess.run(
        ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        paths = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    else:
        paths = [
            path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.parts[len(ROOT.parts) :])
        ]
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def text_of(path: Path) -> str:
    """The text of a file; empty for what is not text."""
    octets = path.read_bytes()
    return "" if b"\0" in octets else octets.decode("utf-8", "replace")
