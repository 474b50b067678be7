"""The client side of one SMTP or LMTP connection, sans-I/O: the mirror of server.py.

Rule 1: every state and every transition is in TRANSITIONS below.
Rule 2: nothing here reads, writes, sleeps or asks for the time. Commands leave as return values,
octets of the server come in through ``receive_data``, its answers leave through ``next_event``.
Rule 3: a transition fires when the reply is heard, not when the command is sent. Commands in flight
are matched with replies in their order (RFC 2920 section 3.1); that is all there is to pipelining.
Rule 4: nothing is said behind RSET before its reply is heard. A next hop that refuses it and takes all that follows,
content too, would have a message that is not known to be taken, and is sent again.

Owns: which command may be said when, which reply answers which command. Does not own: what to say
(client_transaction.py). If you touch TRANSITIONS, look at tests/dialogs/client, too.
"""

from __future__ import annotations

from collections import deque
from enum import Enum, IntEnum, auto
from typing import Final, NamedTuple, NoReturn

from postroad.core.reply import Reply
from postroad.smtp.errors import DriverError, PeerError
from postroad.smtp.extensions import Protocol
from postroad.smtp.offers import NO_OFFERS, Offers, parse_offers
from postroad.smtp.replies import BROKEN_REPLY, ReplyReader

RSET_REFUSED: Final = BROKEN_REPLY.with_text("The next hop refuses RSET")


class Signal(Enum):
    """Why ``next_event`` has no event."""

    NEED_DATA = auto()  # call receive_data() before asking again
    IDLE = auto()  # no command awaits its reply


class State(IntEnum):
    """Integers, since these are looked up for every command."""

    CONNECTED = auto()  # the greeting is to come
    GREETED = auto()
    READY = auto()  # no transaction
    TLS = auto()  # 220 to STARTTLS: the handshake is next
    AUTH = auto()  # an exchange of RFC 4954 section 4 is under way
    MAIL = auto()
    RCPT = auto()  # at least one recipient taken
    CONTENT = auto()  # 354: content and final dot are next
    DOOMED = auto()  # 354 although no recipient was taken: a lone dot is next, RFC 2920 section 3.1
    SPOILT = auto()  # a transaction that only RSET ends
    CLOSED = auto()


class Command(IntEnum):
    """What awaits a reply. GREETING is the connection itself, DOT the end of the content."""

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    LHLO = auto()
    STARTTLS = auto()
    AUTH = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    DOT = auto()
    BDAT = auto()
    RSET = auto()
    QUIT = auto()


class Step(NamedTuple):
    """Where a reply leads."""

    taken: State
    refused: State
    may_send: bool = True
    """False: the reply can only be one to what was in flight when a command before it was refused."""


def _late(taken: State, refused: State) -> Step:
    return Step(taken, refused, may_send=False)


_HELLO: Final = {
    Command.EHLO: Step(State.READY, State.GREETED),
    Command.HELO: Step(State.READY, State.GREETED),
    Command.LHLO: Step(State.READY, State.GREETED),
}
_RESET: Final = {
    Command.RSET: Step(State.READY, State.CLOSED),  # whoever refuses RSET cannot be followed
    Command.QUIT: Step(State.CLOSED, State.CLOSED),
}

# state -> command -> the state after the reply. A command with no entry must not be sent.
TRANSITIONS: Final[dict[State, dict[Command, Step]]] = {
    State.CONNECTED: {Command.GREETING: Step(State.GREETED, State.CLOSED)},
    State.GREETED: {**_HELLO, Command.QUIT: Step(State.CLOSED, State.CLOSED)},
    State.READY: {
        **_HELLO,
        **_RESET,
        Command.STARTTLS: Step(State.TLS, State.READY),
        Command.AUTH: Step(State.AUTH, State.READY),
        Command.MAIL: Step(State.MAIL, State.READY),
        Command.RCPT: _late(State.SPOILT, State.READY),
        Command.DATA: _late(State.DOOMED, State.READY),
        Command.BDAT: _late(State.READY, State.SPOILT),
        Command.DOT: _late(State.READY, State.READY),  # LMTP: the second recipient's reply and later ones
    },
    State.TLS: {},  # tls_started() leads out of here
    State.AUTH: {Command.AUTH: Step(State.READY, State.READY)},
    State.MAIL: {
        **_RESET,
        Command.RCPT: Step(State.RCPT, State.MAIL),
        Command.DATA: _late(State.DOOMED, State.SPOILT),
        Command.BDAT: _late(State.SPOILT, State.SPOILT),
    },
    State.RCPT: {
        **_RESET,
        Command.RCPT: Step(State.RCPT, State.RCPT),
        Command.DATA: Step(State.CONTENT, State.SPOILT),
        Command.BDAT: Step(State.READY, State.SPOILT),  # RFC 3030 section 2: after a refusal, RSET
    },
    State.CONTENT: {Command.DOT: Step(State.READY, State.READY)},
    State.DOOMED: {Command.DOT: Step(State.SPOILT, State.SPOILT)},
    State.SPOILT: {
        **_RESET,
        Command.RCPT: _late(State.SPOILT, State.SPOILT),
        Command.DATA: _late(State.DOOMED, State.SPOILT),
        Command.BDAT: _late(State.SPOILT, State.SPOILT),
    },
    State.CLOSED: {},
}

NEEDS_RESET: Final = frozenset({State.MAIL, State.RCPT, State.SPOILT})
"""States in which a transaction is open and MAIL needs RSET before it."""


class Answer(NamedTuple):
    """A reply and the command that it answers."""

    command: Command
    reply: Reply


