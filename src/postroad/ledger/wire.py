"""What workers and the ledger say to each other, and how it goes over a Unix stream socket.

Owns: the values, frames (4 octets of length, then msgpack: a list of values), one write for all that is said in one
turn of the event loop, bounds on what is read and on what the other side leaves unread. Does not own: what the values
do (server.py, client.py). Both sides are of one version of Postroad: they are started by one supervisor.

Whatever breaks a bound or cannot be decoded ends the connection, with the reason; nothing raises into the loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, TypeVar, cast

import msgspec

from postroad.core.faces import RecordRow

FRAME_MAX: Final = 1 << 20
"""Octets of a frame. 1,000 questions take about 60,000."""
ITEMS_MAX: Final = 1_000
"""Values that are put into one frame, so that what follows an announcement of many keys is not kept waiting for it."""
UNREAD_MAX: Final = 4 << 20
"""Octets that may wait for the other side to read. One that leaves more is not there any more: it asks, or is told, and
never listens."""
LAST_WORDS: Final = 256 << 10
"""Octets that are read at once of what a dead one had said: about as many as the system keeps."""
ROW_MAX: Final = FRAME_MAX // 2
"""Octets of a record that can go through the ledger."""


class Value(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Anything that is said."""


# --- what workers say --------------------------------------------------------------------------------


class Hello(Value, frozen=True, tag=1):
    """The first value: who is there. Once there is a Welcome, what is held is announced."""

    slot: int
    """-1: no worker; holds nothing."""
    workers: int
    incarnation: str
    """The same for all connections of one process, and of no other process."""
    since: float
    """When this connection was made: of two of one slot the later is the one that is alive."""


class Hold(Value, frozen=True, tag=2):
    """We hold ``count`` more connections under ``key``, asked or not."""

    key: str
    most: int
    count: int


class Used(Value, frozen=True, tag=3):
    """What we have used of a rate: slots of a Meter and their tokens."""

    key: str
    seconds: float
    entries: list[tuple[int, int]]


class Announced(Value, frozen=True, tag=4):
    """All that we hold has been said."""


class Take(Value, frozen=True, tag=5):
    """One more connection. Answer: Taken."""

    id: int
    key: str
    most: int


class Give(Value, frozen=True, tag=6):
    """One connection less."""

    key: str


class Tokens(Value, frozen=True, tag=7):
    """At least ``least`` tokens of a rate, gladly ``best``. Answer: Granted."""

    id: int
    key: str
    count: float
    seconds: float
    least: int
    best: int


class Unused(Value, frozen=True, tag=8):
    """Tokens that were granted and will not be used."""

    key: str
    number: int
    tokens: int


class Put(Value, frozen=True, tag=9):
    """Write a record. Answer: Done."""

    id: int
    table: str
    row: RecordRow


class Delete(Value, frozen=True, tag=10):
    """Take a record away. Answer: Done, 1 if there was one."""

    id: int
    table: str
    key: str


class Count(Value, frozen=True, tag=11):
    """Marks.count. Answer: Done."""

    id: int
    key: str
    seconds: float
    add: int


class Mark(Value, frozen=True, tag=12):
    """Marks.mark. Answer: Done."""

    id: int
    key: str
    seconds: float


class Marked(Value, frozen=True, tag=13):
    """Marks.marked. Answer: Done."""

    id: int
    key: str


class Claim(Value, frozen=True, tag=14):
    """Marks.claim. Answer: Done, 1 for the first."""

    id: int
    key: str
    seconds: float


class Ping(Value, frozen=True, tag=15):
    """We are there. Answer: Pong."""


class Leaving(Value, frozen=True, tag=16):
    """We close this connection and come back on another at once: keep what we hold for so long."""


class Owed(Value, frozen=True, tag=17):
    """So many connections of our share under ``key`` were others', when an earlier ledger last spoke of it."""

    key: str
    count: int


Question = (
    Hello | Hold | Used | Announced | Take | Give | Tokens | Unused
    | Put | Delete | Count | Mark | Marked | Claim | Ping | Leaving | Owed
)  # fmt: skip


# --- what the ledger says ----------------------------------------------------------------------------


class Welcome(Value, frozen=True, tag=1):
    """The ledger listens: announce what you hold, then ask."""


class Settled(Value, frozen=True, tag=2):
    """All of yours that is lent has been said, and no worker is absent who may hold more of it: forget what an earlier
    connection said."""


class Taken(Value, frozen=True, tag=3):
    id: int
    yes: bool


class Granted(Value, frozen=True, tag=4):
    """Tokens, or none and how long to wait."""

    id: int
    tokens: int
    own: int
    """How many of them are charged to the asker's share."""
    number: int
    """Of the slot they are charged in."""
    wait: float


class Done(Value, frozen=True, tag=5):
    id: int
    value: float


class Failed(Value, frozen=True, tag=6):
    """It was not done."""

    id: int
    why: str


