"""A fact becomes one log line: logfmt or JSON.

Owns: the order and form of fields, quoting. Does not own: where lines go (writer.py), levels (kinds.py), which fields
there are (core/facts.py; a new kind of fact is written without a change here).

What stands in a fact may come from a stranger: nothing in a line can break out of its value, end the line or steer a
terminal, and no line is longer than LINE_MAX. About 4 us per line: one plan per kind of fact, made once.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Final, Literal, cast

import msgspec
from msgspec.structs import astuple

from postroad.core import facts
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId, SessionId, format_id
from postroad.core.reply import Reply
from postroad.observe.kinds import KINDS
from postroad.observe.kinds import Level as Level
from postroad.observe.kinds import level_of as level_of

VALUE_MAX: Final = 1000
"""Characters of one value; what is longer is cut and ends in ``...``. Addresses have at most 320."""
ITEMS_MAX: Final = 20
"""Items of a list, such as recipients, that are written; then how many more there are."""
LINE_MAX: Final = 4095
"""Octets of a line. With its end PIPE_BUF: one write of it to a pipe is never mixed with another's (pipe(7))."""

Format = Literal["logfmt", "json"]


_TIMES: Final = frozenset({"retry_at"})
"""Fields that hold a time of the day, as ``at`` does."""
_is_plain: Final = re.compile(rf"[!#-<>-\[\]-~]{{1,{VALUE_MAX}}}").fullmatch
"""Printable ASCII but space, quotation mark, equals sign and backslash: what stands in logfmt without quotes."""

_Show = Callable[[object], str]


class LogLines:
    """Writes facts of at least ``level`` as lines without their ends."""

    def __init__(self, form: Format = "logfmt", level: Level = Level.INFO) -> None:
        self.level = level
        self._write = _logfmt if form == "logfmt" else _json
        self._plans: dict[type, _Plan] = {}

    def line(self, fact: AnyFact) -> bytes | None:
        """Return the line, or None where the fact is below the level."""
        kind = type(fact)
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._plans[kind] = _Plan(kind)
        level = plan.level
        if level < self.level and not plan.may_rise:
            return None
        if plan.may_rise and (level := level_of(fact)) < self.level:
            return None
        return self._write(plan, level, fact)


def format_time(at: float) -> str:
    """Return seconds since the epoch as ISO 8601 UTC with milliseconds."""
    global _second, _second_text
    second = int(at // 1)
    if second != _second:
        _second, _second_text = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{_second_text}.{int((at - second) * 1000):03d}Z"


_second = -1
_second_text = ""


class _Plan:
    """How one kind of fact is written: a label and a form for each field after ``at``, in the order of definition."""

    __slots__ = ("fields", "kind", "level", "may_rise")

    def __init__(self, kind: type) -> None:
        config = cast(msgspec.structs.StructConfig, kind.__struct_config__)  # type: ignore[attr-defined]
        self.kind = str(config.tag)
        self.level = KINDS[kind].level
        self.may_rise = KINDS[kind].level_of is not None
        self.fields = tuple(
            (None if field.name == "at" else field.name, f" {field.name}=", _shower(field))
            for field in msgspec.structs.fields(kind)
        )


def _logfmt(plan: _Plan, level: Level, fact: AnyFact) -> bytes:
    parts = [f"time={format_time(fact.at)} level={_LEVEL_NAMES[level]} kind={plan.kind}"]
    for (name, label, show), value in zip(plan.fields, astuple(fact), strict=True):
        if name is not None and (value or type(value) in _COUNTS):
            parts.append(label)
            text = show(value)
            parts.append(text if _is_plain(text) else _quoted(text))
    line = "".join(parts).encode()
    return line if len(line) <= LINE_MAX else _cut(line)


def _json(plan: _Plan, level: Level, fact: AnyFact) -> bytes:
    row: dict[str, object] = {"time": format_time(fact.at), "level": _LEVEL_NAMES[level], "kind": plan.kind}
    for (name, _, show), value in zip(plan.fields, astuple(fact), strict=True):
        if name is not None and (value or type(value) in _COUNTS):
            if show is _show_seconds:
                row[name] = round(value, 3)
            elif show is _show_plain and type(value) in _NUMBERS:
                row[name] = value
            elif type(value) is tuple:
                row[name] = _items(value)
            else:
                row[name] = _clipped(show(value))
    line = _encode_json(row).encode()
    for most in _SHORTER:  # keys stay, the longest values go: a line is a whole object or of no use
        if len(line) <= LINE_MAX:
            break
        line = _encode_json({name: _short(value, most) for name, value in row.items()}).encode()
    return line


_COUNTS: Final = (int, float)
"""Of what is empty only a count of nothing is written; a field that does not apply is left out."""
_NUMBERS: Final = (int, float, bool)
_SHORTER: Final = (120, 40, 10)
"""Characters of a value where the line is too long: in JSON a character may take twelve octets."""
_LEVEL_NAMES: Final = tuple(level.name.lower() for level in Level)
_encode_json: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":")).encode


def _shower(field: msgspec.structs.FieldInfo) -> _Show:
    if field.name in _TIMES:
        return cast(_Show, format_time)
    if _mentions(field.type, MessageId, SessionId):
        return cast(_Show, format_id)
    if _mentions(field.type, Reply):
        return str
    if field.type is float:
        return cast(_Show, _show_seconds)
    if getattr(field.type, "__origin__", None) is tuple:
        return cast(_Show, _show_items)
    return _show_plain


def _mentions(annotation: object, *wanted: object) -> bool:
    """True if the annotation is one of ``wanted``, or a union with one."""
    return annotation in wanted or any(part in wanted for part in getattr(annotation, "__args__", ()))


def _show_plain(value: object) -> str:
    if value is True:
        return "true"
    return value if type(value) is str else str(value)


def _show_seconds(value: float) -> str:
    return f"{value:.3f}"


def _show_items(items: tuple[str, ...]) -> str:
    return ",".join(_items(items))


def _items(items: tuple[object, ...]) -> list[str]:
    shown = [_clipped(_said(item) if isinstance(item, facts.Said) else str(item), 320) for item in items[:ITEMS_MAX]]
    if len(items) > ITEMS_MAX:
        shown.append(f"+{len(items) - ITEMS_MAX}")
    return shown


def _said(said: facts.Said) -> str:
    return f"{'>' if said.by_us else '<'} {said.text}"


def _quoted(text: str) -> str:
    text = printable(_clipped(text).replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{text}"'


def printable(text: str) -> str:
    """Return text with what cannot be shown (controls, line ends, marks that turn the direction of writing, half
    surrogates) written as escapes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def _clipped(text: str, most: int = VALUE_MAX) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _short(value: object, most: int) -> object:
    if isinstance(value, str):
        return _clipped(value, most)
    return [_clipped(str(item), most) for item in value[:5]] if isinstance(value, list) else value


def _cut(line: bytes) -> bytes:
    # Cut within a quoted value perhaps: the quotation mark at the end closes it, so that the line still reads.
    return line[: LINE_MAX - 4].decode(errors="ignore").rstrip("\\").encode() + b'..."'
