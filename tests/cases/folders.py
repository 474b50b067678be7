"""Folders of cases: tests/cases/<subject>/NN-name/ with input.toml, expected and why.

Owns: reading them, and writing back what is expected now (only when asked to by
``python -m tests.cases.folders``-like main functions of the test files). Texts in the files have LF; the
product writes CRLF, so every line end is changed both ways here and bare ones are shown.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


class Case:
    """One folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = folder.name
        self.why = (folder / "why").read_text()
        self.input: dict[str, Any] = tomllib.loads((folder / "input.toml").read_text())

    def expected(self) -> str:
        return (self.folder / "expected").read_text()

    def __repr__(self) -> str:
        return self.name


def cases(subject: str) -> list[Case]:
    """Return the cases of a subject, in order; none is an error, or a test could pass by losing its cases."""
    found = [Case(folder) for folder in sorted((HERE / subject).iterdir()) if folder.is_dir()]
    if not found:
        raise FileNotFoundError(f"no cases in {HERE / subject}")
    return found


def shown(octets: bytes) -> str:
    """Return content as an expected file writes it: CRLF as a line end, everything odd as \\xNN."""
    lines = octets.decode("utf-8", "backslashreplace").split("\r\n")
    return "\n".join("".join(c if c.isprintable() or c == "\t" else f"\\x{ord(c):02x}" for c in line) for line in lines)


def write_back(subject: str, produce: Callable[[Case], str]) -> None:
    """Write what the code says now into every ``expected``. Look at the difference before you commit it."""
    for case in cases(subject):
        (case.folder / "expected").write_text(produce(case))
        print(f"wrote {case.folder / 'expected'}")
