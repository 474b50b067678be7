"""Facts as the control API writes them: a JSON object a line, ids as people write them. Pure.

Owns: that form, both ways. Does not own: the facts (core/facts.py: never renamed), how they are logged or stored.
Ids are text because numbers of 63 bits lose their last digits in most readers of JSON.
"""

from __future__ import annotations

from typing import Any, Final, get_args, get_type_hints

import msgspec

from postroad.core.facts import KINDS, AnyFact
from postroad.core.ids import MessageId, SessionId, format_id, parse_id
from postroad.core.json_text import printable_json


def _id_fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return tuple(name for name, hint in get_type_hints(kind).items() if _is_id(hint))


def _is_id(hint: Any) -> bool:
    return bool({hint, *get_args(hint)} & {MessageId, SessionId})


_ID_FIELDS: Final = {str(kind.__struct_config__.tag): _id_fields(kind) for kind in KINDS}
_encode: Final = msgspec.json.Encoder().encode


def fact_line(fact: AnyFact) -> bytes:
    """Return the line, with its end."""
    row = msgspec.to_builtins(fact)
    for name in _ID_FIELDS[row["kind"]]:
        if row.get(name) is not None:
            row[name] = format_id(row[name])
    return printable_json(_encode(row)) + b"\n"


def parse_fact(row: dict[str, Any]) -> AnyFact:
    """Return the fact of a line.

    Raises:
        ValueError: it is none.
    """
    kind = row.get("kind")
    for name in _ID_FIELDS.get(kind, ()) if isinstance(kind, str) else ():
        if row.get(name) is not None:
            row[name] = parse_id(str(row[name]))
    try:
        return msgspec.convert(row, AnyFact)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
