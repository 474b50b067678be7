"""What the validation library finds, in our words: sentences that say what would be right.

Owns: the text for each kind of error a value of the wrong type or size can have.
Does not own: texts of our own parsers and checks, which pass through as they are.
"""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from postroad.config.errors import KeyPath
from postroad.config.model import Settings
from postroad.config.review import fields_of, kind_of, mark, shape_of

_TYPES = {
    "int_type": "a whole number without quotes",
    "float_type": "a number",
    "bool_type": "true or false, without quotes",
    "string_type": "text in quotes",
    "tuple_type": 'a list, such as ["..."]',
    "mapping_type": "a table",
    "dict_type": "a table",
    "model_type": "a table",
}


def sentence(error: ErrorDetails) -> str:
    """Return what is wrong and what would be right."""
    context: dict[str, Any] = error.get("ctx", {})
    match kind := error["type"]:
        case "value_error":
            return str(context["error"])
        case "missing":
            return f"{error['loc'][-1]} is missing."
        case "literal_error":
            return f"{shown(error['input'])} is not known here. Write {_choice(context['expected'])}."
        case "greater_than_equal":
            return f"{_amount(error, error['input'])} is too little. The least is {_bound(error, 'ge')}."
        case "less_than_equal":
            return f"{_amount(error, error['input'])} is too much. The most is {_bound(error, 'le')}."
        case _ if kind in _TYPES:
            return f"{shown(error['input'])} is not {_TYPES[kind]}."
    return f"{error['msg']}."


def shown(value: object) -> str:
    """Return a value as TOML would write it, cut short."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value[:60]}"'
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, tuple):
        return "a list"
    return str(value)[:60]


def field_at(path: KeyPath) -> FieldInfo | None:
    """Return the line of the model that a key path leads to."""
    model, field, named = Settings, None, False
    for key in path:
        if named or isinstance(key, int):
            named = False
            continue
        field = fields_of(model).get(key)
        if field is None:
            return None
        shape = shape_of(field)
        if shape is not None:
            named, model = shape[0] == "named tables", shape[1]  # type: ignore[assignment]
    return field


def _bound(error: ErrorDetails, name: str) -> str:
    field, bound = field_at(error["loc"]), error["ctx"][name]
    unit = mark(field, "unit") if field and bound != 1 else ""
    return f"{_amount(error, bound)} {unit}".rstrip()


def _amount(error: ErrorDetails, amount: Any) -> str:
    """Return a number in the way the setting is written."""
    if isinstance(amount, str):
        return shown(amount)
    field = field_at(error["loc"])
    kind = kind_of(field) if field else None
    return f'"{kind.shown(amount)}"' if kind is not None and kind.is_number else str(amount)


def _choice(expected: str) -> str:
    return expected.replace("'", '"')
