"""From octets to command lines, and the one buffer of a connection.

Owns: what was received and not yet used, cutting it into lines, the law of line ends in
commands, the bound on a line. Does not own: how long which line may be (extensions.py),
what a line says (commands.py), content (data.py and chunk.py take the buffer from here).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

from postroad.core import reply
from postroad.smtp.errors import PeerError
from postroad.smtp.extensions import COMMAND_LINE_MAX

_CRLF: Final = 2
_SHORT_MAX: Final = COMMAND_LINE_MAX - _CRLF


class NoLine(Enum):
    """Why there is no line."""

    INCOMPLETE = auto()
    TOO_LONG = auto()
    """One came that was too long; it is gone, and the next one may be asked for."""


_INCOMPLETE: Final = NoLine.INCOMPLETE


class LineBuffer:
    """The octets received. Only CRLF ends a line (RFC 5321 section 2.3.8).

    Of a line that is too long nothing is kept, but the octets are read to its end and judged as it ends: what
    it does to the session does not depend on how it arrives.
    """

    __slots__ = ("_is_dropping", "_octets", "_start")

    def __init__(self) -> None:
        self._octets = b""
        self._start = 0  # what stands before it is used up
        self._is_dropping = False

    def __len__(self) -> int:
        """Octets not yet used."""
        return len(self._octets) - self._start

    def add(self, octets: bytes) -> None:
        """Take octets from the peer."""
        self._octets = octets if self._start == len(self._octets) else self._octets[self._start :] + octets
        self._start = 0

    def take_all(self) -> bytes:
        """Return all octets and be empty."""
        octets = self._octets[self._start :] if self._start else self._octets
        self._octets, self._start = b"", 0
        return octets

    def next_line(self, limits: Mapping[bytes, int], least: int = COMMAND_LINE_MAX) -> bytes | NoLine:
        """Return the next line, its CRLF taken off.

        ``limits`` are octets, CRLF included, by the first four octets of the line in upper case; ``least`` is for all
        lines that are not in it.

        Raises:
            PeerError: a bare CR or LF, as soon as it is seen.
        """
        start = self._start
        if start == len(self._octets):
            return _INCOMPLETE
        end = self._octets.find(b"\r\n", start)
        if end < 0:
            self._wait(limits, least)
            return _INCOMPLETE
        line = self._octets[start:end]
        self._start = end + _CRLF
        if b"\n" in line or b"\r" in line:
            raise PeerError(reply.BARE_NEWLINE)
        if len(line) > _SHORT_MAX or self._is_dropping:
            is_too_long = self._is_dropping or _is_too_long(line, limits, least)
            self._is_dropping = False
            if is_too_long:
                return NoLine.TOO_LONG
        return line

    def _wait(self, limits: Mapping[bytes, int], least: int) -> None:
        # The CR at the end may yet become a CRLF. Any other CR or LF is bare, for there is no CRLF in what we have.
        has_cr = self._octets.endswith(b"\r", self._start)
        line = self._octets[self._start : len(self._octets) - has_cr]
        if b"\n" in line or b"\r" in line:
            raise PeerError(reply.BARE_NEWLINE)
        if _is_too_long(line, limits, least):
            self._is_dropping = True
            self._octets, self._start = b"\r" if has_cr else b"", 0


def _is_too_long(line: bytes, limits: Mapping[bytes, int], least: int) -> bool:
    return len(line) + _CRLF > limits.get(line[:4].upper(), least)
