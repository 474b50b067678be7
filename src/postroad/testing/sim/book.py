"""What the outside world saw: what each client was told, what each next hop was given and answered, what broke when.

Owns: the records on which the judge rests. Does not own: laws (judge.py). Nothing in it comes from the relay but what
it said over the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from postroad.testing.sim.story import Terms

ITSELF: Final = "the simulation itself"
"""How a trouble is told that is no law of the product's: a story could not be played, or the world around it broke."""


class Sent(msgspec.Struct):
    """One transaction of a client."""

    token: str
    attempt: int
    client: str
    sender: str
    notify: str
    hash: bytes
    size: int
    recipients: list[str] = []
    """Those that were answered 250."""
    refused: list[str] = []
    dot_at: float = 0.0
    """When the final dot was sent; 0.0: never."""
    code: int = 0
    """The final reply; 0: none was heard."""
    told_at: float = 0.0
    name: str = ""
    """The id by which the relay says it queued the message."""
    worker: str = ""
    hash_ended: bytes = b""
    """Of the content with a CRLF more, where it ends without: by DATA it cannot be sent on in another way."""

    @property
    def key(self) -> tuple[str, int]:
        return self.token, self.attempt

    def is_content(self, seen: bytes, *, ends_lines: bool = False) -> bool:
        """True if what was seen somewhere, by its hash, is what was sent. ``ends_lines``: where all lines must end."""
        return seen == self.hash or (ends_lines and bool(self.hash_ended) and seen == self.hash_ended)


class Silence(msgspec.Struct, frozen=True):
    """A client waited in vain, on a connection that stood."""

    begin: float
    end: float
    """When its patience was over."""
    client: str
    address: str
    worker: str


class Take(msgspec.Struct):
    """A message that a next hop took as its own."""

    token: str
    attempt: int
    peer: str
    sender: str
    recipients: tuple[str, ...]
    at: float
    hash: bytes
    report: tuple[tuple[str, str], ...]
    worker: str
    name: str = ""
    """Message-ID of a report."""
    mail_at: float = 0.0
    """When its MAIL came."""
    code: int = 250
    """What it answered; 0: the connection went before."""
    by_chunks: bool = False
    """True if it came by BDAT."""
    reply_at: float = 0.0
    """When the answer had reached the relay; 0.0: it never did."""


class Refusal(msgspec.Struct, frozen=True):
    """A no from a next hop, or from DNS."""

    at: float
    code: int
    stage: str
    peer: str
    reply_at: list[float]
    """One value once it had reached the relay."""


class Crash(msgspec.Struct, frozen=True):
    """The end of a process or of all."""

    at: float
    how: str
    place: str
    workers: tuple[str, ...]
    between: str
    """``dot``: a client waited for the reply to its final dot; ``record``: a delivery was not yet recorded; or both."""


class Order(msgspec.Struct):
    """What a person asked of the relay, and heard."""

    number: int
    at: float
    verb: str
    of: str
    what: str
    """The id, address, domain or destination that was named."""
    who: str
    told_at: float = 0.0
    """When it was answered; 0.0: never."""
    recipients: int = 0
    messages: int = 0
    in_flight: int = 0
    unreached: tuple[int, ...] = ()
    """Shards that were still on their way to a worker, as the person heard."""
    refused: str = ""
    """Why it was not done, or not all of it, as the person heard."""
    until: float = 0.0
    """When it ends by itself; 0.0: it does not."""
    connections: int = 0
    terms: Terms | None = None

    @property
    def is_done(self) -> bool:
        """True if the relay said that it did it."""
        return self.told_at > 0.0 and not self.refused


class Book:
    """All of it."""

    def __init__(self, time: Callable[[], float]) -> None:
        self.time = time
        self.sent: dict[tuple[str, int], Sent] = {}
        self.takes: list[Take] = []
        self.silences: list[Silence] = []
        self.refusals: dict[str, list[Refusal]] = {}
        """By recipient."""
        self.crashes: list[Crash] = []
        self.stops: list[Crash] = []
        """Orderly ends of workers, likewise."""
        self.starts: list[tuple[float, str]] = []
        self.hangs: list[tuple[float, float]] = []
        """When the ledger was stopped, and for how many seconds."""
        self.lines: list[tuple[float, str]] = []
        """The timeline."""
        self.waiting_dots = 0
        self.dots = 0
        self.replies = 0
        self.last_reply_at = -1.0
        self.in_flight = 0
        self.broken: list[str] = []
        """What the relay's own code raised that nobody caught."""
        self.held: list[tuple[float, str, int]] = []
        """When a next hop saw so many connections, of those that are many."""
        self.reused: list[tuple[float, str, int]] = []
        """When a next hop saw a MAIL on a connection that had had one, and the how manieth."""
        self.unheard: list[tuple[float, str]] = []
        """When content came to a next hop behind a RSET that it had refused."""
        self.orders: list[Order] = []
        self.reloads = 0
        self.on_order: Callable[[int], None] = lambda n: None
        self.on_reload: Callable[[int], None] = lambda n: None
        """Between prepare and switch."""
        self.on_dot: Callable[[int], None] = lambda n: None
        self.on_reply: Callable[[int], None] = lambda n: None

    def note(self, text: str) -> None:
        self.lines.append((self.time(), text))

    def refuse(self, recipient: str, code: int, stage: str, peer: str) -> Refusal:
        refusal = Refusal(self.time(), code, stage, peer, [])
        self.refusals.setdefault(recipient.lower(), []).append(refusal)
        return refusal

    def dot(self) -> None:
        self.dots += 1
        self.waiting_dots += 1
        self.on_dot(self.dots)

    def reply(self) -> None:
        """A next hop's 250 for a message has reached the relay."""
        self.replies += 1
        self.last_reply_at = self.time()
        self.on_reply(self.replies)
