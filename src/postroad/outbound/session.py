"""Drives one outbound connection: octets of the engine to the stream, octets of the stream to the engine.

This file is the pump and nothing else: it waits, and turns what goes wrong while it waits into
AttemptError. What may be said is smtp/client.py, what a message needs of the next hop is
smtp/client_fit.py, what becomes of a recipient is outbound/trouble.py.

Every wait has its time-out. A next hop can make us hold one read, one reply (smtp/replies.py) and, of
what it does not take, what the stream lets wait: about 100 KiB besides the piece of content being sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from postroad.core.envelope import Envelope
from postroad.core.facts import Said
from postroad.core.outcome import AttemptError, Scope, Stage
from postroad.core.reply import Reply
from postroad.core.units import KIB
from postroad.net.stream import Stream
from postroad.outbound.content import PIECE_OCTETS, ContentSource, ContentTrouble
from postroad.outbound.dialogue import Dialogue
from postroad.outbound.timeouts import RFC_TIMEOUTS, WAITS, Timeouts
from postroad.smtp.client import Answer, ClientConnection, Command, Signal
from postroad.smtp.client_content import Stuffer, stuff_whole
from postroad.smtp.client_fit import PLAIN, fit, questions
from postroad.smtp.client_transaction import STAGES, Result, Transaction
from postroad.smtp.errors import DriverError, PeerError
from postroad.smtp.extensions import Protocol
from postroad.smtp.offers import Offers

SMALL_WRITE_MAX: Final = 32 * KIB
"""Octets that are written without a timer: two such writes, the flight and the content, fit the stream's own buffer
(net/stream.py WRITE_HIGH), which is empty whenever the next hop has answered all that was said before."""
CONTENT_UNREADABLE: Final = Reply(451, (3, 0), "The content cannot be read here now")


class DeliveryResult(msgspec.Struct, frozen=True):
    """What came of one message on one connection."""

    results: tuple[Result, ...]
    """(number, reply, stage) of each recipient that has a verdict, theirs or, before a word was said, ours."""
    error: AttemptError | None
    """What broke the attempt off: it holds for every recipient that is not in ``results``. None: all are."""
    offers_dsn: bool
    """The next hop took over what NOTIFY asks for, RFC 3461 section 5.2.1."""
    seconds: float
    """From the first command to the last reply."""
    dialogue: tuple[Said, ...]
    """What was said for this message; for the first one of a connection from the greeting on."""


async def open_session(
    stream: Stream,
    *,
    hello_name: str,
    protocol: Literal["smtp", "lmtp"] = "smtp",
    timeouts: Timeouts = RFC_TIMEOUTS,
    host: str = "",
    dialogue: Dialogue | None = None,
) -> NextHopSession:
    """Hear the greeting, say hello. ``host``: the name by which reports and facts call the next hop.

    ``dialogue``: where to note what is said; whoever gives it can read it also if this fails.

    Raises:
        AttemptError: of scope HOST; the stream is closed.
    """
    dialogue = dialogue or Dialogue(asyncio.get_running_loop().time)
    session = NextHopSession(stream, hello_name, Protocol(protocol), timeouts, host, dialogue)
    await session._greet()  # noqa: SLF001 - the other half of the constructor
    return session


class NextHopSession:
    """One connection on which messages can be handed to a next hop, one after the other."""

    __slots__ = (
        "_at",
        "_dialogue",
        "_engine",
        "_hello_name",
        "_is_broken",
        "_is_content_out",
        "_loop",
        "_stream",
        "_timeouts",
        "host",
        "messages",
    )

    def __init__(
        self, stream: Stream, hello_name: str, protocol: Protocol, timeouts: Timeouts, host: str, dialogue: Dialogue
    ) -> None:
        """Call ``open_session`` instead."""
        self._stream = stream
        self._engine = ClientConnection(protocol)
        self._hello_name = hello_name
        self._timeouts = timeouts
        self._dialogue = dialogue
        self._loop = asyncio.get_running_loop()
        self._is_broken = False
        self._at = Stage.GREETING  # where the attempt is, should it break off
        self._is_content_out = False  # in the same flight as the commands: it may be taken before a reply is heard
        self.host = host or stream.peer
        self.messages = 0
        """Messages tried on this connection so far."""

    @property
    def address(self) -> str:
        """The next hop's IP address, or ``unix``."""
        return self._stream.peer

    @property
    def tls(self) -> str:
        """Version and cipher, or empty."""
        return self._stream.tls

    @property
    def stream(self) -> Stream:
        return self._stream

    @property
    def extensions(self) -> Offers:
        """What the next hop offered in its last answer to EHLO or LHLO."""
        return self._engine.offers

    @property
    def is_usable(self) -> bool:
        """True if another message can be tried here, as far as can be known without asking."""
        engine = self._engine
        return not (self._is_broken or self._stream.unread or engine.holds_octets) and engine.is_ready

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        """Say STARTTLS, shake hands, say hello again (RFC 3207 section 4).

        Raises:
            AttemptError: scope HOST, stage TLS, with a reply: refused, the session goes on in clear. Without a reply:
                the handshake failed. Then, and for whatever else breaks off, the session is unusable and closed.
        """
        self._is_broken = True
        try:
            reply = await self._ask(Command.STARTTLS, "STARTTLS")
            if not reply.is_positive:
                self._is_broken = False
                raise AttemptError(Scope.HOST, reply, Stage.TLS)
            await self._shake_hands(context, server_hostname)
            self._engine.tls_started()
            await self._say_hello()
            self._is_broken = False
        finally:
            if self._is_broken:
                self._stream.abort()

    async def deliver(self, envelope: Envelope, numbers: Sequence[int], content: ContentSource) -> DeliveryResult:
        """Hand the message over for the recipients ``numbers`` (indexes into the envelope). Never raises AttemptError.

        After an ``error`` the session is unusable and closed. Cancelled, it drops the connection.
        """
        results: dict[int, Result] = {}
        started = self._loop.time()
        if self.messages:
            self._dialogue.restart()
        self.messages += 1
        self._is_broken, error = True, None
        self._at = Stage.MAIL
        try:
            await self._deliver(envelope, numbers, content, results)
            self._is_broken = False
        except AttemptError as broke:
            error = broke
        finally:
            if self._is_broken:
                self._stream.abort()
        seconds = self._loop.time() - started
        return DeliveryResult(tuple(results.values()), error, self._engine.offers.dsn, seconds, self._dialogue.take())

    async def quit(self) -> None:
        """Say QUIT where that is possible, hear the answer for a moment, close. Never raises for the peer's faults.

        Cancelled, it drops the connection.
        """
        if self.is_usable:
            try:
                await self._ask(Command.QUIT, "QUIT")
            except AttemptError:
                pass
            except asyncio.CancelledError:
                self.abort()
                raise
        self._is_broken = True
        self._stream.close()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._is_broken = True
        self._stream.abort()

    # --- hello ---

    async def _greet(self) -> None:
        try:
            greeting = (await self._hear()).reply
            if not greeting.is_positive:
                raise AttemptError(Scope.HOST, greeting, Stage.GREETING)
            await self._say_hello()
        except AttemptError as error:
            self._is_broken = True
            # RFC 5321 section 3.1: after 554 in place of the greeting the server waits for QUIT.
            self._stream.write_last(b"QUIT\r\n")
            # Before it has said what it is, a host that breaks off is a host that does not serve.
            raise AttemptError(Scope.HOST, error.reply, error.stage, error.why) from error
        except asyncio.CancelledError:
            self.abort()
            raise

    async def _say_hello(self) -> None:
        if self._engine.protocol is Protocol.LMTP:
            reply = await self._ask(Command.LHLO, f"LHLO {self._hello_name}")
        else:
            reply = await self._ask(Command.EHLO, f"EHLO {self._hello_name}")
            if reply.is_permanent:  # RFC 5321 section 3.2: an old server
                reply = await self._ask(Command.HELO, f"HELO {self._hello_name}")
        if not reply.is_positive:
            raise AttemptError(Scope.HOST, reply, Stage.HELLO)

    async def _shake_hands(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        try:
            await self._stream.start_tls(
                context, server_side=False, server_hostname=server_hostname, timeout=self._timeouts.tls
            )
            self._dialogue.remark(f"({self._stream.tls})")
        except OSError as error:
            self._dialogue.remark(f"(TLS: {error})")
            raise AttemptError(Scope.HOST, None, Stage.TLS, f"TLS: {error}") from error

    async def _ask(self, command: Command, line: str) -> Reply:
        """Say one command and return the reply to it."""
        self._check_silence()
        await self._say(self._engine.send(command, line).encode())
        return (await self._hear()).reply

    # --- one message ---

    async def _deliver(
        self, envelope: Envelope, numbers: Sequence[int], content: ContentSource, results: dict[int, Result]
    ) -> None:
        offers = self._engine.offers
        asked = questions(envelope, offers)
        try:
            traits = await content.traits(asked) if asked else PLAIN
        except ContentTrouble as error:
            raise _unreadable(error) from error
        fitted = fit(envelope, numbers, offers, content.size, traits)
        if fitted.refused:
            results.update((number, Result(number, reply, Stage.MAIL)) for number, reply in fitted.refused.items())
            numbers = [number for number in numbers if number not in fitted.refused]
        chunk = content.octets if fitted.by_chunk else None
        while numbers:
            self._is_content_out = False
            self._check_silence()
            transaction = Transaction(self._engine, envelope, numbers, size=content.size, fit=fitted, chunk=chunk)
            try:
                await self._run(transaction, content)
            finally:
                results.update(transaction.results)
            # Whoever was refused only for their number goes next, if the message is wanted at all.
            numbers = transaction.left_over if transaction.has_delivered and self._engine.is_ready else ()

    async def _run(self, transaction: Transaction, content: ContentSource) -> None:
        while not transaction.is_over:
            if octets := transaction.take_octets():
                await self._say(octets, transaction.content_in_flight)
            if transaction.wants_content:
                await self._send_content(transaction, content)
            elif not transaction.is_over:
                transaction.hear(self._try_hear() or await self._hear())
        if not self._engine.is_ready:
            self._stream.close()

    async def _send_content(self, transaction: Transaction, content: ContentSource) -> None:
        self._at = Stage.DATA
        self._dialogue.content(content.size)
        try:
            if content.octets is not None and content.size <= PIECE_OCTETS and not transaction.by_chunk:
                is_whole = await self._write_unheard(stuff_whole(content.octets))
            else:
                is_whole = await self._write_pieces(content, transaction.by_chunk)
        except ContentTrouble as error:
            raise _unreadable(error) from error
        except AttemptError:
            is_whole = False
        transaction.content_sent()
        if not is_whole:
            # The reply that tells why it broke off may be there to be heard. A positive one cannot be meant for
            # content that has not ended: then nobody knows what the next hop has, and nothing is taken as delivered.
            answer = await self._hear()
            if answer.reply.is_positive:
                raise AttemptError(Scope.STREAM, None, Stage.DATA, "answered before the content had ended")
            transaction.content_refused(answer.reply)

    async def _write_pieces(self, content: ContentSource, by_chunk: bool) -> bool:
        stuffer = Stuffer()
        async for piece in content.pieces():
            if not await self._write_unheard(piece if by_chunk else stuffer.stuff(piece)):
                return False
        return by_chunk or await self._write_unheard(stuffer.end())

    async def _write_unheard(self, octets: bytes) -> bool:
        """Send octets of the content; but False, and nothing sent, if the next hop has spoken before it could have
        seen the end: it wants no more of it."""
        if self._stream.unread:
            return False
        await self._write(octets)
        return True

    # --- waiting ---

    def _try_hear(self) -> Answer | None:
        """Return the next answer if it is here."""
        engine = self._engine
        if engine.awaited is not None:
            self._at = STAGES[engine.awaited]
        try:
            event = engine.next_event()
        except PeerError as error:
            raise self._broken(error.reply.text, error.reply) from error
        if isinstance(event, Answer):
            return event
        if event is Signal.IDLE:
            raise DriverError("no command awaits a reply")
        return None

    async def _hear(self) -> Answer:
        """Return the next answer. It has one time-out as a whole, however it drips in."""
        deadline = 0.0
        while (answer := self._try_hear()) is None:
            now = self._loop.time()
            if not deadline:
                assert self._engine.awaited is not None
                deadline = now + float(getattr(self._timeouts, WAITS[self._engine.awaited]))
            try:
                if now > deadline:
                    raise TimeoutError
                octets = await self._stream.read(deadline - now)
            except TimeoutError as error:
                raise self._broken("no answer in time") from error
            except OSError as error:
                raise self._broken(str(error)) from error
            if not octets:
                raise self._broken("the next hop closed the connection")
            self._dialogue.hear(octets)
            self._engine.receive_data(octets)
        return answer

    async def _say(self, octets: bytes, content: int = 0) -> None:
        """Send commands; the last ``content`` octets are content. If that fails, what the next hop said before (421,
        perhaps) is still there to be heard."""
        self._dialogue.say(octets, content)
        self._is_content_out = content > 0
        with contextlib.suppress(AttemptError):
            await self._write(octets)

    async def _write(self, octets: bytes) -> None:
        try:
            if len(octets) <= SMALL_WRITE_MAX:
                await self._stream.write(octets)
                return
            async with asyncio.timeout(self._timeouts.block):
                await self._stream.write(octets)
        except TimeoutError as error:
            raise self._broken("the next hop takes nothing more") from error
        except OSError as error:
            raise self._broken(str(error)) from error

    def _check_silence(self) -> None:
        try:
            self._engine.check_silence()
        except PeerError as error:
            self._dialogue.remark(f"(unasked: {error.reply})")
            raise self._broken(error.reply.text, error.reply) from error

    def _broken(self, why: str, reply: Reply | None = None) -> AttemptError:
        self._is_broken = True
        if reply is None or reply.code != 421:
            self._dialogue.remark(f"({why})")
        is_goodbye = reply is not None and reply.code == 421  # whoever says that to MAIL or RCPT took nothing
        at = Stage.DOT if self._is_content_out and not is_goodbye else self._at
        return AttemptError(Scope.STREAM, reply, at, why)


def _unreadable(error: ContentTrouble) -> AttemptError:
    return AttemptError(Scope.MESSAGE, CONTENT_UNREADABLE, Stage.DATA, str(error))
