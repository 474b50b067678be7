"""Content on its way out by DATA: the transparency of RFC 5321 section 4.5.2, on whole buffers.

Owns: the extra dots and the end of data. Does not own: undoing them (data.py), where content
comes from. Everything else goes byte for byte: content is never looked at line by line.
"""

from __future__ import annotations

from typing import Final

END: Final = b".\r\n"
"""After content that ends with CRLF."""
CRLF_END: Final = b"\r\n.\r\n"
"""After content that does not: RFC 5321 section 4.1.1.4 wants its last line to end."""


def stuff_whole(content: bytes) -> bytes:
    """Return a whole content as it travels, with the end of data, ready for one write."""
    if b"\r\n." in content:
        content = content.replace(b"\r\n.", b"\r\n..")
    end = END if content.endswith(b"\r\n") or not content else CRLF_END
    return b"".join((b".", content, end)) if content.startswith(b".") else content + end


class Stuffer:
    """The same for content that comes in pieces, cut anywhere."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last = b"\r\n"  # the last two octets so far: content begins at the start of a line

    def stuff(self, piece: bytes) -> bytes:
        """Return the piece as it travels."""
        joined = self._last + piece
        self._last = joined[-2:]
        if b"\r\n." not in joined:
            return piece
        return joined.replace(b"\r\n.", b"\r\n..")[2:]

    def end(self) -> bytes:
        """Return what ends the data."""
        return END if self._last == b"\r\n" else CRLF_END
