"""The server side of one connection: SMTP (RFC 5321) and LMTP (RFC 2033), without I/O.

Rule 1: every state and every transition is in TRANSITIONS (states.py). Nothing else may ask
"have we had MAIL yet?" in any other way.
Rule 2: nothing here reads, writes, sleeps, logs or asks for the time. Octets come in through
receive_data(), octets go out as return values.
Rule 3: a transition fires when the *reply* is sent, not when the command is read. A command that
is refused leaves us where we were (RFC 5321 section 4.1.4). Until the reply is sent next_event()
returns PAUSED: that is all the pipelining support there is (RFC 2920 section 3.2), and it is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from postroad.core import reply
from postroad.core.envelope import Body
from postroad.core.reply import Reply
from postroad.smtp.chunk import ChunkReader
from postroad.smtp.commands import ChunkStart, LastChunkStart, Terms, parse_command, parse_response
from postroad.smtp.data import DataReader
from postroad.smtp.errors import DriverError, PeerError
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
    HelloVerb,
    MailFrom,
    RcptTo,
    Refused,
    Signal,
    StartTls,
)
from postroad.smtp.extensions import AUTH_LINE_MAX, Offer, Protocol, line_limits
from postroad.smtp.lines import LineBuffer, NoLine
from postroad.smtp.states import OUT_OF_SEQUENCE, TRANSITIONS, Greeting, Next, Nothing, State, TlsDone

__all__ = ["TRANSITIONS", "Protocol", "ServerConnection", "State"]

_HELLOS: Final = ((HelloVerb.EHLO, HelloVerb.HELO), (HelloVerb.LHLO,))  # of SMTP, of LMTP
_CHECKED: Final = {Hello, DataStart, StartTls, Auth}  # to be in sequence is not all: _objection
_CHUNKS: Final = (ChunkStart, LastChunkStart)
_MARKS: Final = (Greeting, TlsDone, Nothing)  # pending, but not for a reply
_AUTHENTICATED: Final = 235
_CLOSING: Final = 421
# An attribute of an Enum class takes three times as long as a name of the module, and each event needs these.
_READY, _MAIL, _DATA, _CHUNKED = State.READY, State.MAIL, State.DATA, State.CHUNKED
_FAILED, _AUTH, _TLS, _CLOSED = State.FAILED, State.AUTH, State.TLS, State.CLOSED
_GREETING: Final = Greeting()
_HANDSHAKE: Final = TlsDone()
_NOTHING: Final = Nothing()


class ServerConnection:
    """Feed octets in, take events out, answer each with one reply.

    Do not call ``receive_data`` while paused: what a client sends ahead is then bounded by what one
    call brings. ``offer`` may be set between two events, as after TLS; it holds for what comes next.
    """

    __slots__ = (
        "_body",
        "_chunks",
        "_data",
        "_dropped_answer",
        "_dropping",
        "_has_ended",
        "_is_lmtp",
        "_lines",
        "_next",
        "_normalize",
        "_offer",
        "_pending",
        "_terms",
        "is_authenticated",
        "is_secure",
        "recipients",
        "state",
    )

    def __init__(
        self,
        offer: Offer,
        *,
        protocol: Protocol = Protocol.SMTP,
        bare_newline: Literal["refuse", "normalize"] = "refuse",
        is_secure: bool = False,
    ) -> None:
        self.state = State.CONNECTED
        self.recipients = 0
        """Accepted in this transaction."""
        self.is_secure = is_secure
        """True under TLS."""
        self.is_authenticated = False
        """True after a 235; there is no second AUTH then (RFC 4954 section 4)."""
        self._offer = offer
        self._terms = Terms(offer)
        self._is_lmtp = protocol is Protocol.LMTP
        self._normalize = bare_newline == "normalize"
        self._lines = LineBuffer()
        self._has_ended = False
        self._pending: Event | Greeting | TlsDone | Nothing | None = _GREETING  # what the driver must see to
        self._next: Next | None = None  # where the reply to it leads; None: nowhere
        self._body = Body.SEVEN_BIT
        self._data: DataReader | None = None
        self._chunks: ChunkReader | None = None
        self._dropping = -1  # octets still to come of a BDAT that is refused; -1: there is none
        self._dropped_answer: Reply = reply.BAD_SEQUENCE  # to that BDAT

    @property
    def offer(self) -> Offer:
        """What the client is offered."""
        return self._offer

    @offer.setter
    def offer(self, offer: Offer) -> None:
        self._offer = offer
        self._terms = Terms(offer, self._terms.is_extended, self._terms.smtputf8)

    @property
    def unread(self) -> int:
        """Octets received and not yet used.

        RFC 2920 section 3.1 allows none before the greeting and behind EHLO, DATA, STARTTLS and AUTH. The
        engine does not judge; the driver asks when it has the event, and before it sends the greeting.
        """
        return len(self._lines)

    @property
    def replies_due(self) -> int:
        """Replies that the pending event needs: one per recipient where LMTP's content ends, else one."""
        event = self._pending
        if self._is_lmtp and (isinstance(event, DataEnd) or (isinstance(event, ChunkEnd) and event.last)):
            return self.recipients
        return 1

    # --- octets in -------------------------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the client."""
        self._lines.add(octets)

    def receive_eof(self) -> None:
        """The client sends nothing more. What has come is still served; then the state is CLOSED."""
        self._has_ended = True

    # --- events out ------------------------------------------------------------------------------------

    def next_event(self) -> Event | Signal:
        """Return the next event, or the signal that says why there is none.

        Raises:
            PeerError: the client cannot be followed any more; send its reply and close.
        """
        if self._pending is not None:
            return PAUSED
        try:
            if self._data is not None:
                return self._next_data(self._data)
            if self._chunks is not None and self.state is not _CHUNKED:
                return self._next_chunk(self._chunks)
            if self._dropping >= 0:
                return self._drop_chunk()
            if self.state is _AUTH:
                return self._next_response()
            return self._next_command()
        except PeerError:
            self._close()
            raise

    def _next_command(self) -> Event | Signal:
        line = self._lines.next_line(line_limits(self._offer))
        if isinstance(line, NoLine):
            return self._no_line(line)
        command = parse_command(line, self._terms)
        kind = type(command)
        step = TRANSITIONS[self.state].get(kind)
        if isinstance(command, _CHUNKS):
            return self._begin_chunk(command, step)
        if (step is None or kind in _CHECKED) and kind is not Refused:
            answer = self._objection(command, step)
            if answer is not None:
                return self._await(Refused(answer, line[:4].decode("ascii").upper()))
        self._pending, self._next = command, step
        return command

    def _next_response(self) -> Event | Signal:
        line = self._lines.next_line({}, AUTH_LINE_MAX)
        if isinstance(line, NoLine):
            return self._no_line(line)
        return self._await(parse_response(line))

    def _objection(self, command: Event, step: Next | None) -> Reply | None:
        """Return why a well-formed command is refused all the same; None if it is not."""
        if step is None:
            if self._is_lmtp:  # RFC 2033 section 4.2: DATA without a recipient is 503 there
                return reply.BAD_SEQUENCE
            return OUT_OF_SEQUENCE.get((self.state, type(command)), reply.BAD_SEQUENCE)
        if isinstance(command, Hello):
            return None if command.verb in _HELLOS[self._is_lmtp] else reply.UNKNOWN_COMMAND
        if isinstance(command, DataStart) and self._body is Body.BINARY:
            return reply.BINARY_NEEDS_BDAT
        if isinstance(command, StartTls) and self.is_secure:
            return reply.TLS_ALREADY
        if isinstance(command, StartTls) and not (self._offer.starttls and self._terms.is_extended):
            return reply.NOT_SUPPORTED
        if isinstance(command, Auth) and self.is_authenticated:
            return reply.BAD_SEQUENCE
        return None

    def _no_line(self, why: NoLine) -> Event | Signal:
        return self._starved() if why is NoLine.INCOMPLETE else self._await(Refused(reply.LINE_TOO_LONG))

    def _starved(self) -> Signal:
        if not self._has_ended:
            return NEED_DATA
        self._close()
        return PAUSED

    def _await(self, event: Event) -> Event:
        self._pending, self._next = event, TRANSITIONS[self.state].get(type(event))
        return event

    # --- content ---------------------------------------------------------------------------------------

    def _next_data(self, reader: DataReader) -> Event | Signal:
        if reader.is_done:
            return self._await(DataEnd(reader.size, reader.is_too_big))
        octets = self._lines.take_all()
        if not octets:
            return self._starved()
        content = reader.feed(octets)
        self._lines.add(reader.rest)
        return Content(content) if content else self._next_data(reader)

    def _begin_chunk(self, command: ChunkStart | LastChunkStart, step: Next | None) -> Event | Signal:
        # A refused BDAT has octets too. They are dropped before the reply is sent, RFC 3030 section 2.
        is_offered = self._offer.chunking and self._terms.is_extended
        if not is_offered or step is None or step.done is None:
            refusal = OUT_OF_SEQUENCE.get((self.state, type(command)), reply.CHUNK_TOO_EARLY)
            self._dropped_answer = refusal if is_offered else reply.NOT_SUPPORTED
            self._dropping = command.size
            self.state = step.refused if step is not None and step.refused is not None else self.state
            return self._drop_chunk()
        if self._chunks is None:
            is_binary = self._body is Body.BINARY
            self._chunks = ChunkReader(self._offer.size_max, is_binary=is_binary, normalize=self._normalize)
        self._chunks.begin(command.size, is_last=type(command) is LastChunkStart)
        self.state = step.done
        return self._feed_chunk(self._chunks)

    def _next_chunk(self, reader: ChunkReader) -> Event | Signal:
        if reader.is_done:
            return self._await(ChunkEnd(reader.size, reader.is_last, reader.is_too_big))
        return self._feed_chunk(reader) if len(self._lines) else self._starved()

    def _feed_chunk(self, reader: ChunkReader) -> Event | Signal:
        content = reader.feed(self._lines.take_all())
        self._lines.add(reader.rest)
        return Content(content) if content else self._next_chunk(reader)

    def _drop_chunk(self) -> Event | Signal:
        octets = self._lines.take_all()
        if len(octets) < self._dropping:
            self._dropping -= len(octets)
            return self._starved()
        self._lines.add(octets[self._dropping :])
        self._dropping = -1
        return self._await(Refused(self._dropped_answer, "BDAT"))

    # --- replies ---------------------------------------------------------------------------------------

    def send_greeting(self, answer: Reply) -> bytes:
        """Greet: 220, or 554 (no service: only QUIT is served then), or 421 (closed). Return the octets to send."""
        if self._pending is not _GREETING:
            raise DriverError("the greeting has been sent")
        step = TRANSITIONS[State.CONNECTED][Greeting]
        after = step.done if answer.is_positive else step.refused
        assert after is not None
        self.state, self._pending = after, None
        if answer.code == _CLOSING:
            self._close()
        return answer.to_wire()

    def send_reply(self, answer: Reply) -> bytes:
        """Answer the pending event; the state moves on as TRANSITIONS says. Return the octets to send.

        Raises:
            DriverError: nothing awaits a reply, or not such a one, or not only one.
        """
        if self._is_lmtp and self.replies_due != 1 and answer.code != _CLOSING:
            raise DriverError(f"LMTP: {self.replies_due} replies are due, one per recipient")
        self._settle(answer.code)
        return answer.to_wire()

    def send_replies(self, answers: Sequence[Reply]) -> bytes:
        """Answer the end of content on LMTP, one reply for each accepted recipient in their order.

        RFC 2033 section 4.2 for DATA, section 4.3 for BDAT LAST. Elsewhere it takes a sequence of one.

        Raises:
            DriverError: as ``send_reply``, or the number is wrong.
        """
        if len(answers) != self.replies_due:
            raise DriverError(f"{len(answers)} replies given, {self.replies_due} are due")
        codes = [answer.code for answer in answers]
        self._settle(_CLOSING if _CLOSING in codes else min(codes))
        return b"".join(answer.to_wire() for answer in answers)

    def tls_started(self) -> None:
        """The handshake is over: forget all the client has said (RFC 3207 section 4.2), also octets not yet used.

        Raises:
            DriverError: no 220 has been said to STARTTLS.
        """
        if self._pending is not _HANDSHAKE:
            raise DriverError("no TLS handshake is under way")
        after = TRANSITIONS[State.TLS][TlsDone].done
        assert after is not None
        self._lines.take_all()
        self.state, self._pending = after, None
        self.is_secure, self.is_authenticated = True, False
        self._terms = Terms(self._offer)

    def _settle(self, code: int) -> None:
        event, step = self._pending, self._next
        if event is None or isinstance(event, _MARKS):
            raise DriverError("nothing awaits a reply")
        if code == _CLOSING:
            self._close()
            return
        kind = code // 100
        if step is None:  # Refused, which leads nowhere
            after = self.state if kind > 3 else None
        else:
            after = step.done if kind == 2 else step.more if kind == 3 else step.refused
        if after is None:
            raise DriverError(f"{code} is no answer to {type(event).__name__}")
        self._pending = None
        self.state = after
        self._enter(after, event, code)

    def _enter(self, after: State, event: Event, code: int) -> None:
        """Keep what must be known in the new state, and nothing that belonged to the old one."""
        kind = type(event)
        if kind is RcptTo:
            self.recipients += code < 400
        elif isinstance(event, MailFrom):
            if after is _MAIL:
                self._body = event.body
                if event.smtputf8:
                    self._terms = Terms(self._offer, self._terms.is_extended, smtputf8=True)
        elif after is _DATA:
            self._data = DataReader(self._offer.size_max, normalize=self._normalize)
        elif after is _READY:
            self._forget_transaction()
            if isinstance(event, Hello) and code < 400:
                self._terms = Terms(self._offer, event.verb is not HelloVerb.HELO)
            elif code == _AUTHENTICATED:
                self.is_authenticated = True
        elif after is _FAILED:
            self._chunks = None
        elif after is _TLS:
            self._pending = _HANDSHAKE
        elif after is _CLOSED:
            self._close()

    def _forget_transaction(self) -> None:
        self.recipients = 0
        self._data = self._chunks = None
        if self._terms.smtputf8:
            self._terms = Terms(self._offer, self._terms.is_extended)

    def _close(self) -> None:
        self.state = _CLOSED
        self._pending = _NOTHING
        self._forget_transaction()
        self._lines.take_all()
