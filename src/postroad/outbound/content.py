"""The content of a message on its way out: from memory, or from the spool in pieces.

Owns: reading it in bounded pieces, answering what client_fit asks of it. Does not own: dots
and line ends on the wire (smtp/client_content.py), where it is stored (spool).

A content that cannot be read, or is not as long as it says, raises ContentTrouble: the fault
is ours, never the next hop's, and a content that breaks off must not be ended by a final dot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

from postroad.core.units import KIB
from postroad.smtp.client_fit import PLAIN, Question, Traits
from postroad.spool.face import ContentReader

PIECE_OCTETS: Final = 256 * KIB
"""Octets of one read. With the copy that dots make, all that a delivery from disk holds of its message."""


class ContentTrouble(Exception):
    """The content cannot be read to its end. The text says why, for people."""


class ContentSource:
    """The content of one message; read from its beginning as often as wanted.

    ``octets`` is all of it where it is in memory, else None. Whoever opened the reader closes it.
    """

    __slots__ = ("_reader", "octets", "size")

    def __init__(self, content: bytes | ContentReader) -> None:
        if isinstance(content, bytes):
            self.octets: bytes | None = content
            self._reader: ContentReader | None = None
            self.size = len(content)
        else:
            self.octets = None
            self._reader = content
            self.size = content.size

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the content in pieces of at most PIECE_OCTETS, ``size`` octets in all.

        Raises:
            ContentTrouble: it cannot be read, or ends early.
        """
        offset = 0
        while offset < self.size:
            piece = await self._read(offset, min(PIECE_OCTETS, self.size - offset))
            offset += len(piece)
            yield piece

    async def traits(self, asked: Question) -> Traits:
        """Return the answers to ``asked``; may read all of the content.

        Raises:
            ContentTrouble: it cannot be read, or ends early.
        """
        if asked is Question.NONE:
            return PLAIN
        return Traits(
            eight_bit=bool(asked & Question.EIGHT_BIT) and await self._is_eight_bit(),
            eight_bit_header=bool(asked & Question.EIGHT_BIT_HEADER) and await self._is_header_eight_bit(),
            final_crlf=not asked & Question.FINAL_CRLF or await self._ends_with_crlf(),
        )

    async def _is_eight_bit(self) -> bool:
        async for piece in self.pieces():
            if not piece.isascii():
                return True
        return False

    async def _is_header_eight_bit(self) -> bool:
        # A header of more than PIECE_OCTETS is looked at as far as that goes; inbound takes no such header.
        start = b""
        async for piece in self.pieces():
            start += piece
            end = start.find(b"\r\n\r\n")
            if end >= 0:
                return not start[:end].isascii()
            if len(start) >= PIECE_OCTETS:
                break
        return not start.isascii()

    async def _ends_with_crlf(self) -> bool:
        if self.octets is not None:
            return self.octets.endswith(b"\r\n")
        if self.size < 2:
            return False
        last = await self._read(self.size - 2, 2)
        if len(last) < 2:
            last += await self._read(self.size - 1, 1)
        return last == b"\r\n"

    async def _read(self, offset: int, octets_max: int) -> bytes:
        if self.octets is not None:
            if offset == 0 and octets_max >= self.size:
                return self.octets
            return self.octets[offset : offset + octets_max]
        assert self._reader is not None
        try:
            piece = await self._reader.read(offset, octets_max)
        except OSError as error:
            raise ContentTrouble(f"the content cannot be read: {error}") from error
        if not piece:
            raise ContentTrouble(f"the content ends after {offset} of {self.size} octets")
        return piece
