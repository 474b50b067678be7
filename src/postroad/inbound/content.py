"""Collects the content of one message as it comes in: in memory while small, then into a file.

Owns: where incoming content lives until it is put, the trace field before it, the fix-ups of a
submission. Does not own: dot-stuffing and size limits (smtp), durability (spool).

Memory is bounded whatever the message: at most ``file_above`` octets, or the header up to
HEADER_MAX, then what the body writer lets wait. And it is bounded however many clients there are: all that is held
is counted (ContentRoom), and where it is much, less of each message is held.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from postroad.core.units import KIB, MIB
from postroad.spool.face import BodyWriter, Content, SpoolRefused, Why

HEADER_MAX: Final = 256 * KIB
"""Octets of header that are looked at (hops counted, a submission mended). Real headers have under 20 KiB;
what comes after this is carried unread, never refused."""
PIECE: Final = 64 * KIB
"""Octets that are gathered for one write where a file is begun already."""
CROWDED_PIECE: Final = 16 * KIB
"""Octets of a message that are held, in place of ``file_above``, while all together hold much."""
CROWDED: Final = 32 * MIB
"""Octets that all incoming contents of a worker may hold before each holds less."""
OVERFULL: Final = 2 * CROWDED
"""Octets above which nobody may hold a long header in memory any more: such a message is put off."""


class ContentRoom:
    """What the incoming contents of a worker hold in memory, all together."""

    __slots__ = ("octets",)

    def __init__(self) -> None:
        self.octets = 0

    @property
    def is_crowded(self) -> bool:
        """True if each is to hold less."""
        return self.octets > CROWDED

    @property
    def is_overfull(self) -> bool:
        """True if even a header must be short."""
        return self.octets > OVERFULL


class ContentCollector:
    """Takes content in pieces and makes one ``spool.face.Content`` of it.

    ``head`` is called once with the first octets, as far as they hold the header (all of the content if that is
    small), and returns what to keep in their place.
    """

    __slots__ = (
        "_begin_file",
        "_file_above",
        "_head",
        "_head_done",
        "_held",
        "_last",
        "_looked_at",
        "_parts",
        "_refusal",
        "_room",
        "_writer",
        "size",
    )

    def __init__(
        self,
        head: Callable[[bytes], bytes],
        begin_file: Callable[[], BodyWriter],
        *,
        file_above: int,
        room: ContentRoom,
    ) -> None:
        self._head = head
        self._begin_file = begin_file
        self._file_above = file_above
        self._room = room
        self._parts: list[bytes] = []
        self._held = 0
        self._head_done = False
        self._looked_at = 0
        self._last = b""
        self._writer: BodyWriter | None = None
        self._refusal: SpoolRefused | None = None
        self.size = 0
        """Octets taken, what ``head`` added not counted."""

    async def take(self, octets: bytes) -> None:
        """Take more. A disk that refuses is remembered and raised by ``finish``: the client must send its dot first."""
        self.size += len(octets)
        if self._refusal is not None:
            return
        self._parts.append(octets)
        self._held += len(octets)
        self._room.octets += len(octets)
        if self._held > self._most():
            await self._write_out()

    def _most(self) -> int:
        """Return how many octets may be held before they are written out."""
        if self._room.is_crowded:
            return min(self._file_above, CROWDED_PIECE)
        return self._file_above if self._writer is None else min(self._file_above, PIECE)

    async def _write_out(self) -> None:
        if not self._head_done and not self._has_whole_header():
            if self._held > PIECE and self._room.is_overfull:
                self._refusal = SpoolRefused(Why.BUSY, "too much comes in at once")
                await self.discard()
            return
        held = b"".join(self._parts)
        if not self._head_done:
            held = self._make_head(held)
        self._let_go()
        try:
            if self._writer is None:
                self._writer = self._begin_file()
            await self._writer.write(held)
        except SpoolRefused as refusal:
            self._refusal = refusal
            await self.discard()

    def _has_whole_header(self) -> bool:
        """True if the header has ended, or is longer than we look. Each octet is looked at once, however they come."""
        if self._held >= HEADER_MAX:
            return True
        for part in self._parts[self._looked_at :]:
            window = self._last + part
            if b"\r\n\r\n" in window or (not self._last and part.startswith(b"\r\n")):
                return True
            self._last = window[-3:]
        self._looked_at = len(self._parts)
        return False

    def _make_head(self, held: bytes) -> bytes:
        self._head_done = True
        return self._head(held)

    def complete_head(self) -> None:
        """All octets are here: make the head now if the content was too small to need it before."""
        if not self._head_done:
            self._parts = [self._make_head(b"".join(self._parts))]

    async def finish(self) -> Content:
        """Return the content, durable on disk if it is in a file.

        Raises:
            SpoolRefused: the disk did not take it.
        """
        if self._refusal is not None:
            raise self._refusal
        self.complete_head()
        if self._writer is None:
            content = self._parts[0]
            self._let_go()
            return content
        if self._parts:
            held = b"".join(self._parts)
            self._let_go()
            await self._writer.write(held)
        writer, self._writer = self._writer, None
        return await writer.finish()

    async def discard(self) -> None:
        """Forget everything, also on disk."""
        self._let_go()
        writer, self._writer = self._writer, None
        if writer is not None:
            await writer.discard()

    def _let_go(self) -> None:
        """What was held is somebody else's, or nobody's."""
        self._parts.clear()
        self._room.octets -= self._held
        self._held = 0
