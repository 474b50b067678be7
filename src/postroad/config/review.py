"""Do the keys of the tree exist, are they in this version, and is a table where one belongs?

Owns: refusing unknown keys (naming the nearest known one), refusing by name what is
not built yet, taking relative paths from the folder of their file. Does not own: whether
a value is right (the model). What is refused here is marked gone, so that the rest can be checked too.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from postroad.config.errors import KeyPath, SettingError
from postroad.config.kinds import LATER_BUT_DEFAULT, Kind, Table
from postroad.config.model import Settings
from postroad.config.tree import Node, label, plain

TABLE: Final = "table"
TABLES: Final = "tables"
NAMED: Final = "named tables"


@cache
def fields_of(model: type[Table]) -> Mapping[str, FieldInfo]:
    """Return the keys of a table as the file writes them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def mark(field: FieldInfo, name: str) -> Any:
    """Return what `setting()` noted of the field: unit, later, example, least or most."""
    extra = field.json_schema_extra
    return extra[name] if isinstance(extra, dict) else None


def shape_of(field: FieldInfo) -> tuple[str, type[Table]] | None:
    """Return which form of table belongs there and of which model; None for a plain value."""
    return _shape(field.annotation)


def _shape(annotation: Any) -> tuple[str, type[Table]] | None:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return TABLE, annotation
    if origin in (Union, types.UnionType):
        return next(filter(None, map(_shape, arguments)), None)
    if origin is tuple and (inner := _shape(arguments[0])):
        return TABLES, inner[1]
    if origin is Mapping and (inner := _shape(arguments[1])):
        return NAMED, inner[1]
    return None


def kind_of(field: FieldInfo) -> Kind | None:
    """Return the kind of a value that is written as text, also inside of a list."""
    return next((found for found in field.metadata if isinstance(found, Kind)), None) or _kind(field.annotation)


def _kind(annotation: Any) -> Kind | None:
    for found in getattr(annotation, "__metadata__", ()):
        if isinstance(found, Kind):
            return found
    return next(filter(None, map(_kind, get_args(annotation))), None)


def review(root: Node, base: Path) -> list[tuple[KeyPath, SettingError]]:
    """Mark as gone what cannot stay, and return where and why. ``base`` is the folder of what no file says."""
    reviewer = _Reviewer(base)
    reviewer.table(root, Settings, ())
    return reviewer.problems


class _Reviewer:
    def __init__(self, base: Path) -> None:
        self.problems: list[tuple[KeyPath, SettingError]] = []
        self._base = base

    def table(self, node: Node, model: type[Table], path: KeyPath) -> None:
        known = fields_of(model)
        for key, child in node.value.items():
            here = (*path, key)
            field = known.get(key)
            if field is None:
                self._refuse(child, here, _unknown_key(key, model, path))
                node.faulty = True
            elif (later := mark(field, "later")) and not (later == LATER_BUT_DEFAULT and _is_default(child, field)):
                name = label(here, _as_table(child, field))
                self._refuse(child, here, f"{name} is not in this version.", key="")
            else:
                self._value(child, field, here)

    def _value(self, node: Node, field: FieldInfo, path: KeyPath) -> None:
        name = ".".join(str(key) for key in path if isinstance(key, str))
        match shape_of(field):
            case None:
                self._anchor(node, kind_of(field))
            case ("table", model):
                if isinstance(node.value, dict):
                    self.table(node, model, path)
                elif any(isinstance(key, int) for key in path):
                    self._refuse(node, path, f"It is a table. Write {path[-1]} = {{ ... }}.")
                else:
                    self._refuse(node, path, f"It is one table. Write [{name}] above its keys.")
            case ("tables", model):
                if not isinstance(node.value, list) or any(not isinstance(child.value, dict) for child in node.value):
                    self._refuse(node, path, f"There may be several. Write [[{name}]] above the keys of each.")
                    return
                for index, child in enumerate(node.value):
                    self.table(child, model, (*path, index))
            case (_, model):
                self._named(node, model, path, name)

    def _named(self, node: Node, model: type[Table], path: KeyPath, name: str) -> None:
        if not isinstance(node.value, dict):
            self._refuse(node, path, f"It has a name of its own. Write [{name}.NAME] above its keys.")
            return
        for key, child in node.value.items():
            if isinstance(child.value, dict):
                self.table(child, model, (*path, key))
            else:
                self._refuse(child, (*path, key), f"It has a name of its own. Write [{name}.NAME] above its keys.")

    def _anchor(self, node: Node, kind: Kind | None) -> None:
        if kind is None or kind.anchor is None:
            return
        for leaf in node.value if isinstance(node.value, list) else [node]:
            if isinstance(leaf.value, str):
                leaf.value = kind.anchor(leaf.value, leaf.place.file.parent if leaf.place else self._base)

    def _refuse(self, node: Node, path: KeyPath, text: str, *, key: str | None = None) -> None:
        node.gone = True
        problem = SettingError(text, key=label(path, node) if key is None else key, place=node.place)
        self.problems.append((path, problem))


def _is_default(node: Node, field: FieldInfo) -> bool:
    return bool(plain(node) == field.default)


def _as_table(node: Node, field: FieldInfo) -> Node:
    """Return a node of the form that the model has, so that the label reads as in the contract."""
    match shape_of(field):
        case ("tables", _):
            return Node([Node({})])
        case (_, _):
            return Node({})
    return node


@cache
def _homes() -> Mapping[str, tuple[str, ...]]:
    """Return in which tables (dotted names; "" for the top) each key of the contract stands."""
    homes: dict[str, list[str]] = {}

    def visit(model: type[Table], name: str) -> None:
        for key, field in fields_of(model).items():
            shape = shape_of(field)
            if shape is None:
                homes.setdefault(key, []).append(name)
            elif key not in ("retry", "when", "srs") or not name:
                inner = f"{name}.{key}".strip(".")
                visit(shape[1], {TABLE: f"[{inner}]", TABLES: f"[[{inner}]]", NAMED: f"[{inner}.NAME]"}[shape[0]])

    visit(Settings, "")
    return {key: tuple(names) for key, names in homes.items()}


def _unknown_key(key: str, model: type[Table], path: KeyPath) -> str:
    known = fields_of(model)
    if near := difflib.get_close_matches(key, known, n=1, cutoff=0.7):
        return f"There is no such key. Did you mean {near[0]}?"
    homes = _homes().get(key, ())
    if homes == ("",):
        return "There is no such key here. It belongs at the top of the file, above the first [table]."
    if len(homes) == 1:
        return f"There is no such key here. It belongs in {homes[0]}."
    if not path:
        return "There is nothing of that name."
    return f"There is no such key. There are {', '.join(sorted(known))}."
