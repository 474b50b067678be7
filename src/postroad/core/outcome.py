"""What became of one recipient in one delivery attempt.

Values, not exceptions: an attempt always ends, and the spool stores how. Code that
talks to the network raises ``AttemptError``; outbound/trouble.py is the only place
that turns one into outcomes.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum

import msgspec

from postroad.core.reply import Reply


class Scope(StrEnum):
    """How far a failure reaches. The wider it is, the more messages it delays."""

    STREAM = "stream"  # this connection; the next host may do
    HOST = "host"  # this host; the next MX may do
    SITE = "site"  # every host of this destination: DNS, policy
    MESSAGE = "message"  # every recipient of this message
    RECIPIENT = "recipient"  # this recipient only


class Stage(StrEnum):
    """Where an attempt ended. Bounded, so it can label a metric."""

    ROUTE = "route"  # choosing the next hop
    DNS = "dns"
    CONNECT = "connect"
    GREETING = "greeting"
    HELLO = "hello"
    TLS = "tls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"  # the answer to DATA or BDAT
    DOT = "dot"  # the answer after the content
    STORE = "store"  # a local delivery: Maildir
    DONE = "done"


class Delivered(msgspec.Struct, frozen=True, array_like=True, tag="delivered", gc=False):
    """The next hop, or a local store, has it and answers for it."""

    reply: Reply
    host: str = ""
    """Name of the host that took it, for reports (Remote-MTA, RFC 3464 section 2.3.5)."""
    relayed: bool = False
    """True if the next hop could not promise DSN: NOTIFY=SUCCESS then gets "relayed" (RFC 3461 section 5.2.2)."""


class Deferred(msgspec.Struct, frozen=True, array_like=True, tag="deferred", gc=False):
    """Not yet; try again at ``retry_at``."""

    reply: Reply
    """Theirs, or our own 4yz where they said nothing."""
    retry_at: float
    """Seconds since the epoch, UTC."""
    host: str = ""
    stage: Stage = Stage.DONE


class Failed(msgspec.Struct, frozen=True, array_like=True, tag="failed", gc=False):
    """Never; ends in a report (RFC 3464) or in a drop by a named rule."""

    reply: Reply
    """Always 5yz, or the last 4yz when the time was up (``expired``)."""
    host: str = ""
    stage: Stage = Stage.DONE
    expired: bool = False
    """True if nobody refused it for good, but its time was up."""


class Dropped(msgspec.Struct, frozen=True, array_like=True, tag="dropped", gc=False):
    """Ended on purpose by a named rule or person, without delivery and without report."""

    rule: str
    """E.g. ``route:discard``, ``null-sender``, ``notify-never``, ``queue delete by root``."""


Outcome = Delivered | Deferred | Failed | Dropped


class DeliveryState(IntEnum):
    """What a recipient in the spool waits for. Stored: numbers never change their meaning."""

    DUE = 0  # an attempt, at due_at
    HELD = 1  # a person's release
    REPORT_FAILED = 2  # a failure report (RFC 3464), durably due
    REPORT_DELIVERED = 3  # a success report: delivered
    REPORT_RELAYED = 4  # a success report: handed to a host without DSN


class AttemptError(Exception):
    """A delivery attempt broke off.

    ``reply`` is None where the peer never answered (refused, timed out, closed). Such
    an error is transient by definition: no reply, no verdict.
    """

    def __init__(self, scope: Scope, reply: Reply | None, stage: Stage, why: str = "") -> None:
        super().__init__(f"{scope.value} failure at {stage.value}: {reply or why or 'no reply'}")
        self.scope = scope
        self.reply = reply
        self.stage = stage
        self.why = why

    @property
    def is_permanent(self) -> bool:
        return self.reply is not None and self.reply.is_permanent
