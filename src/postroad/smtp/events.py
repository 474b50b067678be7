"""What the server engine tells its driver.

Owns: the events, and the two signals that say why there is none. One command gives one
event, and each event needs exactly one reply; only Content needs none, and LMTP's end of content
needs one per recipient (RFC 2033 section 4.2).

Events are plain values: a driver may log them, queue them, compare them in a test. Never
subclass one, and never hang a callback on one.
"""

from __future__ import annotations

from enum import Enum, StrEnum, auto
from typing import Final

import msgspec

from postroad.core.address import Path
from postroad.core.envelope import Body, Recipient, Ret
from postroad.core.reply import Reply


class Signal(Enum):
    """Why ``next_event`` has no event."""

    NEED_DATA = auto()
    """Call ``receive_data`` before asking again."""
    PAUSED = auto()
    """It is the driver's turn: a reply, a handshake, or (closed) nothing any more."""


NEED_DATA: Final = Signal.NEED_DATA
PAUSED: Final = Signal.PAUSED


class HelloVerb(StrEnum):
    """How the client greeted us."""

    HELO = "HELO"
    EHLO = "EHLO"
    LHLO = "LHLO"


class Hello(msgspec.Struct, frozen=True, gc=False):
    """EHLO, HELO (RFC 5321 section 4.1.1.1) or LHLO (RFC 2033 section 4.1). Ends any transaction when accepted."""

    name: str
    """What the client calls itself: printable ASCII without spaces, otherwise unchecked, often untrue."""
    verb: HelloVerb = HelloVerb.EHLO


class MailFrom(msgspec.Struct, frozen=True, gc=False):
    """MAIL, RFC 5321 section 4.1.1.2: a transaction begins if the reply is positive."""

    sender: Path
    body: Body = Body.SEVEN_BIT
    smtputf8: bool = False
    ret: Ret | None = None
    envelope_id: str | None = None
    """ENVID, xtext undone."""
    size: int = 0
    """The SIZE parameter in octets, never more than we offer; 0 if none was given."""


class RcptTo(msgspec.Struct, frozen=True, gc=False):
    """RCPT, RFC 5321 section 4.1.1.3."""

    recipient: Recipient


class DataStart(msgspec.Struct, frozen=True, gc=False):
    """DATA, RFC 5321 section 4.1.1.4. Answer 354, or refuse."""


class Content(msgspec.Struct, frozen=True, gc=False):
    """Some of the message, dot-stuffing undone. Needs no reply."""

    octets: bytes


class DataEnd(msgspec.Struct, frozen=True, gc=False):
    """The final dot has come. The transaction is over, whatever the reply (RFC 5321 section 4.1.1.4)."""

    size: int
    """Octets of content, CRLFs counted, stuffed dots and the final dot not."""
    too_big: bool
    """True if content past our SIZE was dropped: answer 552."""


class ChunkEnd(msgspec.Struct, frozen=True, gc=False):
    """All octets of one BDAT have come, RFC 3030 section 2. Refuse it, and the transaction stays refused until RSET."""

    size: int
    """Octets of content of all chunks so far."""
    last: bool
    """True for BDAT LAST: the message is complete."""
    too_big: bool
    """True if content past our SIZE was dropped: answer 552."""


class Reset(msgspec.Struct, frozen=True, gc=False):
    """RSET."""


class Noop(msgspec.Struct, frozen=True, gc=False):
    """NOOP."""


class Quit(msgspec.Struct, frozen=True, gc=False):
    """QUIT. Closed once it is answered."""


class Verify(msgspec.Struct, frozen=True, gc=False):
    """VRFY."""

    argument: str


class Expand(msgspec.Struct, frozen=True, gc=False):
    """EXPN."""

    argument: str


class Help(msgspec.Struct, frozen=True, gc=False):
    """HELP."""

    argument: str = ""


class StartTls(msgspec.Struct, frozen=True, gc=False):
    """STARTTLS, RFC 3207 section 4. After a 220 the engine waits for ``tls_started``."""


class Auth(msgspec.Struct, frozen=True, gc=False):
    """AUTH, RFC 4954 section 4. Answer 334 with a challenge to go on, 235, or refuse."""

    mechanism: str
    """Upper case; one of those offered."""
    initial: bytes | None = None
    """The initial response, base64 undone; None if there was none, b"" for ``=``."""

    def __repr__(self) -> str:
        return f"Auth({self.mechanism!r})"


class AuthResponse(msgspec.Struct, frozen=True, gc=False):
    """The answer to a challenge. While it is awaited, Refused ends the exchange as well."""

    octets: bytes | None
    """Base64 undone; None: the client cancelled with ``*``, answer 501 (RFC 4954 section 4)."""

    def __repr__(self) -> str:
        return "AuthResponse()"


class Refused(msgspec.Struct, frozen=True, gc=False):
    """The engine already knows the answer: send ``reply`` and go on."""

    reply: Reply
    verb: str = ""
    """The command, as far as it was one that we know; for facts."""


Event = (
    Hello | MailFrom | RcptTo | DataStart | Content | DataEnd | ChunkEnd | Reset | Noop | Quit
    | Verify | Expand | Help | StartTls | Auth | AuthResponse | Refused
)  # fmt: skip
