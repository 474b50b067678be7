"""JSON that steers no terminal: what is not printable stands in it as an escape.

Owns: that form. Does not own: what is written. Readers of JSON get the same text; a person who looks at the octets does
not have his screen turned around by what strangers sent (C1 controls, marks of direction). Pure.
"""

from __future__ import annotations

import json


def printable_json(octets: bytes) -> bytes:
    """Return the same JSON, written without spaces, with every character that is not printable as an escape."""
    if octets.isascii() and b"\x7f" not in octets:
        return octets
    text = octets.decode()
    if text.isprintable():
        return octets
    return "".join(one if one.isprintable() else _escaped(one) for one in text).encode()


def _escaped(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"
