"""On which line of a TOML text a key stands; tomllib does not say.

Owns: the lines. Does not own: the values (tomllib) or whether the text is valid:
it must have been parsed by tomllib before, so this scanner is free to be simple.
It must find exactly the keys that tomllib finds: tests/laws/test_config_locate.py.
"""

from __future__ import annotations

import re
import tomllib
from contextlib import suppress
from typing import Final

from postroad.config.errors import KeyPath

# What separates tokens, then the four kinds of string (the long ones first), then anything else in one piece.
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE: Final = re.compile(r"[ \t]*")
_STRING: Final = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""+|'
    r"'''(?:[^']|'(?!''))*'''+|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")


def locate(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) of every key and array element of a valid TOML text.

    A table that is only implied (``a`` in ``[a.b]``) stands where it is first named. Where a later TOML than
    ours is written, the lines end at what we cannot follow.
    """
    scanner = _Scanner(text)
    with suppress(_LostError):
        scanner.scan()
    return scanner.lines


class _LostError(Exception):
    """The text is not what we take it for."""


class _Scanner:
    """Walks the text once. ``_at`` is how far it has come."""

    def __init__(self, text: str) -> None:
        self._text = text.replace("\r\n", "\n")
        self._at = 0
        self.lines: dict[KeyPath, int] = {}
        self._counted_to = 0
        self._line = 1
        self._arrays: dict[KeyPath, int] = {}  # [[name]] -> tables so far

    def scan(self) -> None:
        table: KeyPath = ()
        while self._skip(_BLANK):
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> KeyPath:
        is_array = self._text.startswith("[[", self._at)
        line = self._line_here()
        self._at += 2 if is_array else 1
        keys = self._keys()
        self._at += 2 if is_array else 1
        path: KeyPath = ()
        for key in keys[:-1]:
            path = self._enter((*path, key), line)
        path = (*path, keys[-1])
        self.lines.setdefault(path, line)
        if not is_array:
            return path
        index = self._arrays.get(path, 0)
        self._arrays[path] = index + 1
        self.lines[(*path, index)] = line
        return (*path, index)

    def _enter(self, path: KeyPath, line: int) -> KeyPath:
        """Step into a table on the way to another; of an array of tables that is its last."""
        self.lines.setdefault(path, line)
        return (*path, self._arrays[path] - 1) if path in self._arrays else path

    def _pair(self, table: KeyPath) -> None:
        line = self._line_here()
        path = table
        for key in self._keys():
            path = (*path, key)
            self.lines.setdefault(path, line)
        self._at += 1  # the "="
        self._skip(_SPACE)
        self._value(path)

    def _keys(self) -> list[str]:
        """Read a dotted key, and the blanks on both sides of it."""
        keys = []
        while True:
            self._skip(_SPACE)
            if quoted := _STRING.match(self._text, self._at):
                keys.append(_unquoted(quoted[0]))
                self._at = quoted.end()
            elif bare := _BARE_KEY.match(self._text, self._at):
                keys.append(bare[0])
                self._at = bare.end()
            else:
                raise _LostError
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at : self._at + 1]:
            case "[":
                self._array(path)
            case "{":
                self._inline_table(path)
            case '"' | "'" if string := _STRING.match(self._text, self._at):
                self._at = string.end()
            case _ if scalar := _SCALAR.match(self._text, self._at):
                self._at = scalar.end()
            case _:
                raise _LostError

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._skip(_BLANK) and self._text[self._at] != "]":
            self.lines[(*path, index)] = self._line_here()
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            self._at += self._text.startswith(",", self._at)
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip(_BLANK) and self._text[self._at] != "}":
            self._pair(path)
            self._skip(_BLANK)
            self._at += self._text.startswith(",", self._at)
        self._at += 1

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        """Go past what matches here; False at the end of the text."""
        if found := pattern.match(self._text, self._at):
            self._at = found.end()
        return self._at < len(self._text)

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line


def _unquoted(text: str) -> str:
    """Return what a quoted key says, by asking tomllib."""
    (key,) = tomllib.loads(f"{text} = 0")
    return str(key)
