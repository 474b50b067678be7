"""The reference page and the sample file, both made of the lines of the model.

Owns: docs/reference/settings.md (`postroad config docs`) and the commented sample
configuration. Does not own: a word about any setting: that is its line in the model.
tests/units/test_config_reference.py fails when the page is not what this makes.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from postroad.config.kinds import LATER_BUT_DEFAULT, NotYet, OneOrMore, Table
from postroad.config.model import Settings
from postroad.config.review import NAMED, TABLE, TABLES, fields_of, kind_of, mark, shape_of
from postroad.config.toml import simple, values_of, written

LATER_TEXT: Final = "Not in this version."

_HEAD: Final = """\
# Settings

<!-- Made from the model in src/postroad/config by `postroad config docs`. Do not edit: change the model. -->

Every setting has a default, so that each section may be left out. Unknown keys are errors, and so are keys marked
"{later}" Durations are written "500ms", "30s", "5m", "4h", "5d"; sizes "512B", "64KiB", "10MiB", "1GiB"; rates
"20/s", "600/min", "1000/hour", "5000/day". Relative paths are relative to the file they stand in.
`postroad config show` prints what is in effect and where it comes from.

The file is `--config`, else `$POSTROAD_CONFIG`, else postroad.toml in the working directory, else
/etc/postroad/postroad.toml, else none: a sandbox that takes mail from this machine on 127.0.0.1:2525 and keeps
it in postroad-data.
"""

_SAMPLE_HEAD: Final = """\
# Postroad: a sample configuration. Each setting has its default here, so any line may go.
# A key right behind a "#" is an example. `postroad check` explains what is wrong.
"""


@dataclass(frozen=True, slots=True)
class _Section:
    """One table: its header, its model, and its line in the table around it (None: the top of the file)."""

    header: str
    model: type[Table]
    field: FieldInfo | None
    later: bool

    @property
    def summary(self) -> str:
        if self.field is not None and self.field.description:
            return self.field.description
        return (self.model.__doc__ or "").strip()


def reference() -> str:
    """Return the reference page, in Markdown."""
    lines = [_HEAD.format(later=LATER_TEXT)]
    for section in _sections(Settings, ""):
        lines += _section_lines(section)
    return "\n".join(lines)


def sample() -> str:
    """Return a configuration file with every setting of this version, which says what holds without it."""
    lines = [_SAMPLE_HEAD]
    for section in _sections(Settings, ""):
        if section.field is None:
            lines += _sample_keys(Settings())
        elif not section.later:
            lines += ["", *_comment(section.summary), *_sample_section(section.header, section.model, section.field)]
    return "\n".join(lines).strip() + "\n"


def _sections(model: type[Table], name: str, *, later: bool = False) -> Iterator[_Section]:
    """Yield each table in the order of the file, the top of the file first."""
    if not name:
        yield _Section("", model, None, later=False)
    for key, field in fields_of(model).items():
        if (shape := shape_of(field)) is None:
            continue
        inner = f"{name}.{key}".removeprefix(".")
        header = {TABLE: f"[{inner}]", TABLES: f"[[{inner}]]", NAMED: f"[{inner}.NAME]"}[shape[0]]
        is_later = later or bool(mark(field, "later"))
        yield _Section(header, shape[1], field, later=is_later)
        if shape[0] == TABLE:  # a table within one of several is written inline
            yield from _sections(shape[1], inner, later=is_later)


def _section_lines(section: _Section) -> list[str]:
    title = f"`{section.header}`" if section.header else "The top of the file"
    lines = [f"## {title}", "", section.summary, ""]
    if section.later:
        lines += [f"*{LATER_TEXT}*", ""]
    is_inline = section.header.startswith("[[") or section.header.endswith(".NAME]")
    keys = {key: field for key, field in fields_of(section.model).items() if is_inline or shape_of(field) is None}
    if keys:
        lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
        lines += [_reference_row(key, field) for key, field in keys.items()]
        lines.append("")
    return lines


def _reference_row(key: str, field: FieldInfo) -> str:
    meaning = field.description or ""
    later = mark(field, "later")
    if later:
        meaning += f" *{LATER_TEXT}*"
    if later == LATER_BUT_DEFAULT:
        meaning += " Its default may be written."
    for found in field.metadata:
        if isinstance(found, NotYet):
            meaning += f" *Not in this version: {', '.join(found.values)}.*"
    cells = (f"`{key}`", _value_text(field), _default_text(field), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _value_text(field: FieldInfo) -> str:
    """Say what may be written: the kind of value and its bounds."""
    text = _type_text(field.annotation, field)
    if OneOrMore in field.metadata:
        text = text.replace("list of", "one or a list of")
    kind, least, most = kind_of(field), mark(field, "least"), mark(field, "most")
    bounds = [
        f"{word} {_bound(kind.shown(bound) if kind else bound)}"
        for word, bound in (("from", least), ("to", most))
        if bound is not None
    ]
    return " ".join([text, *bounds])


def _bound(value: Any) -> str:
    return written(value) if isinstance(value, str) else str(value)


def _type_text(annotation: Any, field: FieldInfo) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is tuple:
        return f"list of {_type_text(arguments[0], field)}"
    if origin is Annotated:
        annotation, origin, arguments = arguments[0], get_origin(arguments[0]), get_args(arguments[0])
    if kind := kind_of(field):
        return kind.name
    literals = arguments if origin is Literal else ()
    for argument in arguments:
        literals = get_args(argument) if get_origin(argument) is Literal else literals
    if literals:
        return " ".join(f"`{written(value)}`" for value in literals)
    if annotation is bool:
        return "`true` `false`"
    if annotation is int:
        return str(mark(field, "unit") or "whole number")
    if annotation is str:
        return "text"
    return "table"


def _default_text(field: FieldInfo) -> str:
    if varies := mark(field, "varies"):
        return str(varies)
    if field.default is PydanticUndefined:
        return "must be given"
    value = simple(field.default, kind_of(field))
    return "" if value is None else f"`{written(value)}`"


def _sample_section(header: str, model: type[Table], field: FieldInfo) -> list[str]:
    """Write a table: its default, or for what may be there several times and by default is not, an example."""
    if header.startswith("[[") or header.endswith(".NAME]"):
        lines: list[str] = []
        for entry in field.default:
            lines += [header, *_sample_keys(entry)]
        return lines or [f"#{header.replace('NAME', 'provider-a')}", *_sample_example(model)]
    return [header, *_sample_keys(field.default)]


def _sample_keys(table: Table) -> list[str]:
    lines: list[str] = []
    for key, field, value in values_of(table):
        if mark(field, "later") or shape_of(field):
            continue
        plain = simple(value, kind_of(field))
        is_example = bool(mark(field, "varies")) or plain is None
        text = str(mark(field, "example")) if is_example else written(plain)
        lines += [*_comment(field.description or ""), f"{'#' if is_example else ''}{key} = {text}"]
    return lines


def _sample_example(model: type[Table]) -> list[str]:
    """Write what a table looks like that has no default: what must be given, and what has an example."""
    lines: list[str] = []
    for key, field in fields_of(model).items():
        example = mark(field, "example")
        if example and not mark(field, "later"):
            lines += [*_comment(field.description or ""), f"#{key} = {example}"]
    return lines


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, 110)]
