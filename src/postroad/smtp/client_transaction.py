"""One transaction of a client: what to say next, and what the answers mean for each recipient.

Owns: flights (which commands travel together), the results, who goes into another
transaction because the server takes only so many at once. Does not own: legality and matching
(client.py), the content itself (the driver sends it when ``wants_content``), outcomes.

The driver's loop: write what ``take_octets`` gives; send the content where it is wanted; else
feed the connection, and give its answers to ``hear``; until ``is_over``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from postroad.core.envelope import Envelope
from postroad.core.outcome import Stage
from postroad.core.reply import Reply
from postroad.core.units import KIB
from postroad.smtp.client import NEEDS_RESET, Answer, ClientConnection, Command, State
from postroad.smtp.client_commands import format_mail, format_rcpt
from postroad.smtp.client_fit import Fit
from postroad.smtp.errors import DriverError
from postroad.smtp.extensions import Protocol

FLIGHT_RECIPIENTS_MAX: Final = 100
"""RCPT commands in one flight. A server must take 100 recipients, RFC 5321 section 4.5.3.1.8."""
FLIGHT_OCTETS_MAX: Final = 32 * KIB
"""Octets of commands in one flight. RFC 2920 section 3.1: both sides must not wait for each other with full windows;
this much fits our own write buffer, so that we are reading by the time the server's replies fill the window."""
CHUNK_IN_FLIGHT_MAX: Final = 64 * KIB
"""Octets of content that travel with the commands by BDAT: a refusal wastes them."""

