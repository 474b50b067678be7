"""Drives one inbound connection: octets from the stream, answers back.

This file is the pump and nothing else. What is legal is smtp/server.py, what is welcome
and what is kept is inbound/transaction.py. If an ``if`` here looks at a message, it is in the
wrong file.

Replies are collected and written together when the engine has nothing more to say: one write
for a whole pipelined group (RFC 2920 section 3.2). There is no timer per read: the
sweep in inbound/server.py looks at ``waiting_since`` of all sessions once a second.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final, Protocol

from postroad.core import reply
from postroad.core.reply import Reply
from postroad.core.units import KIB
from postroad.net.stream import Stream
from postroad.smtp.errors import PeerError
from postroad.smtp.events import (
    NEED_DATA,
    PAUSED,
    Auth,
    ChunkEnd,
    Content,
    DataEnd,
    DataStart,
    Event,
    Hello,
    Quit,
    Refused,
    StartTls,
)
from postroad.smtp.extensions import Offer
from postroad.smtp.server import ServerConnection

TLS_TIMEOUT: Final = 60.0
"""Seconds for a handshake. RFC 5321 gives none; a client that needs longer than this is not there."""

PROGRESS_OCTETS: Final = 64 * KIB
"""Content that counts as progress: 64 KiB in twice the idle time-out is 110 octets a second, slower than any line."""

_NOTHING_MAY_FOLLOW: Final = {Hello: "EHLO", DataStart: "DATA", StartTls: "STARTTLS", Auth: "AUTH"}
"""Commands after which a client must wait, RFC 2920 section 3.1."""


class Answerer(Protocol):
    """What the session asks: one answer per event."""

    async def answer(self, event: Event) -> Reply | list[Reply]:
        """Return the reply to the event, or one for each accepted recipient (LMTP's end of content)."""
        ...

    async def take(self, octets: bytes) -> None:
        """Take some of the content."""
        ...

    async def end(self) -> None:
        """The session is over: let go of what is unfinished. Called exactly once."""
        ...

    def refused(self, answer: Reply) -> None:
        """The engine refused a command with this."""
        ...

    def early(self, after: str) -> None:
        """Octets came where none may."""
        ...

    def secured(self, tls: str) -> None:
        """TLS is active now."""
        ...

    def hurry(self) -> None:
        """The relay stops: let nobody wait without need."""
        ...

    @property
    def is_idle(self) -> bool:
        """True while no content is coming in: the session may be ended politely."""
        ...


class Session:
    """One connection of a client, from the greeting to the end."""

    __slots__ = (
        "_answerer",
        "_engine",
        "_errors_max",
        "_octets",
        "_offer",
        "_out",
        "_stream",
        "_time",
        "_tls",
        "busy_since",
        "draining",
        "errors",
        "progress_at",
        "waiting_since",
    )

    def __init__(
        self,
        stream: Stream,
        engine: ServerConnection,
        answerer: Answerer,
        *,
        offer: Callable[[], Offer],
        tls: Callable[[], ssl.SSLContext] | None,
        errors_max: int,
        time: Callable[[], float],
    ) -> None:
        self._stream = stream
        self._engine = engine
        self._answerer = answerer
        self._offer = offer
        self._tls = tls
        self._errors_max = errors_max
        self._time = time
        self._out: list[bytes] = []
        self.errors = 0
        self.draining = False
        self.waiting_since = 0.0
        """Loop time since when we wait for the client; 0.0 while the client waits for us."""
        self.busy_since = self.progress_at = time()
        """Loop time since when the client waits for us; and when it last got somewhere: a whole command, or
        PROGRESS_OCTETS of content. An octet now and then is no progress."""
        self._octets = 0

    async def serve(self, greeting: Reply) -> None:
        """Serve until QUIT, end of file or an error that ends the session.

        Raises:
            StreamBroken, TlsFailed: the connection is gone; nothing more can be said.
        """
        try:
            await self._converse(greeting)
        except PeerError as error:
            self._answerer.refused(error.reply)
            await self._say_last(error.reply)
        finally:
            await self._answerer.end()

    async def _converse(self, greeting: Reply) -> None:
        engine, out, answerer = self._engine, self._out, self._answerer
        if self._stream.unread:
            answerer.early("connect")
        out.append(engine.send_greeting(greeting))
        if not greeting.is_positive:
            await self._flush()
            return
        while True:
            event = engine.next_event()
            if event is NEED_DATA:
                if self.draining and answerer.is_idle:
                    await self._say_last(reply.SHUTTING_DOWN)
                    return
                if not await self._hear():
                    return
            elif type(event) is Content:
                self._octets += len(event.octets)
                if self._octets >= PROGRESS_OCTETS:
                    self._octets, self.progress_at = 0, self.busy_since
                await answerer.take(event.octets)
            elif event is PAUSED:
                # Every event is answered before the next is asked for, so the engine has closed: nothing more comes.
                await self._flush()
                return
            else:
                self.progress_at = self.busy_since
                if not await self._answer(event):
                    return

    async def _hear(self) -> bool:
        await self._flush()
        self.waiting_since = self._time()
        octets = await self._stream.read()
        self.waiting_since = 0.0
        self.busy_since = self._time()
        if octets:
            self._engine.receive_data(octets)
        return bool(octets)

    async def _answer(self, event: Event) -> bool:
        """Answer one event; False if the session is over."""
        kind = type(event)
        if kind in _NOTHING_MAY_FOLLOW and self._engine.unread:
            self._answerer.early(_NOTHING_MAY_FOLLOW[kind])
            if kind is StartTls:
                # What came before the handshake could be an attacker's (RFC 3207 section 6): never taken as TLS's.
                await self._say_last(reply.OCTETS_BEFORE_TLS)
                return False
        if kind is Refused:
            answer = event.reply  # type: ignore[union-attr]
            self._answerer.refused(answer)
            self._out.append(self._engine.send_reply(answer))
            return await self._count_error()
        if kind is StartTls and self._tls is not None:
            await self._start_tls(self._tls())
            return True
        answers = await self._answerer.answer(event)
        if isinstance(answers, list):
            self._out.append(self._engine.send_replies(answers))
            return True
        self._out.append(self._engine.send_reply(answers))
        if kind is Quit or answers.code == reply.SHUTTING_DOWN.code:
            await self._flush()
            return False
        if kind is DataEnd or kind is ChunkEnd:
            if answers.is_positive and self._answerer.is_idle:
                self.errors = 0  # a message was kept: a long connection is not held to account for its past
        elif answers.is_permanent:  # a 4yz is our trouble or our limit, not the client's error
            return await self._count_error()
        return True

    async def _count_error(self) -> bool:
        self.errors += 1
        if self.errors < self._errors_max:
            return True
        self._answerer.refused(reply.TOO_MANY_ERRORS)
        await self._say_last(reply.TOO_MANY_ERRORS)
        return False

    async def _start_tls(self, context: ssl.SSLContext) -> None:
        self._out.append(self._engine.send_reply(reply.READY_FOR_TLS))
        await self._flush()
        await self._stream.start_tls(context, server_side=True, timeout=TLS_TIMEOUT)
        self._engine.tls_started()
        self._answerer.secured(self._stream.tls)
        self._engine.offer = self._offer()

    async def _flush(self) -> None:
        if self._out:
            octets = self._out[0] if len(self._out) == 1 else b"".join(self._out)
            self._out.clear()
            await self._stream.write(octets)

    async def _say_last(self, answer: Reply) -> None:
        # With octets of the client's unread, a plain close would answer them with a reset and take our words away.
        await self._flush()
        self._stream.write_last(answer.to_wire())

    # --- from outside, between two reads ---

    def drain(self) -> None:
        """End politely as soon as no transaction is under way (RFC 5321 section 3.8)."""
        self.draining = True
        self._answerer.hurry()
        if self.waiting_since and self._answerer.is_idle:
            self._hang_up(reply.SHUTTING_DOWN)

    def cut(self) -> None:
        """No more patience: say so where we wait for the client, else cut the connection."""
        if self.waiting_since:
            self._hang_up(reply.SHUTTING_DOWN)
        else:
            self.abort()

    def time_out(self) -> None:
        """The client let us wait too long."""
        self._answerer.refused(reply.IDLE_TOO_LONG)
        self._hang_up(reply.IDLE_TOO_LONG)

    def _hang_up(self, answer: Reply) -> None:
        # Nothing of ours waits in ``_out`` while we read, so the order of replies holds.
        self._stream.write_last(answer.to_wire())

    def abort(self) -> None:
        """Cut the connection without a word."""
        self._stream.abort()
