"""What is legal when: every state of a server's session, every transition, in one table.

Owns: State, TRANSITIONS, and what is said to commands out of sequence. Does not own: how
the table is followed (server.py), what a command may look like (commands.py).

If you touch TRANSITIONS, run tools/draw_states.py: docs/states.md is made from it.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final, NamedTuple

import msgspec

from postroad.core import reply
from postroad.core.reply import Reply
from postroad.smtp.commands import ChunkStart, LastChunkStart
from postroad.smtp.events import (
    Auth,
    AuthResponse,
    ChunkEnd,
    DataEnd,
    DataStart,
    Expand,
    Hello,
    Help,
    MailFrom,
    Noop,
    Quit,
    RcptTo,
    Refused,
    Reset,
    StartTls,
    Verify,
)


class State(IntEnum):
    """Where the session stands."""

    CONNECTED = auto()  # our greeting has not been sent
    TURNED_AWAY = auto()  # greeted with 554: no service, but QUIT is awaited (RFC 5321 section 3.1)
    GREETED = auto()  # no hello yet
    READY = auto()  # between transactions
    MAIL = auto()  # a sender, no recipient
    UNWANTED = auto()  # a sender, and every recipient was refused
    RCPT = auto()  # a sender and at least one recipient
    DATA = auto()  # content comes in
    CHUNK = auto()  # the octets of a BDAT come in
    LAST_CHUNK = auto()  # the octets of a BDAT LAST come in
    CHUNKED = auto()  # between two BDATs
    FAILED = auto()  # a BDAT was refused: only RSET, a hello or QUIT lead out
    AUTH = auto()  # a challenge awaits its response
    TLS = auto()  # 220 was said to STARTTLS: the handshake
    CLOSED = auto()


class Next(NamedTuple):
    """The state after each kind of reply. None: such a reply to this event would be a bug of ours."""

    done: State | None = None  # 2yz
    more: State | None = None  # 3yz
    refused: State | None = None  # 4yz, 5yz; but 421 always closes (section 3.8)


class Greeting(msgspec.Struct, frozen=True):
    """Not an event of the driver's: the client has connected."""


class TlsDone(msgspec.Struct, frozen=True):
    """Not an event of the driver's: the handshake is over."""


class Nothing(msgspec.Struct, frozen=True):
    """Closed: nothing is awaited any more."""


def _anywhere(here: State, after_reset: State) -> dict[type, Next]:
    """Return the transitions of the commands that are in order at any time (section 4.1.4)."""
    stay = Next(done=here, refused=here)
    return {
        Hello: Next(done=State.READY, refused=here),
        Reset: Next(done=after_reset, refused=here),
        Noop: stay,
        Verify: stay,
        Expand: stay,
        Help: stay,
        Quit: Next(done=State.CLOSED, refused=State.CLOSED),
    }


# state -> event -> the state after the reply. An event without an entry is out of sequence: see OUT_OF_SEQUENCE.
# ChunkStart and LastChunkStart have no reply of their own: their octets follow at once (RFC 3030 section 2). Where they
# have no "done" these octets are read and dropped before the command is refused.
TRANSITIONS: Final[dict[State, dict[type, Next]]] = {
    State.CONNECTED: {Greeting: Next(done=State.GREETED, refused=State.TURNED_AWAY)},
    State.TURNED_AWAY: {Quit: Next(done=State.CLOSED, refused=State.CLOSED)},
    State.GREETED: _anywhere(State.GREETED, State.GREETED),
    State.READY: {
        **_anywhere(State.READY, State.READY),
        MailFrom: Next(done=State.MAIL, refused=State.READY),
        Auth: Next(done=State.READY, more=State.AUTH, refused=State.READY),
        StartTls: Next(done=State.TLS, refused=State.READY),
    },
    State.MAIL: {
        **_anywhere(State.MAIL, State.READY),
        RcptTo: Next(done=State.RCPT, refused=State.UNWANTED),
        ChunkStart: Next(refused=State.FAILED),
        LastChunkStart: Next(refused=State.FAILED),
    },
    State.UNWANTED: {
        **_anywhere(State.UNWANTED, State.READY),
        RcptTo: Next(done=State.RCPT, refused=State.UNWANTED),
        ChunkStart: Next(refused=State.FAILED),
        LastChunkStart: Next(refused=State.FAILED),
    },
    State.RCPT: {
        **_anywhere(State.RCPT, State.READY),
        RcptTo: Next(done=State.RCPT, refused=State.RCPT),
        DataStart: Next(more=State.DATA, refused=State.RCPT),
        ChunkStart: Next(done=State.CHUNK),
        LastChunkStart: Next(done=State.LAST_CHUNK),
    },
    State.DATA: {DataEnd: Next(done=State.READY, refused=State.READY)},
    State.CHUNK: {ChunkEnd: Next(done=State.CHUNKED, refused=State.FAILED)},
    State.LAST_CHUNK: {ChunkEnd: Next(done=State.READY, refused=State.READY)},
    State.CHUNKED: {
        **_anywhere(State.CHUNKED, State.READY),
        ChunkStart: Next(done=State.CHUNK),
        LastChunkStart: Next(done=State.LAST_CHUNK),
    },
    State.FAILED: _anywhere(State.FAILED, State.READY),
    State.AUTH: {
        AuthResponse: Next(done=State.READY, more=State.AUTH, refused=State.READY),
        Refused: Next(refused=State.READY),  # not base64, or too long: the exchange has failed (RFC 4954 section 4)
    },
    State.TLS: {TlsDone: Next(done=State.GREETED)},
    State.CLOSED: {},
}

# What is out of sequence gets 503 (section 4.1.4). These say more:
OUT_OF_SEQUENCE: Final[dict[tuple[State, type], Reply]] = {
    (State.UNWANTED, DataStart): reply.NO_VALID_RECIPIENTS,  # section 3.3 leaves the choice
    (State.UNWANTED, ChunkStart): reply.NO_VALID_RECIPIENTS,
    (State.UNWANTED, LastChunkStart): reply.NO_VALID_RECIPIENTS,
    (State.FAILED, ChunkStart): reply.CHUNK_AFTER_FAILURE,
    (State.FAILED, LastChunkStart): reply.CHUNK_AFTER_FAILURE,
}