STAGES: Final = {
    Command.GREETING: Stage.GREETING,
    Command.EHLO: Stage.HELLO,
    Command.HELO: Stage.HELLO,
    Command.LHLO: Stage.HELLO,
    Command.STARTTLS: Stage.TLS,
    Command.AUTH: Stage.AUTH,
    Command.RSET: Stage.MAIL,
    Command.MAIL: Stage.MAIL,
    Command.RCPT: Stage.RCPT,
    Command.DATA: Stage.DATA,
    Command.DOT: Stage.DOT,
    Command.BDAT: Stage.DOT,
    Command.QUIT: Stage.DONE,
}
"""Where an attempt is while a command awaits its reply."""


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What the next hop said about one recipient."""

    number: int
    """Index into ``envelope.recipients``."""
    reply: Reply
    stage: Stage


class Transaction:
    """Carries one message to some of its recipients.

    ``results``: recipient number -> Result, complete when ``is_over``; if the connection breaks before, those who
    are in it have their verdict all the same.
    """

    __slots__ = (
        "_chunk",
        "_connection",
        "_envelope",
        "_fit",
        "_heard",
        "_mail_refused",
        "_numbers",
        "_said",
        "_sent_content",
        "_size",
        "_step",
        "content_in_flight",
        "is_over",
        "left_over",
        "results",
        "taken",
        "wants_content",
    )

    def __init__(
        self,
        connection: ClientConnection,
        envelope: Envelope,
        numbers: Sequence[int],
        *,
        size: int,
        fit: Fit,
        chunk: bytes | None = None,
    ) -> None:
        """``numbers``: recipients that ``fit`` does not refuse, at least one. ``size``: octets of content.
        ``chunk``: the whole content, where it is to go by BDAT and is in memory."""
        if not numbers:
            raise DriverError("a transaction without recipients")
        if chunk is not None and len(chunk) != size:
            raise DriverError(f"a chunk of {len(chunk)} octets that says {size}")
        self._connection = connection
        self._envelope = envelope
        self._numbers = numbers
        self._size = size
        self._fit = fit
        self._chunk = chunk if chunk is not None and len(chunk) <= CHUNK_IN_FLIGHT_MAX else None
        self._said = 0  # recipients named so far
        self._heard = 0  # ... and answered
        self._mail_refused = False
        self._sent_content = False  # content or BDAT is said: nothing more is
        self._step = Command.RSET if connection.state in NEEDS_RESET else Command.MAIL
        self.results: dict[int, Result] = {}
        self.taken: list[int] = []
        self.left_over: list[int] = []
        """Refused only because the server takes no more at once (RFC 5321 section 4.5.3.1.10). They have that refusal
        as their result until another transaction gives them a better one."""
        self.is_over = False
        self.content_in_flight = 0
        """How many octets at the end of what ``take_octets`` gave last are content."""
        self.wants_content = False
        """True: send the content now (by BDAT: behind the command that take_octets gave), then ``content_sent``."""

    @property
    def by_chunk(self) -> bool:
        """True if the content is wanted as it is, without dots: BDAT has told its size."""
        return self._fit.by_chunk

    def take_octets(self) -> bytes:
        """Return what is to be said now: b"" while replies are to come, or the content is wanted."""
        connection = self._connection
        if connection.in_flight or self.is_over or self.wants_content:
            return b""
        if connection.state is State.DOOMED:
            return self._say_lone_dot()
        flight: list[str] = []
        octets, said_before = 0, self._said
        together = connection.offers.pipelining
        while (line := self._next_line()) is not None:
            flight.append(line)
            octets += len(line) if line.isascii() else len(line.encode())
            is_full = self._said - said_before >= FLIGHT_RECIPIENTS_MAX and self._said < len(self._numbers)
            is_reset = self._step is Command.MAIL  # it is next: RSET is what was said
            if not together or is_reset or is_full or octets > FLIGHT_OCTETS_MAX:
                break
        if not flight:
            self.is_over = True
            return b""
        said = "".join(flight).encode()
        if self._step is Command.BDAT and self._sent_content:
            if self._chunk is not None:
                self.content_in_flight = len(self._chunk)
                return said + self._chunk
            self.wants_content = True
        return said

    def content_sent(self) -> None:
        """Note that the content is sent, with its final dot, or as far as it went."""
        self.wants_content = False
        if self.by_chunk:
            return
        self._sent_content = True
        replies = len(self.taken) if self._connection.protocol is Protocol.LMTP else 1
        self._connection.content_sent(replies)

    def content_refused(self, reply: Reply) -> None:
        """Note that the next hop did not let the content end. The connection is done with."""
        self._judge(self.taken, reply, Stage.DATA)
        self._connection.close()
        self.is_over = True

    @property
    def has_delivered(self) -> bool:
        """True if the next hop has taken the content for somebody."""
        return any(self.results[number].reply.is_positive for number in self.taken if number in self.results)

    def hear(self, answer: Answer) -> None:
        """Take the reply to one command."""
        command, reply = answer
        if command is Command.RCPT:
            self._hear_rcpt(reply)
        elif command is Command.MAIL:
            self._mail_refused = not reply.is_positive
            if self._mail_refused:
                self._judge(self._numbers, reply, Stage.MAIL)
        elif command is Command.DATA:
            if not reply.is_positive:
                self._judge(self.taken, reply, Stage.DATA)
            self.wants_content = self._connection.state is State.CONTENT
        elif command is not Command.RSET:
            self._hear_end(reply)
        if not self._connection.in_flight and not self.wants_content:
            self.is_over = self._is_finished()

    def _next_line(self) -> str | None:
        """Say the next command, or return None if none can be said before more is heard."""
        connection = self._connection
        match self._step:
            case Command.RSET:
                self._step = Command.MAIL
                return connection.send(Command.RSET, "RSET")
            case Command.MAIL:
                self._step = Command.RCPT
                line = format_mail(self._envelope, connection.offers, self._size, utf8=self._fit.utf8)
                return connection.send(Command.MAIL, line)
            case Command.RCPT if self._said < len(self._numbers) and not self._mail_refused:
                recipient = self._envelope.recipients[self._numbers[self._said]]
                self._said += 1
                return connection.send(Command.RCPT, format_rcpt(recipient, connection.offers, utf8=self._fit.utf8))
            case Command.RCPT if not self._mail_refused and (self.taken or self._heard < self._said):
                return self._say_content()
        return None

    def _say_content(self) -> str | None:
        connection = self._connection
        if not self._fit.by_chunk:
            self._step = Command.DATA
            return connection.send(Command.DATA, "DATA")
        all_heard = self._heard == self._said
        if self._chunk is None and not all_heard:
            return None  # a large chunk waits until somebody has been taken
        self._step = Command.BDAT
        self._sent_content = True
        line = connection.send(Command.BDAT, f"BDAT {self._size} LAST")
        if all_heard and connection.protocol is Protocol.LMTP:
            connection.expect_more(len(self.taken) - 1)
        return line

    def _say_lone_dot(self) -> bytes:
        # Not a message: nobody takes it. Its result is ignored, RSET cleans up before the next one.
        if self._connection.protocol is Protocol.LMTP:
            # A reply for each recipient taken would be none: nobody can tell what comes next (RFC 2033 section 4.2).
            self._connection.close()
            self.is_over = True
            return b""
        self._connection.content_sent()
        self._sent_content = True
        return b".\r\n"

    def _hear_rcpt(self, reply: Reply) -> None:
        number = self._numbers[self._heard]
        self._heard += 1
        if self._mail_refused:
            return
        if reply.is_positive:
            self.taken.append(number)
        elif self.taken and _is_too_many(reply):
            self.left_over.append(number)
            if reply.is_permanent:  # 552 is what RFC 821 had for it: RFC 5321 section 4.5.3.1.10
                reply = Reply(452, reply.detail, reply.text)
            self._judge((number,), reply, Stage.RCPT)
        else:
            self._judge((number,), reply, Stage.RCPT)
        connection = self._connection
        if self._sent_content and connection.in_flight == 1 and connection.protocol is Protocol.LMTP:
            connection.expect_more(max(0, len(self.taken) - 1))  # BDAT is next, and now we know for how many

    def _hear_end(self, reply: Reply) -> None:
        """Take the reply to the final dot or to BDAT; in LMTP the next of several."""
        if self._connection.protocol is Protocol.LMTP:
            position = len(self.taken) - 1 - self._connection.in_flight
            self._judge(self.taken[position : position + 1], reply, Stage.DOT)
        else:
            self._judge(self.taken, reply, Stage.DOT)

    def _is_finished(self) -> bool:
        if self._mail_refused:
            return self._connection.state is not State.DOOMED
        if self._sent_content:
            return True
        return self._step is Command.DATA and self._connection.state is not State.DOOMED

    def _judge(self, numbers: Sequence[int], reply: Reply, stage: Stage) -> None:
        for number in numbers:
            self.results[number] = Result(number, reply, stage)


def _is_too_many(reply: Reply) -> bool:
    """True if the server means "no more recipients in this transaction": RFC 5321 section 4.5.3.1.10.

    452 and 552 have other meanings, too (RFC 5321 section 4.2.3); the enhanced code tells them apart (RFC 3463
    section 3.6: X.5.3), where there is one.
    """
    return reply.detail == (5, 3) or (reply.code in (452, 552) and reply.detail is None)
