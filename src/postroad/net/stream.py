"""A connection over an asyncio transport: the Stream of net/stream_face.py.

Owns: reading, writing with back-pressure, the change to TLS, the end of a connection. Does
not own: what the octets mean; time-outs of a conversation (its session knows them).
Errors leave as StreamBroken and TlsFailed (net/errors.py), nothing else.

Runs on uvloop, asyncio and a simulated loop, over sockets and over the memory transport of
testing/memory_stream.py; all pass tests/contracts/test_stream.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import ssl
from collections.abc import Callable
from typing import Final, cast

from postroad.core.units import KIB, SECOND
from postroad.net.errors import StreamBroken, TlsFailed, why_os
from postroad.net.stream_face import READ_MAX, Stream
from postroad.net.tls_layer import TlsLayer

READ_PAUSE: Final = 64 * KIB
"""Octets unread after which we stop receiving. One receive of the loop may overshoot it, by 256 KiB at most."""
WRITE_HIGH: Final = 64 * KIB
"""Octets unsent above which ``write`` waits until fewer than a quarter are left."""
LINGER_TIMEOUT: Final = 5 * SECOND
"""Seconds for which a closed stream still takes and drops octets, or waits for its own to be sent."""


class SocketStream(asyncio.Protocol):
    """A Stream over an asyncio transport. Holds no buffer while idle."""

    __slots__ = (
        "_closing",
        "_deadline",
        "_ended",
        "_gone",
        "_held",
        "_loop",
        "_lost",
        "_on_made",
        "_paused",
        "_reader",
        "_timer",
        "_tls",
        "_transport",
        "_write_paused",
        "_writer",
        "local",
        "peer",
        "peer_port",
        "tls",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop, on_made: Callable[[SocketStream], None] | None = None) -> None:
        """``on_made`` is called once, when the connection stands."""
        self._loop = loop
        self._on_made = on_made
        self._transport: asyncio.Transport
        self._tls: TlsLayer | None = None
        self._held: bytes | bytearray = b""  # a bytearray only where several pieces came before one read
        self._ended = False  # the peer sends nothing more
        self._closing = False  # we send nothing more
        self._lost = ""  # why the connection is gone
        self._paused = False
        self._write_paused = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._gone: asyncio.Future[None] | None = None
        self._deadline = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self.peer = ""
        self.peer_port = 0
        self.local = ""
        self.tls = ""

    def __repr__(self) -> str:
        state = self._lost or ("closing" if self._closing else "ended" if self._ended else self.tls or "open")
        return f"<SocketStream {self.peer} port {self.peer_port}: {state}>"

    def fileno(self) -> int:
        """Return the socket's descriptor, or -1 when it is gone."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    # --- the face ---

    @property
    def peer_certificate(self) -> bytes | None:
        return self._tls.peer_certificate if self._tls is not None else None

    @property
    def channel_binding(self) -> bytes:
        return self._tls.channel_binding if self._tls is not None else b""

    @property
    def unread(self) -> bool:
        return bool(self._held)

    async def read(self, timeout: float | None = None) -> bytes:
        if not self._held:
            if not self._closing and not self._ended and not self._lost:
                await self._wait_readable(timeout)
            if not self._held:
                if self._lost and not self._closing and not self._ended:
                    raise StreamBroken(self._lost)
                return b""
        held = self._held
        if len(held) <= READ_MAX:
            self._held = b""
        else:
            self._held = held[READ_MAX:]
            held = held[:READ_MAX]
        if self._paused and len(self._held) < READ_PAUSE:
            self._paused = False
            self._transport.resume_reading()
        return bytes(held)

    async def write(self, octets: bytes) -> None:
        if self._lost or self._closing:
            raise StreamBroken(self._lost or "closed here")
        self._transport.write(octets if self._tls is None else self._tls.encrypt(octets))
        if self._write_paused:
            await self._wait_writable()

    def write_last(self, octets: bytes) -> None:
        if not self._lost and not self._closing:
            with contextlib.suppress(StreamBroken):  # nobody is left to tell
                self._transport.write(octets if self._tls is None else self._tls.encrypt(octets))
            self.close(linger=True)

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
        timeout: float,
        implicit: bool = False,
    ) -> None:
        if self._held and not implicit:
            self.abort()
            raise TlsFailed("octets in clear text came before the handshake")
        try:
            layer = TlsLayer(context, server_side=server_side, server_hostname=server_hostname)
        except TlsFailed:
            self.abort()
            raise
        try:
            async with asyncio.timeout(timeout):
                await self._shake_hands(layer)
        except TimeoutError:
            self.abort()
            raise TlsFailed(f"no handshake within {timeout:g} s") from None
        except TlsFailed:
            self._send(layer.take_outgoing())  # the alert tells the peer why
            self.close()
            raise
        except asyncio.CancelledError:
            self.abort()
            raise
        self._tls = layer
        self.tls = layer.description
        # What followed the handshake in the same packets is encrypted, and ours to read.
        octets, self._held = bytes(self._held), b""
        self._take(octets)

    def close(self, *, linger: bool = False) -> None:
        if self._closing or self._lost:
            return
        if self._tls is not None:
            self._transport.write(self._tls.say_goodbye())
        self._closing = True
        self._held = b""
        self._wake_all()
        if linger and not self._ended and self._transport.can_write_eof():
            self._transport.write_eof()
            self._transport.resume_reading()
            self._arm(self._loop.time() + LINGER_TIMEOUT)
            return
        self._close_transport()

    def abort(self) -> None:
        if not self._lost:
            self._held = b""
            self._lose("aborted here")
        self._transport.abort()

    async def wait_closed(self) -> None:
        if self._gone is None:
            self._gone = self._loop.create_future()
        await asyncio.shield(self._gone)

    # --- what the loop tells us ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH)
        if not self._learn_names(transport):
            self._lose("closed before it was accepted")
            self._transport.abort()
            return
        if self._on_made is not None:
            self._on_made(self)
            self._on_made = None

    def data_received(self, data: bytes) -> None:
        if self._tls is None:
            self._hold(data)
        else:
            self._take(data)

    def eof_received(self) -> bool:
        self._ended = True
        self._wake_reader()
        return not self._closing  # a client may stop sending and still read our replies

    def connection_lost(self, exc: Exception | None) -> None:
        self._lose(why_os(exc) if exc is not None else "closed")
        if self._gone is None:
            self._gone = self._loop.create_future()
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        _wake(self._writer)

    # --- within ---

    def _learn_names(self, transport: asyncio.BaseTransport) -> bool:
        """Note who is at both ends; False if the peer of a TCP connection is gone already.

        Such a one has no name, and must not pass for a Unix socket, which may be trusted more.
        """
        local, peer = transport.get_extra_info("sockname"), transport.get_extra_info("peername")
        if isinstance(local, str | bytes):
            self.peer, self.local = "unix", os.fsdecode(local)
            return True
        if not isinstance(local, tuple) or not isinstance(peer, tuple):
            return False
        self.local = local[0].partition("%")[0]
        self.peer, self.peer_port = peer[0].partition("%")[0], peer[1]
        return True

    def _hold(self, octets: bytes) -> None:
        if self._closing or self._lost:
            return  # lingering: taken, and dropped
        if not self._held:
            self._held = octets
        elif isinstance(self._held, bytearray):
            self._held += octets
        else:
            self._held = bytearray(self._held) + octets
        if len(self._held) >= READ_PAUSE and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def _take(self, octets: bytes) -> None:
        """Take encrypted octets."""
        assert self._tls is not None
        if self._closing or self._lost:
            return
        try:
            plain = self._tls.decrypt(octets)
        except StreamBroken as error:
            self._send(self._tls.take_outgoing())
            self._lose(error.why)
            self._close_transport()
            return
        self._send(self._tls.take_outgoing())
        if plain:
            self._hold(plain)
        if self._tls.ended:
            self._ended = True
            self._wake_reader()

    async def _shake_hands(self, layer: TlsLayer) -> None:
        octets = b""
        while not layer.shake_hands(octets):
            self._send(layer.take_outgoing())
            octets = await self.read()
            if not octets:
                raise TlsFailed("closed during the handshake")
        self._send(layer.take_outgoing())

    def _close_transport(self) -> None:
        if self._transport.get_write_buffer_size():  # a peer that never reads must not hold us for ever
            self._arm(self._loop.time() + LINGER_TIMEOUT)
        self._transport.close()

    def _send(self, octets: bytes) -> None:
        if octets and not self._lost and not self._closing:
            self._transport.write(octets)

    def _lose(self, why: str) -> None:
        if not self._lost:
            self._lost = why
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake_all()

    def _wake_reader(self) -> None:
        _wake(self._reader)

    def _wake_all(self) -> None:
        _wake(self._reader)
        _wake(self._writer)

    async def _wait_readable(self, timeout: float | None) -> None:
        if self._reader is not None:
            raise RuntimeError("two tasks read from one stream")
        waiter = self._reader = self._loop.create_future()
        if timeout is not None:
            self._arm(self._loop.time() + timeout)
        try:
            await waiter
        finally:
            if not self._closing and not self._lost:  # else the deadline is that of the end, and stays
                self._deadline = math.inf
            if self._reader is waiter:
                self._reader = None

    async def _wait_writable(self) -> None:
        if self._writer is not None:
            raise RuntimeError("two tasks write to one stream")
        waiter = self._writer = self._loop.create_future()
        try:
            await waiter
        finally:
            if self._writer is waiter:
                self._writer = None
        if self._lost or self._closing:
            raise StreamBroken(self._lost or "closed here")

    def _arm(self, deadline: float) -> None:
        # One lazy timer for all waits: a read that succeeds leaves it standing, and it finds nothing to do.
        self._deadline = deadline
        if self._timer is not None and self._timer.when() > deadline:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        if self._deadline == math.inf:
            return
        if self._loop.time() < self._deadline - _TICK:
            self._arm(self._deadline)
        elif self._closing or self._lost:
            self._transport.abort()
        elif self._reader is not None and not self._reader.done():
            self._reader.set_exception(TimeoutError("nothing came in time"))


_TICK: Final = 0.001
"""Seconds by which a loop may call early: uvloop counts in milliseconds."""


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


__all__ = [
    "LINGER_TIMEOUT",
    "READ_MAX",
    "READ_PAUSE",
    "WRITE_HIGH",
    "SocketStream",
    "Stream",
    "StreamBroken",
    "TlsFailed",
]
