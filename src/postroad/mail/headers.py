"""Header fields of a message, found without touching an octet.

Owns: where the header ends, where a field lies, how often a field occurs, the text of
one field. Does not own: changing fields (submission.py, received.py), reading them at
dialogue speed (smtp).

This runs for every message: whole-buffer searches only. The patterns start with CRLF in plain,
so that ``re`` looks for that literal first; a field at offset 0 is asked for apart. Only CRLF ends a
line (RFC 5321 section 2.3.8): a bare CR or LF is part of its line. The cost is measured by
tests/units/test_mail_headers.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

HEADER_MAX: Final = 256 * 1024
"""Octets. What lies further on is never looked at as header: a bound on work and memory, several times what
real messages carry (Postfix stops at 100 KiB for one field)."""
FIELD_TEXT_MAX: Final = 998
"""Octets of one field's text that ``field_text`` gives: a line of RFC 5322 section 2.1.1."""

_END: Final = b"\r\n\r\n"
# The rest of a field: up to a CRLF that no white space follows (RFC 5322 section 2.2.3), or the end.
_REST: Final = rb"[ \t]*:[^\r]*(?:\r(?!\n(?![ \t]))[^\r]*)*"
_ANY: Final = re.compile(rb"(?:\A|\r\n)([!-9;-~]+)" + _REST)
_FOLD: Final = re.compile(rb"\r\n(?=[ \t])")


class Field(NamedTuple):
    """Where one header field lies: octets[start:end], the CRLF that ends it included if there is one."""

    name: bytes
    """As written."""
    start: int
    end: int


def find_header_end(octets: bytes, start: int = 0) -> int:
    """Return the offset just behind the blank line that ends the header, or -1 if it is not (yet) there.

    ``start``: an offset before which no blank line begins, for a caller whose buffer grew.
    """
    if octets.startswith(b"\r\n"):
        return 2
    found = octets.find(_END, start, HEADER_MAX)
    return found + 4 if found >= 0 else -1


def header_end(octets: bytes) -> int:
    """Return the offset just behind the header: its blank line, or without one the whole, at most HEADER_MAX."""
    found = find_header_end(octets)
    return found if found >= 0 else min(len(octets), HEADER_MAX)


def count_received(octets: bytes, end: int | None = None) -> int:
    """Return how many Received fields the header has: hops so far (RFC 5321 section 6.3)."""
    return count_fields(octets, b"received", end)


def count_fields(octets: bytes, name: bytes, end: int | None = None) -> int:
    """Return how many fields of that name the header has. ``end``: as of header_end, if known."""
    if end is None:
        end = header_end(octets)
    inner, first = _starts(name.lower())
    return len(inner.findall(octets, 0, end)) + (first.match(octets, 0, end) is not None)


def find_field(octets: bytes, name: bytes, end: int | None = None) -> Field | None:
    """Return the first field of that name (any case), or None."""
    if end is None:
        end = header_end(octets)
    inner, first = _whole(name.lower())
    if match := first.match(octets, 0, end):
        return _field(name, 0, match.end(), end)
    if match := inner.search(octets, 0, end):
        return _field(name, match.start() + 2, match.end(), end)
    return None


def find_fields(octets: bytes, name: bytes, end: int | None = None) -> list[Field]:
    """Return all fields of that name (any case), in order."""
    if end is None:
        end = header_end(octets)
    inner, first = _whole(name.lower())
    found = [_field(name, match.start() + 2, match.end(), end) for match in inner.finditer(octets, 0, end)]
    if match := first.match(octets, 0, end):
        found.insert(0, _field(name, 0, match.end(), end))
    return found


def iterate_fields(octets: bytes, end: int | None = None) -> Iterator[Field]:
    """Yield every field in order. Lines that are no field, nor belong to one, are passed over."""
    if end is None:
        end = header_end(octets)
    for match in _ANY.finditer(octets, 0, end):
        yield _field(match[1], match.start(1), match.end(), end)


def field_text(octets: bytes, field: Field) -> str:
    """Return what stands behind the colon, unfolded, without white space around it, at most FIELD_TEXT_MAX octets.

    UTF-8 (RFC 6532 section 3.2); octets that are not, and controls, become ``?``. Encoded words are left as they are.
    """
    colon = octets.index(b":", field.start, field.end) + 1
    raw = octets[colon : min(field.end, colon + 4 * FIELD_TEXT_MAX)]
    text = _FOLD.sub(b"", raw).strip(b" \t\r\n")[:FIELD_TEXT_MAX].decode("utf-8", "replace").replace("\ufffd", "?")
    return text if text.isprintable() else "".join(shown if shown.isprintable() else "?" for shown in text)


def message_id(octets: bytes, end: int | None = None) -> str:
    """Return the text of the Message-ID field, for people who search by it; empty if there is none."""
    field = find_field(octets, b"message-id", end)
    return field_text(octets, field) if field else ""


def _field(name: bytes, start: int, text_end: int, end: int) -> Field:
    # The CRLF belongs to the field; a field that the end of the content cuts off has none.
    return Field(name, start, min(text_end + 2, end))


@lru_cache(maxsize=64)  # names come from our code, not from outside
def _starts(name: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    plain = re.escape(name) + rb"[ \t]*:"
    return re.compile(rb"\r\n" + plain, re.IGNORECASE), re.compile(plain, re.IGNORECASE)


@lru_cache(maxsize=64)
def _whole(name: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    plain = re.escape(name) + _REST
    return re.compile(rb"\r\n" + plain, re.IGNORECASE), re.compile(plain, re.IGNORECASE)
