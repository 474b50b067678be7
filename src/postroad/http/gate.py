"""What stands between a connection and the routes of the control API: refusals, bounds of bodies and times, faults.

Owns: asking peer.py about each request, reading its body within bounds before anything is done, how errors look
(``{"error": "a sentence", "status": 503}``), headers that every answer has. Does not own: the routes (app.py), clients
that do not read (door.py).

This is a boundary: what breaks in here is answered with 500 and told as a fact; mail is not touched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

from postroad.core.json_text import printable_json
from postroad.http.peer import READING, SCOPE_KEY, Peer, Refusal

BODY_MAX: Final = 1_048_576
"""Octets in the body of a request."""
BODY_TIMEOUT: Final = 20.0
"""Seconds in which it must have come."""
ALWAYS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

HEAD_KEY: Final = "postroad.head"
"""Where the scope of a GET says that only its head is wanted."""
PIECE: Final = 65_536
"""Octets of an answer that are handed to a connection before it is waited for."""

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Gate:
    """An ASGI application around the routes."""

    def __init__(self, app: App, tell_trouble: Callable[[Exception], None]) -> None:
        self._app = app
        self._tell_trouble = tell_trouble

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get(SCOPE_KEY)
        sending = _Sending(send)
        try:
            if not isinstance(peer, Peer) or scope["type"] != "http":
                raise LookupError("a connection that did not come by a door")
            await self._serve(peer, scope, receive, sending)
        except ConnectionError:
            pass  # it is gone
        except Exception as error:  # noqa: BLE001 - boundary: a fault of ours must not end the front
            self._tell_trouble(error)
            if sending.is_started and isinstance(peer, Peer):
                if not sending.is_whole:
                    peer.abort()  # so that half an answer does not look whole
            else:
                await sending.refuse(Refusal(500, f"The relay broke while it did that: {error!r}."))

    async def _serve(self, peer: Peer, scope: Scope, receive: Receive, sending: _Sending) -> None:
        method = scope["method"]
        refusal = _too_long(peer, scope) or peer.door.refuses(peer, method, scope["path"], scope["headers"])
        if refusal is not None:
            await sending.refuse(refusal)
            return
        if method in READING:
            asked = {**scope, "method": "GET", HEAD_KEY: method == "HEAD"}  # uvicorn leaves out the body of a HEAD
            await self._app(asked, receive, sending.send)
            return
        try:
            body = await _read_body(scope, receive)
        except _Refused as refused:
            await sending.refuse(refused.refusal)
            return
        await self._app(scope, _Replay(body, receive), sending.send)


class _Refused(Exception):
    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


class _Sending:
    """Sends an answer, and knows how far it got."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_started = False
        self.is_whole = False

    async def send(self, message: Message) -> None:
        """Return when the client has read all but the last piece, or is gone."""
        if message["type"] == "http.response.start":
            self.is_started = True
            message["headers"] = [*message.get("headers", ()), *ALWAYS]
        elif len(body := message.get("body", b"")) > PIECE:
            for place in range(0, len(body) - PIECE, PIECE):
                await self._send({"type": message["type"], "body": body[place : place + PIECE], "more_body": True})
            message["body"] = body[place + PIECE :]
        await self._send(message)
        self.is_whole = message["type"] == "http.response.body" and not message.get("more_body")

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with an error. What still comes of the request is dropped, for so long as door.py lets a head take."""
        body = error_body(refusal.status, refusal.text)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ]
        if refusal.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        await self.send({"type": "http.response.start", "status": refusal.status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body})


class _Replay:
    """Gives a body that has been read, then what the connection says."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        if self._body is None:
            return await self._receive()
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}


def _too_long(peer: Peer, scope: Scope) -> Refusal | None:
    """Return the refusal of a head that came whole, and is longer than the parser lets those come that do not."""
    octets = sum(len(name) + len(value) + 4 for name, value in scope["headers"])
    if octets + len(scope["raw_path"]) + len(scope["query_string"]) <= peer.door.head_max:
        return None
    return Refusal(431, f"The head of a request has at most {peer.door.head_max} octets here.")


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """Return the whole body. Raises _Refused if it is too large or too slow, ConnectionError if the client is gone."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    too_large = _Refused(Refusal(413, f"A request has at most {BODY_MAX} octets."))
    if int(length) > BODY_MAX:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ConnectionResetError("gone")
                body += message.get("body", b"")
                if len(body) > BODY_MAX:
                    raise too_large
                if not message.get("more_body"):
                    return bytes(body)
    except TimeoutError as error:
        raise _Refused(Refusal(408, f"The request has not come whole within {BODY_TIMEOUT:.0f} seconds.")) from error


def error_body(status: int, text: str) -> bytes:
    """Return how every error looks."""
    return printable_json(msgspec.json.encode({"error": text, "status": status}))
