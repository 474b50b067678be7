"""A connection of the control API: uvicorn's, with the peer's credentials, fewer octets, and less patience.

Owns: that each request's scope says who is at the other end, which no octet of the client can do; the time in which the
head of a request must have come, and in which some of an answer must be read; how many connections there are. Does not
own: who may do what (peer.py), bodies and answers (gate.py).
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import h11
import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from postroad.http.peer import SCOPE_KEY, Door

WRITE_TIMEOUT: Final = 30.0
"""Seconds in which a client reads at least something of what waits for it."""
_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
    b'{"error":"Too many connections are open. Try again soon.","status":503}'
)


class DoorProtocol(H11Protocol):
    """One connection through a door."""

    def __init__(self, door: Door, config: Config, state: ServerState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, {}, loop)
        self._door = door
        self.rests_since = loop.time()
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        is_full = len(self.connections) >= self._door.connections_max
        super().connection_made(transport)
        if not self._has_place() or is_full:
            transport.write(_FULL)
            transport.close()
            return
        peer = self._door.peer_of(transport, transport.abort)
        inner = self.app

        async def named(scope: Any, receive: Any, send: Any) -> None:
            await inner({**scope, SCOPE_KEY: peer}, receive, send)

        self.app = named
        self._time_head()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if not self.is_busy():
            self._time_head()
            self.rests_since = self.loop.time()
        super().data_received(data)
        if self.is_busy():
            self._stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._time_writing()

    def resume_writing(self) -> None:
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, text: str) -> None:
        """Answer what is no request of HTTP."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()
            return
        body = msgspec.json.encode({"error": f"That is not a request: {text}", "status": 400})
        headers = [("content-type", "application/json"), ("connection", "close"), ("content-length", str(len(body)))]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _has_place(self) -> bool:
        """True if its address has not too many connections, or one that asks nothing, which then makes room."""
        most = self._door.peer_max
        others = [one for one in self.connections if isinstance(one, DoorProtocol) and one is not self]
        same = [one for one in others if one.client and self.client and one.client[0] == self.client[0]]
        if not most or len(same) < most:
            return True
        resting = min((one for one in same if not one.is_busy()), key=lambda one: one.rests_since, default=None)
        if resting is None:
            return False
        self.connections.discard(resting)
        resting.transport.abort()
        return True

    def is_busy(self) -> bool:
        """True from the end of a request's head to the end of its answer."""
        return self.cycle is not None and not self.cycle.response_complete

    def _time_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._door.head_timeout, self.transport.abort)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _time_writing(self) -> None:
        self._stop_write_timer()
        left = self.transport.get_write_buffer_size()
        self._write_timer = self.loop.call_later(WRITE_TIMEOUT, self._look_at_writing, left)

    def _look_at_writing(self, before: int) -> None:
        if self.transport.get_write_buffer_size() < before:
            self._time_writing()
        else:
            self.transport.abort()

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