class Lent(Value, frozen=True, tag=7):
    """So many connections of your share under ``key`` are others' now."""

    key: str
    count: int


class LentTokens(Value, frozen=True, tag=8):
    """So many more tokens of your share are used by others, now."""

    key: str
    seconds: float
    tokens: int


class Freed(Value, frozen=True, tag=9):
    """There may be a connection for you under ``key``."""

    key: str


class Wanted(Value, frozen=True, tag=10):
    """Somebody waits for a connection under ``key``, and you have more than your share."""

    key: str


class Changed(Value, frozen=True, tag=11):
    """Somebody has changed a row of that table of records."""

    table: str


class Pong(Value, frozen=True, tag=12):
    """We are there."""


class Charged(Value, frozen=True, tag=13):
    """What an earlier process of your slot has used of its share: slots of a Meter and their tokens."""

    key: str
    seconds: float
    entries: list[tuple[int, int]]


Answer = (
    Welcome | Settled | Taken | Granted | Done | Failed
    | Lent | LentTokens | Freed | Wanted | Changed | Pong | Charged
)  # fmt: skip

QUESTIONS: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(list[Question])
ANSWERS: Final[msgspec.msgpack.Decoder[Any]] = msgspec.msgpack.Decoder(list[Answer])

V = TypeVar("V", bound=Value)
_encode: Final = msgspec.msgpack.Encoder().encode


def frames(values: Sequence[Value]) -> bytes:
    """Return ``values`` as one frame, or as several where one would be too long.

    Raises:
        ValueError: a single value is too long.
    """
    if len(values) <= ITEMS_MAX:
        octets = _encode(values)
        if len(octets) <= FRAME_MAX:
            return len(octets).to_bytes(4, "big") + octets
        if len(values) == 1:
            raise ValueError(f"a {type(values[0]).__name__} of {len(octets)} octets is too long for the ledger")
    half = min(len(values) // 2, ITEMS_MAX)
    return frames(values[:half]) + frames(values[half:])


class Wire(asyncio.Protocol):
    """One side of a connection.

    ``on_values`` is called with the values of each frame; ``on_lost``, once, with the reason if
    it was we who ended it, or "".
    """

    def __init__(
        self,
        decoder: msgspec.msgpack.Decoder[list[V]],
        on_values: Callable[[list[V]], None],
        on_lost: Callable[[str], None],
    ) -> None:
        self._decode = decoder.decode
        self._on_values = on_values
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._unsaid: list[Value] = []
        self._rest = b""  # the beginning of a frame
        self._why = ""
        self._ended = False

    def say(self, value: Value) -> None:
        """Send it with all else that is said in this turn of the loop. To nobody, if the connection has ended."""
        if not self._unsaid:
            self._loop.call_soon(self._flush)
        self._unsaid.append(value)

    def close(self) -> None:
        """Send what was said, and end the connection. ``on_lost`` is not called any more."""
        self._flush()
        self._ended = True
        if self._transport is not None:
            self._transport.close()

    def fail(self, why: str) -> None:
        """End the connection at once, for a reason."""
        self._why = self._why or why
        self._unsaid = []
        if self._transport is not None:
            self._transport.abort()

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._ended or self._why:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        octets = self._rest + data if self._rest else data
        start, end = 0, len(octets)
        while end - start >= 4 and not (self._ended or self._why):
            length = int.from_bytes(octets[start : start + 4], "big")
            if length > FRAME_MAX:
                self.fail(f"a frame of {length} octets")
                return
            if end - start - 4 < length:
                break
            frame = memoryview(octets)[start + 4 : start + 4 + length]
            start += 4 + length
            try:
                values = self._decode(frame)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                self.fail(f"a frame that cannot be decoded: {error}")
                return
            self._on_values(values)
        self._rest = octets[start:]

    def eof_received(self) -> None:
        """The other side ends it: so do we. (asyncio closes the transport.)"""

    def connection_lost(self, error: Exception | None) -> None:
        self._unsaid = []
        if error is not None:
            self._hear_last_words()
        self._transport = None
        if not self._ended:
            self._ended = True
            self._on_lost(self._why)  # an error of the socket (ECONNRESET) is how a dead process ends it

    def _hear_last_words(self) -> None:
        """Read what the other side had said before it died: an event loop that finds that out by writing does not.

        A ledger that lends of our share says so before it answers who gets it; that one may have read its answer.
        """
        open_still = None if self._transport is None else self._transport.get_extra_info("socket")
        if open_still is None:
            return
        with suppress(OSError):  # nothing is left; BlockingIOError is one too
            while not (self._ended or self._why) and (octets := os.read(open_still.fileno(), LAST_WORDS)):
                self.data_received(octets)

    def _flush(self) -> None:
        values, self._unsaid = self._unsaid, []
        transport = self._transport
        if not values or transport is None or self._why:
            return
        transport.write(frames(values))
        if transport.get_write_buffer_size() > UNREAD_MAX:
            self.fail(f"{UNREAD_MAX} octets were not read")
