"""The effective settings and where each comes from: what `postroad config show` prints.

Owns: the rows, and the text made of them. Does not own: the reference page and the
sample file (reference.py), how a value is printed (toml.py). Keys that are not in this
version have no effect and no row. The text is TOML and gives the same settings when loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from postroad.config.errors import KeyPath, Place
from postroad.config.kinds import Table
from postroad.config.load import Loaded
from postroad.config.review import kind_of, mark, shape_of
from postroad.config.toml import simple, values_of, written, written_key

_Places = Mapping[KeyPath, Mapping[Place, None]]


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. ``places`` is empty for a default; ``table`` is the header it stands under, "" at the top."""

    path: KeyPath
    table: str
    value: Any  # text, number, truth, list or table
    places: tuple[Place, ...]

    @property
    def key(self) -> str:
        """Return the path as one word: "listener[0].address"."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{written_key(part)}" for part in self.path)
        return "".join(parts).removeprefix(".")

    @property
    def source(self) -> str:
        return ", ".join(map(str, self.places)) or "default"

    def to_dict(self) -> dict[str, Any]:
        """Return the row for `--json`; the names are stable."""
        sources = [{"file": str(place.file), "line": place.line} for place in self.places]
        return {"key": self.key, "value": self.value, "default": not self.places, "sources": sources}


def rows(loaded: Loaded) -> Iterator[Row]:
    """Yield every setting of this version, in the order of the file."""
    places: dict[KeyPath, dict[Place, None]] = {}
    for path, found in loaded.sources.items():
        for depth in range(1, len(path) + 1):  # an inline table is where its keys are
            places.setdefault(path[:depth], {}).update(dict.fromkeys(found))
    yield from _rows(places, loaded.settings, (), "")


def show(loaded: Loaded) -> str:
    """Return the effective settings as TOML, each line with its source."""
    files = ", ".join(map(str, loaded.files)) or "no file: the built-in sandbox"
    lines = [f"# Effective settings, from {files}."]
    section: KeyPath = ()
    for row in rows(loaded):
        if (head := row.path[:-1]) != section:
            lines += ["", row.table]
            section = head
        # What was included stands here already: as a comment it is not read twice.
        comment = "# " if row.path == ("include",) else ""
        lines.append(f"{comment}{written_key(str(row.path[-1]))} = {written(row.value)}  # {row.source}")
    return "\n".join(lines) + "\n"


def _rows(places: _Places, table: Table, path: KeyPath, header: str) -> Iterator[Row]:
    """Yield the settings of one table: its own keys first, then the tables in it, as TOML wants them."""
    inner: list[tuple[str, str, Any]] = []
    for key, field, value in values_of(table):
        if mark(field, "later"):
            continue
        shape = shape_of(field)
        if shape is not None and not _is_inline(path):
            inner.append((key, shape[0], value))
        elif (plain := simple(value, kind_of(field))) is not None:
            yield Row((*path, key), header, plain, tuple(places.get((*path, key), ())))
    for key, form, value in inner:
        yield from _inner_rows(places, form, value, (*path, key))


def _inner_rows(places: _Places, form: str, value: Any, path: KeyPath) -> Iterator[Row]:
    name = ".".join(written_key(part) for part in path if isinstance(part, str))
    match form:
        case "table":
            yield from _rows(places, value, path, f"[{name}]")
        case "tables":
            for index, entry in enumerate(value):
                yield from _rows(places, entry, (*path, index), f"[[{name}]]")
        case _:
            for key, entry in value.items():
                yield from _rows(places, entry, (*path, key), f"[{name}.{written_key(key)}]")


def _is_inline(path: KeyPath) -> bool:
    """True for tables within one of several, such as the retry of a route."""
    return any(isinstance(key, int) for key in path)
