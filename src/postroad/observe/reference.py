"""The reference page of facts, made of their definitions and of the table of kinds.

Owns: docs/reference/facts.md (``python -m postroad.observe.reference`` prints it). Does not own: a word about any fact:
that stands with it in core/facts.py, or in kinds.py. tests/structure/test_facts.py fails when the page is not what this
makes.
"""

from __future__ import annotations

import ast
import inspect
import sys
from typing import Any, Final

import msgspec

from postroad.core import facts
from postroad.observe.kinds import KINDS, Count, Kind

_HEAD: Final = """\
# Facts

<!-- Made of src/postroad/core/facts.py and src/postroad/observe/kinds.py by `python -m postroad.observe.reference`. Do
not edit: change those. -->

Whatever the relay does leaves a fact: one value of one of these kinds. The log line, the stored fact that
`postroad trace` reads, the metric and the event of the control API are made of the same value.

Each kind has the field `at`: seconds since 1970-01-01 UTC. In the log it is `time`, fields that are empty are left out,
ids are their 13 characters and replies one line. Kinds and fields are never renamed, only added to. Metrics have the
prefix `postroad_`; a label in *italics* holds at most 100 values, then `other`; `destination` is the name of a
destination that the configuration names, else `other`.
"""
_PLAIN: Final = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def reference() -> str:
    """Return the page, in Markdown."""
    meanings = _meanings()
    parts = [_HEAD]
    for type_ in facts.KINDS:
        parts.append(_section(type_, KINDS[type_], meanings))
    return "\n".join(parts)


def _section(type_: type[facts.Fact], kind: Kind, meanings: dict[str, dict[str, str]]) -> str:
    tag = type_.__struct_config__.tag
    level = kind.level.name.lower() + (" (depends on what happened)" if kind.level_of else "")
    lines = [f"## `{tag}`", ""]
    if type_.__doc__:
        lines += [" ".join(type_.__doc__.split()), ""]
    lines += [f"Level {level}; {'stored' if kind.is_stored else 'not stored'}.", ""]
    fields = [field for field in msgspec.structs.fields(type_) if field.name != "at"]
    if fields:
        lines += ["| field | value | meaning |", "|---|---|---|"]
        for field in fields:
            meaning = next((of[field.name] for of in _of_bases(type_, meanings) if field.name in of), "")
            lines.append(f"| `{field.name}` | {_type_text(field.type)} | {meaning.replace('|', chr(92) + '|')} |")
        lines.append("")
    if kind.counts:
        lines += ["| metric | labels | meaning |", "|---|---|---|"]
        lines += [_count_row(count) for count in kind.counts]
        lines.append("")
    return "\n".join(lines)


def _count_row(count: Count) -> str:
    labels = ", ".join(f"*{label.name}*" if label.is_open else label.name for label in count.labels)
    more = " A histogram." if count.buckets else ""
    return f"| `{count.name}` | {labels} | {count.meaning}{more} |"


def _of_bases(type_: type, meanings: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    return [meanings.get(base.__name__, {}) for base in type_.__mro__]


def _type_text(annotation: Any) -> str:
    parts = [part for part in getattr(annotation, "__args__", ()) if part not in (type(None), Ellipsis)]
    if getattr(annotation, "__origin__", None) is tuple:
        return f"list of {_type_text(parts[0])}"
    if parts:
        return " or ".join(_type_text(part) for part in parts) + ", or nothing"
    name = getattr(annotation, "__name__", str(annotation))
    return _PLAIN.get(annotation, {"MessageId": "id", "SessionId": "id", "Said": "lines said"}.get(name, name.lower()))


def _meanings() -> dict[str, dict[str, str]]:
    """Return class -> field -> the text below the field, in core/facts.py."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(inspect.getsource(facts)).body:
        if isinstance(node, ast.ClassDef):
            mine = found[node.name] = {}
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    mine[ast.unparse(field.target)] = " ".join(str(ast.literal_eval(text.value)).split())
    return found


if __name__ == "__main__":
    sys.stdout.write(reference())
