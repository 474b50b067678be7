"""Values as TOML writes them, the way back from a setting to its line in a file.

Owns: printing one value of the model. Does not own: which values (explain.py,
reference.py). What is printed here parses back to the same value: tests/units/test_config_explain.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic.fields import FieldInfo

from postroad.config.kinds import Kind, Table
from postroad.config.review import fields_of, kind_of


def values_of(table: Table) -> Iterator[tuple[str, FieldInfo, Any]]:
    """Yield key, line of the model and value of each setting of a table."""
    names = type(table).model_fields
    for name, (key, field) in zip(names, fields_of(type(table)).items(), strict=True):
        yield key, field, getattr(table, name)


def simple(value: Any, kind: Kind | None) -> Any:
    """Return the value as JSON and TOML know it: text, number, truth, list or table. None: it cannot be written."""
    if isinstance(value, Table):
        pairs = ((key, simple(inner, kind_of(field))) for key, field, inner in values_of(value))
        return {key: inner for key, inner in pairs if inner is not None}
    if isinstance(value, tuple):
        return [simple(inner, kind) for inner in value]
    if isinstance(value, Mapping):
        return {key: simple(inner, kind) for key, inner in value.items()}
    if kind is None or (value is None and kind.is_number):
        return value
    return kind.shown(value)


def written(value: Any) -> str:
    """Return what `simple` returned as TOML on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON escapes what TOML wants escaped, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, dict):
        pairs = [f"{written_key(key)} = {written(inner)}" for key, inner in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return str(value)


def written_key(key: str) -> str:
    """Return the key, quoted where TOML needs it."""
    return key if key.isascii() and key.replace("-", "").replace("_", "").isalnum() else written(key)