class ClientConnection:
    """Say commands with ``send``, feed octets in, take answers out.

    ``state`` is what the replies heard so far lead to.
    """

    __slots__ = ("_ahead", "_awaited", "_replies", "offers", "protocol", "state")

    def __init__(self, protocol: Protocol = Protocol.SMTP) -> None:
        self.protocol = protocol
        self.state = State.CONNECTED
        self.offers: Offers = NO_OFFERS
        self._ahead = State.GREETED  # the state once every command in flight is taken; CLOSED behind RSET: rule 4
        self._awaited: deque[Command] = deque([Command.GREETING])
        self._replies = ReplyReader()

    @property
    def awaited(self) -> Command | None:
        """The command whose reply comes next, or None."""
        return self._awaited[0] if self._awaited else None

    @property
    def in_flight(self) -> int:
        """How many replies are to come."""
        return len(self._awaited)

    @property
    def is_ready(self) -> bool:
        """True if a transaction can begin, perhaps with RSET first."""
        return not self._awaited and (self.state is State.READY or self.state in NEEDS_RESET)

    @property
    def holds_octets(self) -> bool:
        """True if something came that answers nothing yet."""
        return self._replies.holds_octets

    def send(self, command: Command, line: str) -> str:
        """Note that ``command`` is said; return its line with CRLF.

        Raises:
            DriverError: it cannot be said now, or the line holds a line end.
        """
        step = TRANSITIONS[self._ahead].get(command)
        if step is None or not step.may_send:
            raise DriverError(f"{command.name} cannot be said in state {self._ahead.name}")
        if "\n" in line or "\r" in line or "\0" in line:
            raise DriverError(f"{command.name} with a line end or NUL in it")
        self._ahead = step.taken if command is not Command.RSET else State.CLOSED
        self._awaited.append(command)
        return line + "\r\n"

    def content_sent(self, replies: int = 1) -> None:
        """Note that content and final dot (or the lone dot) are said, or that they broke off. LMTP: a reply for each
        recipient taken, RFC 2033 section 4.2."""
        if self.state not in (State.CONTENT, State.DOOMED) or self._awaited:
            raise DriverError(f"no content is wanted in state {self.state.name}")
        self._awaited.extend([Command.DOT] * replies)
        self._ahead = TRANSITIONS[self.state][Command.DOT].taken

    def expect_more(self, replies: int) -> None:
        """Await so many further replies to BDAT, the only command in flight: LMTP, RFC 2033 section 4.3."""
        if not self._awaited or self._awaited[-1] is not Command.BDAT:
            raise DriverError("BDAT is not in flight")
        self._awaited.extend([Command.BDAT] * replies)

    def tls_started(self) -> None:
        """Note that the handshake is done: all that was said before is forgotten, RFC 3207 section 4.2."""
        if self.state is not State.TLS:
            raise DriverError("STARTTLS was not taken")
        self.state = self._ahead = State.GREETED
        self.offers = NO_OFFERS

    def close(self) -> None:
        """Nothing more is said or heard."""
        self.state = self._ahead = State.CLOSED
        self._awaited.clear()

    def receive_data(self, octets: bytes) -> None:
        """Take octets that the server sent."""
        self._replies.feed(octets)

    def next_event(self) -> Answer | Signal:
        """Return the next answer, or the Signal that says why there is none.

        Raises:
            PeerError: the server closes (421), or cannot be followed any more. The state is CLOSED.
        """
        if not self._awaited:
            self._refuse_unasked()
            return Signal.IDLE
        try:
            reply = self._replies.next_reply()
        except PeerError:
            self.close()
            raise
        if reply is None:
            return Signal.NEED_DATA
        code, command = reply.code, self._awaited[0]
        if code == 421:  # at any time: RFC 5321 section 3.8
            self._end(reply)
        if command is Command.RSET and code >= 400:
            self._end(RSET_REFUSED)
        step = TRANSITIONS[self.state].get(command)
        if step is None:  # it was in flight behind a hello that is refused
            self._end(BROKEN_REPLY.with_text(f"The next hop refuses what {command.name} needs"))
        if code >= 400:
            self.state = step.refused
        elif (code < 300) is (command is not Command.DATA):
            self.state = step.taken
        else:
            self._end(BROKEN_REPLY.with_text(f"{code} in answer to {command.name}"))
        self._awaited.popleft()
        if not self._awaited:
            self._ahead = self.state
        if command is not Command.RCPT:
            self._on_reply(command, reply)
        return Answer(command, reply)

    def check_silence(self) -> None:
        """See that the server has said nothing that it was not asked for.

        Raises:
            PeerError: it has, perhaps that it closes (421). The state is CLOSED.
        """
        if not self._awaited:
            self._refuse_unasked()

    def _on_reply(self, command: Command, reply: Reply) -> None:
        if command <= Command.LHLO and command is not Command.GREETING and reply.is_positive:
            self.offers = parse_offers(reply, is_extended=command is not Command.HELO)
        if command in (Command.DATA, Command.STARTTLS) and reply.is_positive:
            # The last of its group, RFC 2920 section 3.1: what lies behind it was said before we said ours. Behind
            # STARTTLS, somebody on the way could have put it there.
            self._refuse_unasked()

    def _refuse_unasked(self) -> None:
        if not self._replies.holds_octets:
            return
        self.close()
        reply = self._replies.next_reply()
        if reply is None or reply.code != 421:
            reply = BROKEN_REPLY.with_text("The next hop answers what was not asked")
        raise PeerError(reply)

    def _end(self, reply: Reply) -> NoReturn:
        self.close()
        raise PeerError(reply)
