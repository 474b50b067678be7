"""What is wrong with a configuration, said so that it can be mended in one go.

Owns: the shape of a problem (file, line, key, what is wrong and what would be
right) and how it is printed. Does not own: finding problems (config/load.py,
config/tree.py) or their wording (the parsers, config/wording.py).
The exact texts stand in tests/cases/config.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KeyPath = tuple[str | int, ...]
"""Where a value stands in the tree of TOML: keys of tables and indexes of arrays."""

QUOTED_MAX: Final = 400
"""Characters of a text or key; the middle of what is longer is left out."""


@dataclass(frozen=True, slots=True)
class Place:
    """A line of a file. ``line`` is None when the whole file is meant."""

    file: Path
    line: int | None = None

    def __str__(self) -> str:
        return str(self.file) if self.line is None else f"{self.file}:{self.line}"


class SettingError(ValueError):
    """One thing that is wrong.

    ``key`` is written as in the file ("[limits] errors"), empty when no key is at
    fault. ``text`` is one or more sentences: what is wrong, then what would be right.
    ``place`` is None for what no file says. What is not printable is escaped: the texts quote files.
    """

    def __init__(self, text: str, key: str = "", place: Place | None = None) -> None:
        super().__init__(text, key, place)
        self.text = _printable(text)
        self.key = _printable(key)
        self.place = place

    @property
    def file(self) -> Path | None:
        return self.place.file if self.place else None

    @property
    def line(self) -> int | None:
        return self.place.line if self.place else None

    def __str__(self) -> str:
        key = "" if self.text.startswith(self.key) else self.key
        return ": ".join(part for part in (str(self.place or ""), key, self.text) if part)


class SettingsError(ValueError):
    """Everything that is wrong, in the order of the files and lines. Never empty."""

    def __init__(self, problems: Sequence[SettingError]) -> None:
        super().__init__(tuple(problems))
        self.problems: tuple[SettingError, ...] = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


def _printable(text: str) -> str:
    """Return the text safe for a terminal and short enough for a log: what it quotes may be of any length."""
    if len(text) > QUOTED_MAX:
        text = f"{text[: QUOTED_MAX // 2]}...{text[-QUOTED_MAX // 4 :]}"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
