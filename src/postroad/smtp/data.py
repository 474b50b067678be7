"""From the octets after 354 to message content, RFC 5321 section 4.5.2.

Owns: transparency (dot-stuffing), the final dot, the law of line ends for all content, the
size limit. Does not own: BDAT (chunk.py), commands (lines.py). No I/O.

Hot path: every octet of every message goes through here, so only whole buffers are looked at,
by bytes.find, count and replace. bench/engine.py measures it.
"""

from __future__ import annotations

import re
from typing import Final

from postroad.core import reply
from postroad.smtp.errors import DriverError, PeerError

_FINAL_DOT: Final = b"\r\n.\r\n"
# What may stand at the end of a buffer and mean something only together with what follows.
_TAILS: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_LOOSE_TAILS: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\n.\r", b"\r.\r", b"\n.", b"\r.", b"\n", b"\r")
_NOT_LINE_ENDS: Final = bytes(octet for octet in range(256) if octet not in b"\r\n")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
# A dot alone on its line stays: with CRLF on both sides it would have been the final dot. At the end of a buffer
# it is alone too, for what was held back begins with a line end.
_STUFFED: Final = re.compile(rb"\r\n\.(?!\r\n|\Z)")


class DataReader:
    """Content of one DATA command.

    Only <CRLF>.<CRLF> ends it (RFC 5321 section 4.1.1.4), the first CRLF being perhaps that of DATA.
    A bare CR or LF is refused (section 2.3.8): a server that takes one as a line
    end lets a second message be smuggled inside the first. With ``normalize`` each is made a CRLF
    instead, and starts a line as far as dot-stuffing is concerned; but a dot alone on a line with such an end is
    content, never the end of it. NUL, octets above 127 and lines of any length are carried.

    Past ``size_max`` octets content is dropped, but reading goes on to the final dot: to
    stop early would run the rest of the message as commands.
    """

    __slots__ = ("_begun", "_held", "_normalize", "_size_max", "is_done", "rest", "size")

    def __init__(self, size_max: int, *, normalize: bool = False) -> None:
        self._size_max = size_max
        self._normalize = normalize
        self._held = b"\r\n"  # at most 4 octets; first the CRLF of the command, which begins the first line
        self._begun = False
        self.size = 0
        self.is_done = False
        self.rest = b""
        """After the final dot: what followed it, pipelined commands."""

    @property
    def is_too_big(self) -> bool:
        return self.size > self._size_max

    def feed(self, octets: bytes) -> bytes:
        """Take more octets, return the content they complete.

        Raises:
            PeerError: a bare CR or LF.
            DriverError: fed after the final dot.
        """
        if self.is_done:
            raise DriverError("data fed after the final dot")
        work = self._held + octets
        # One search finds both the final dot and stuffed ones; most messages have no stuffed dot at all.
        end = work.find(b"\r\n.")
        is_stuffed = end >= 0 and not work.startswith(_FINAL_DOT, end)
        if is_stuffed:
            end = work.find(_FINAL_DOT, end + 3)
        if end >= 0:
            self.is_done = True
            raw, self.rest = work[: end + 2], work[end + 5 :]
        else:
            held = _tail(work, _LOOSE_TAILS if self._normalize else _TAILS)
            raw, self._held = work[: len(work) - held], work[len(work) - held :]
        return self._clean(raw, is_stuffed) if raw else b""

    def _clean(self, raw: bytes, is_stuffed: bool) -> bytes:
        if has_bare_newline(raw):
            if not self._normalize:
                raise PeerError(reply.BARE_NEWLINE)
            raw, is_stuffed = normalized(raw), True
        if is_stuffed:
            raw = _STUFFED.sub(b"\r\n", raw) if self._normalize else raw.replace(b"\r\n.", b"\r\n")
        if not self._begun:
            self._begun = True
            raw = raw[2:]
        before = self.size
        self.size += len(raw)
        return kept(raw, before, self._size_max)


def has_bare_newline(octets: bytes) -> bool:
    """True if a CR is not followed by an LF, or an LF not preceded by a CR: if not all of them stand in pairs."""
    return 2 * octets.count(b"\r\n") != len(octets.translate(None, _NOT_LINE_ENDS))


def normalized(octets: bytes) -> bytes:
    """Return ``octets`` with each bare CR and each bare LF made a CRLF."""
    return _LINE_END.sub(b"\r\n", octets)


def kept(content: bytes, size: int, size_max: int) -> bytes:
    """Return what of ``content`` is kept when ``size`` octets came before it: exactly ``size_max`` in all."""
    return content if size + len(content) <= size_max else content[: max(size_max - size, 0)]


def _tail(work: bytes, tails: tuple[bytes, ...]) -> int:
    return next((len(tail) for tail in tails if work.endswith(tail)), 0) if work[-1:] in b"\r\n." else 0
