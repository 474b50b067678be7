"""Two streams joined in memory: what one writes the other reads, with no socket between.

Owns: the transport. The streams themselves are net/stream.py's SocketStream, so that
back-pressure, TLS, half-closed connections and time-outs are the real code; both ways pass
tests/contracts/test_stream.py. Runs on any event loop, a simulated one too.

Octets arrive with the loop's next turn, in pieces of ``piece`` octets if that is given: how TCP
cuts them must not matter to anybody, and a test can try.
"""

# ruff: noqa: SLF001 - the two ends of one pipe reach into each other: they are one thing

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from postroad.core.units import KIB
from postroad.net.stream import SocketStream

WINDOW: Final = 256 * KIB
"""Octets on their way at most, as socket buffers have them; what is beyond waits on the writer's side."""


class MemoryTransport(asyncio.Transport):
    """One end. What is written goes to ``other``'s protocol."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol, extra: dict[str, Any]) -> None:
        super().__init__(extra)
        self._loop = loop
        self._protocol = protocol
        self._outgoing: deque[bytes] = deque()
        self._waiting = 0  # octets in _outgoing
        self._high, self._low = 64 * KIB, 16 * KIB
        self._writer_paused = False
        self._reading = True
        self._eof = False  # we write nothing more
        self._closing = False
        self._is_gone = False
        self._is_carrying = False
        self._is_aborted = False
        self.piece = WINDOW
        self.other: MemoryTransport

    # --- what a protocol may ask of its transport ---

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._is_gone or self._closing or self._eof:
            return
        self._outgoing.append(bytes(data))
        self._waiting += len(data)
        if self._waiting > self._high and not self._writer_paused:
            self._writer_paused = True
            self._protocol.pause_writing()
        self._carry_soon()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self._eof = True
        self._carry_soon()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._carry_soon()

    def abort(self) -> None:
        self._closing = self._is_aborted = True
        self._outgoing.clear()
        self._waiting = 0
        if not self.other._is_gone:
            self._loop.call_soon(self.other._lose, ConnectionResetError(104, "Connection reset by peer"))
        self._loop.call_soon(self._lose, None)

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.other._carry_soon()

    def is_reading(self) -> bool:
        return self._reading

    def get_write_buffer_size(self) -> int:
        return self._waiting

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * KIB if high is None else high
        self._low = self._high // 4 if low is None else low

    # --- the wire ---

    def _carry_soon(self) -> None:
        if not self._is_carrying and not self._is_gone:
            self._is_carrying = True
            self._loop.call_soon(self._carry)

    def _carry(self) -> None:
        """Give the other end what it can take now: as much as it reads, then the end."""
        self._is_carrying = False
        if self._is_aborted:
            return
        other = self.other
        while self._outgoing and (other._reading or other._is_gone):
            octets = self._outgoing.popleft()
            if len(octets) > self.piece:
                self._outgoing.appendleft(octets[self.piece :])
                octets = octets[: self.piece]
            self._waiting -= len(octets)
            if not other._is_gone and not other._closing:
                other._protocol.data_received(octets)
        if self._writer_paused and self._waiting <= self._low:
            self._writer_paused = False
            self._protocol.resume_writing()
        if self._outgoing:
            return
        if self._closing:
            self._finish()
        elif self._eof:
            self._tell_eof()

    def _finish(self) -> None:
        self._tell_eof()
        self._lose(None)

    def _tell_eof(self) -> None:
        other = self.other
        if not other._is_gone and not other._heard_eof:
            other._heard_eof = True
            if not other._protocol.eof_received():
                other.close()

    _heard_eof = False

    def _lose(self, error: Exception | None) -> None:
        if not self._is_gone:
            self._is_gone = self._closing = True
            self._outgoing.clear()
            self._waiting = 0
            self._protocol.connection_lost(error)


def stream_pair(
    *,
    piece: int = WINDOW,
    names: tuple[str, str] = ("192.0.2.1", "192.0.2.2"),
    loop: asyncio.AbstractEventLoop | None = None,
) -> tuple[SocketStream, SocketStream]:
    """Return two connected streams, the client's end and the server's.

    ``piece``: octets that arrive at once at most. ``names``: the addresses of client and server.
    """
    loop = loop or asyncio.get_running_loop()
    streams = SocketStream(loop), SocketStream(loop)
    addresses = (names[0], 49_152), (names[1], 25)
    ends = [
        MemoryTransport(loop, stream, {"sockname": addresses[i], "peername": addresses[1 - i]})
        for i, stream in enumerate(streams)
    ]
    ends[0].other, ends[1].other = ends[1], ends[0]
    for end, stream in zip(ends, streams, strict=True):
        end.piece = piece
        stream.connection_made(end)
    return streams
