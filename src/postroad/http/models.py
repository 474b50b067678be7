"""The values of the control API as pydantic models, which FastAPI writes /openapi.json from and checks bodies with.

Owns: making a model of a struct, field by field, so that the document cannot say anything else than what is sent; the
envelopes that only the API has. Does not own: the fields (outbound/steering.py, outbound/relay.py, core/facts.py).
Answers are written by msgspec, not by these models: tests/units/test_http_openapi.py holds the two together.
"""

from __future__ import annotations

import inspect
from functools import cache, reduce
from operator import or_
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from pydantic import BaseModel, ConfigDict, Field, create_model

from postroad.access.user import UserRow
from postroad.core.facts import KINDS
from postroad.core.ids import MessageId, SessionId
from postroad.outbound.relay import AuditRow
from postroad.outbound.steering import MessageRow

ID_PATTERN: Final = "^[0-9a-hjkmnp-tv-z]{13}$"
"""Ids as they are sent: core/ids.py."""
UNSHOWN: Final = "credential"
"""The name of fields that no repr shows."""


class MessagePageBody(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of a listing, the oldest message first."""

    messages: tuple[MessageRow, ...]
    after: str
    """Give it to the next request; empty: this was the last page."""


class AuditPageBody(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of the audit, the newest row first."""

    rows: tuple[AuditRow, ...]
    after: str
    """Give it to the next request; empty: this was the last page."""


class UserPageBody(msgspec.Struct, frozen=True, kw_only=True):
    """A slice of the built-in users, by name."""

    rows: tuple[UserRow, ...]
    after: str
    """Give it to the next request; empty: this was the last page."""


class EndedBody(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there was something to end."""

    ended: bool


class ErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """Why it was not done, in a sentence."""

    error: str
    status: int
    """The status of HTTP."""


@cache
def model_of(kind: type[msgspec.Struct], *, is_request: bool = False) -> type[BaseModel]:
    """Return the model of a struct. That of a request refuses unknown fields."""
    hints = get_type_hints(kind)
    fields: dict[str, Any] = {}
    config = kind.__struct_config__
    if config.tag is not None:
        fields[str(config.tag_field)] = (Literal[config.tag], ...)
    for field in msgspec.structs.fields(kind):
        if field.default is not msgspec.NODEFAULT:
            default = list(field.default) if isinstance(field.default, tuple) else field.default
        else:
            default = ... if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        shown = Field(default, repr=field.name != UNSHOWN)
        fields[field.name] = (_converted(hints[field.name], is_request=is_request), shown)
    forbid = ConfigDict(extra="forbid" if is_request else "ignore", title=kind.__name__)
    return create_model(kind.__name__, __config__=forbid, __doc__=inspect.getdoc(kind), **fields)


def list_of(kind: type[msgspec.Struct]) -> Any:
    """Return the model of a list of structs."""
    return list[model_of(kind)]  # type: ignore[misc]


def _converted(hint: Any, *, is_request: bool) -> Any:
    """Return the type that a field's type becomes in a model."""
    if hint in (MessageId, SessionId):
        return Annotated[str, Field(pattern=ID_PATTERN)]
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        if hint.__struct_config__.array_like:
            hints = get_type_hints(hint)
            return tuple[tuple(_converted(hints[name], is_request=False) for name in hint.__struct_fields__)]  # type: ignore[misc]
        return model_of(hint, is_request=is_request)
    arguments = get_args(hint)
    origin = get_origin(hint)
    if origin in (Union, UnionType):
        parts = (NoneType if one is NoneType else _converted(one, is_request=is_request) for one in arguments)
        return reduce(or_, parts)
    if origin is tuple and len(arguments) == 2 and arguments[1] is ...:
        return list[_converted(arguments[0], is_request=is_request)]  # type: ignore[misc]
    if origin is tuple:
        return tuple[tuple(_converted(one, is_request=is_request) for one in arguments)]  # type: ignore[misc]
    return hint


FactModel: Final = Annotated[
    reduce(or_, (model_of(kind) for kind in KINDS)),
    Field(discriminator="kind"),
]
"""Any fact, as one line of a stream."""
