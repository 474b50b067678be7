"""From the octets after BDAT to message content, RFC 3030 section 2.

Owns: counting the octets of chunks, the law of line ends across chunks. Does not own: when a
BDAT is legal (server.py), what is a bare newline (data.py). No I/O.

Chunks are cut anywhere, also between CR and LF, so one reader serves a whole message.
"""

from __future__ import annotations

from postroad.core import reply
from postroad.smtp.data import has_bare_newline, kept, normalized
from postroad.smtp.errors import DriverError, PeerError


class ChunkReader:
    """Content of one message that comes in BDAT chunks.

    Unless it is binary (BODY=BINARYMIME) its lines end with CRLF (RFC 3030 section 2), as in DATA;
    but nothing is stuffed, and the last line need not end.
    """

    __slots__ = ("_has_cr", "_is_binary", "_is_last", "_normalize", "_remaining", "_size", "_size_max", "rest")

    def __init__(self, size_max: int, *, is_binary: bool, normalize: bool = False) -> None:
        self._size_max = size_max
        self._is_binary = is_binary
        self._normalize = normalize
        self._has_cr = False  # a CR came last and is held back: its LF may be next
        self._is_last = False
        self._remaining = 0
        self._size = 0  # without the CR held back
        self.rest = b""
        """What followed the chunk: pipelined commands."""

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return self._size + self._has_cr

    @property
    def is_too_big(self) -> bool:
        return self.size > self._size_max

    @property
    def is_done(self) -> bool:
        """True if the chunk is complete."""
        return self._remaining == 0

    @property
    def is_last(self) -> bool:
        return self._is_last

    def begin(self, size: int, *, is_last: bool) -> None:
        """Begin a chunk of ``size`` octets; feed it, with b"" if it is empty.

        Raises:
            DriverError: the chunk before is not complete, or was the last one.
        """
        if self._remaining or self._is_last:
            raise DriverError("a chunk begun before the last one ended")
        self._remaining, self._is_last = size, is_last

    def feed(self, octets: bytes) -> bytes:
        """Take more octets, return the content they complete; what is past the chunk goes to ``rest``.

        Raises:
            PeerError: a bare CR or LF in a message that is not binary.
        """
        self.rest = octets[self._remaining :]
        octets = octets[: self._remaining]
        self._remaining -= len(octets)
        content = octets if self._is_binary else self._checked(octets)
        before = self._size
        self._size += len(content)
        return kept(content, before, self._size_max)

    def _checked(self, octets: bytes) -> bytes:
        if self._has_cr:
            octets = b"\r" + octets
        is_end = self._is_last and self._remaining == 0
        self._has_cr = octets.endswith(b"\r") and not is_end
        if self._has_cr:
            octets = octets[:-1]
        if not has_bare_newline(octets):
            return octets
        if not self._normalize:
            raise PeerError(reply.BARE_NEWLINE)
        return normalized(octets)
