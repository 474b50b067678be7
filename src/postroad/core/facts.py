"""What happened, typed: one struct for each kind of event.

Owns: the kinds of facts and their fields. Does not own: how a fact becomes a log line,
a metric or a stored row (observe makes all three of the same value, so they cannot
disagree). Whoever makes a thing happen emits its fact through ``faces.Outlet``.

A secret never enters a fact. Fields that may label a metric hold values of an enum or
of the configuration, so that labels are bounded. Times (``at``) are seconds since the
epoch, UTC. Structs are stored by tag: never rename a tag or a field, only add.
"""

from __future__ import annotations

from typing import Final

import msgspec

from postroad.core.ids import MessageId, SessionId
from postroad.core.outcome import Stage
from postroad.core.reply import Reply


class Fact(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", omit_defaults=True, gc=False):
    """Something that happened."""

    at: float


# --- inbound -----------------------------------------------------------------------------------------


class Connected(Fact, frozen=True, kw_only=True, tag="connected"):
    """A client connected to a listener. Logged at debug only: there may be thousands a second."""

    session: SessionId
    listener: str
    client: str


class Refused(Fact, frozen=True, kw_only=True, tag="refused"):
    """We said no to a client: a connection, a command, a recipient or a message."""

    session: SessionId
    listener: str
    client: str
    stage: Stage
    reply: Reply
    rule: str
    """Which rule decided, e.g. ``relay.domains``, ``limits.connections_per_ip``, ``rfc5321``."""
    sender: str | None = None
    recipient: str | None = None
    message: MessageId | None = None
    user: str = ""
    """Who was logged in, or tried to."""


class Received(Fact, frozen=True, kw_only=True, tag="received"):
    """A message is durably ours: 250 follows."""

    message: MessageId
    session: SessionId
    listener: str
    client: str
    hello: str
    protocol: str
    tls: str
    sender: str
    recipients: tuple[str, ...]
    size: int
    seconds: float
    """From MAIL to durable."""
    rule: str
    """What allowed it, e.g. ``relay.networks`` or ``relay.domains``."""
    message_id: str = ""
    """The Message-ID header field, for people who search by it."""
    user: str = ""
    """Who had logged in; empty: nobody."""


class EarlyOctets(Fact, frozen=True, kw_only=True, tag="early-octets"):
    """Octets lay in the buffer where RFC 2920 section 3.1 allows none. A sign of a careless or hostile client."""

    session: SessionId
    listener: str
    client: str
    after: str
    """Command after which they came, or ``connect``."""


class SessionBroke(Fact, frozen=True, kw_only=True, tag="session-broke"):
    """A session ended against its will: reset, time-out, TLS failure, or an error of ours."""

    session: SessionId
    listener: str
    client: str
    why: str
    ours: bool = False
    """True if the fault is ours: a bug to report."""


# --- outbound ----------------------------------------------------------------------------------------


class Said(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One line, or one flight of lines, of a dialogue with a next hop."""

    seconds: float
    """Since the attempt began."""
    by_us: bool
    text: str
    """Without line ends; several lines are joined by `` | ``. Bounded by its maker, and never a secret or content."""


class Attempted(Fact, frozen=True, kw_only=True, tag="attempted"):
    """One try at one host, for one or more recipients of one message."""

    message: MessageId
    destination: str
    host: str
    address: str
    tls: str
    recipients: int
    stage: Stage
    reply: Reply | None
    """None: the host never answered."""
    seconds: float
    dialogue: tuple[Said, ...] = ()
    """What was said over the wire for this message, in order, content and secrets left out. Empty where nobody
    answered."""
    route: str = ""
    """Which [[route]] chose the destination: ``route:2`` counts from 1; ``route:default`` where none matched."""


class PlainAfterTlsFailure(Fact, frozen=True, kw_only=True, tag="plain-after-tls-failure"):
    """A handshake failed and the route allows clear text: tried once more without TLS."""

    destination: str
    host: str
    why: str


class RecipientFact(Fact, frozen=True, kw_only=True):
    """Fields that every fact about one recipient has."""

    message: MessageId
    number: int
    recipient: str


class Delivered(RecipientFact, frozen=True, kw_only=True, tag="delivered"):
    """The next hop answers for this recipient now."""

    sender: str
    destination: str
    host: str
    reply: Reply
    delay: float
    """Seconds since the message was received."""
    route: str = ""
    """Which [[route]] chose the destination."""


class Deferred(RecipientFact, frozen=True, kw_only=True, tag="deferred"):
    """Not yet; tried again at ``retry_at``."""

    destination: str
    host: str
    stage: Stage
    reply: Reply
    attempts: int
    retry_at: float
    route: str = ""
    """Which [[route]] chose the destination."""


class Bounced(RecipientFact, frozen=True, kw_only=True, tag="bounced"):
    """Refused for good; a report is due."""

    sender: str
    destination: str
    host: str
    stage: Stage
    reply: Reply
    delay: float
    route: str = ""
    """Which [[route]] chose the destination."""


class Expired(RecipientFact, frozen=True, kw_only=True, tag="expired"):
    """Its time was up; a report is due. ``reply`` is the last one heard."""

    sender: str
    destination: str
    host: str
    reply: Reply
    delay: float


class Dropped(RecipientFact, frozen=True, kw_only=True, tag="dropped"):
    """Ended by a named rule or person, without delivery or report. Durable: committed with the spool."""

    rule: str
    reply: Reply | None = None


class Reported(Fact, frozen=True, kw_only=True, tag="reported"):
    """A DSN (RFC 3464) was queued for the sender of ``message``."""

    message: MessageId
    report: MessageId
    action: str
    """failed, delayed, delivered or relayed (RFC 3464 section 2.3.3)."""
    to: str
    recipients: tuple[str, ...]


class Transferred(Fact, frozen=True, kw_only=True, tag="transferred"):
    """A message moved to another shard, which is another worker's: its own has no worker any more. Same id."""

    message: MessageId
    from_shard: int
    to_shard: int
    recipients: int
    """How many of its recipients had not ended."""


class Adopted(Fact, frozen=True, kw_only=True, tag="adopted"):
    """A shard that has no worker any more was emptied into another, and is gone."""

    shard: int
    into: int
    messages: int
    """That moved since this process began with it. Each has left its ``transferred``."""
    seconds: float


# --- steering ----------------------------------------------------------------------------------------


class Steered(Fact, frozen=True, kw_only=True, tag="steered"):
    """A person changed something: the queue (hold, release, delete, flush, bounce), a destination (suspend, resume,
    override, restore), a built-in user (user-add, user-change, user-remove)."""

    who: str
    verb: str
    recipients: int
    """Recipients in the queue that it was done to; 0 where it was not about those."""
    selection: str
    """What was meant: a selection of the queue, a destination and what was said of it, or the name of a user."""


class Held(RecipientFact, frozen=True, kw_only=True, tag="held"):
    """A person keeps it back until it is released."""

    who: str


class Released(RecipientFact, frozen=True, kw_only=True, tag="released"):
    """A person let it go on; it is due now."""

    who: str


# --- the relay itself ----------------------------------------------------------------------------------


class Started(Fact, frozen=True, kw_only=True, tag="started"):
    version: str
    listeners: tuple[str, ...]
    waiting: int
    """Recipients found in the queue."""


class Stopped(Fact, frozen=True, kw_only=True, tag="stopped"):
    why: str


class ProcessEnded(Fact, frozen=True, kw_only=True, tag="process-ended"):
    """A process of the relay ended without being asked to. It is started again."""

    process: str
    """Its role: ``worker``, ``ledger``, ``front``, ``nursery``. Bounded."""
    slot: int
    """Which worker; 0 for the others."""
    pid: int
    why: str


class ProcessStarted(Fact, frozen=True, kw_only=True, tag="process-started"):
    """A process of the relay serves: the first of its slot, or one in place of one that ended."""

    process: str
    slot: int
    pid: int
    seconds: float
    """From its fork, or the end of its predecessor, to ready."""


class Reloaded(Fact, frozen=True, kw_only=True, tag="reloaded"):
    """A person had the configuration read again."""

    who: str
    changed: tuple[str, ...] = ()
    """Keys whose values are in force now."""
    needs_restart: tuple[str, ...] = ()
    """Keys that were changed too, and whose old values stay in force until a restart."""
    why: str = ""
    """Why nothing was taken over; empty if it was."""


class Trouble(Fact, frozen=True, kw_only=True, tag="trouble"):
    """Something outside is wrong and we work around it: disk, certificate, DNS, a listener."""

    what: str
    """A short bounded name, e.g. ``spool``, ``disk``, ``certificate``, ``accept``."""
    why: str
    over: bool = False
    """True when the trouble has ended."""


class Damaged(Fact, frozen=True, kw_only=True, tag="damaged"):
    """A row or a database did not hold what we wrote. Set aside, never deleted."""

    what: str
    where: str
    message: MessageId | None = None


class Incomplete(Fact, frozen=True, kw_only=True, tag="incomplete"):
    """What a story lacks that is being told: said in the story alone, never stored or logged."""

    why: str


AnyFact = (
    Connected | Refused | Received | EarlyOctets | SessionBroke
    | Attempted | PlainAfterTlsFailure | Delivered | Deferred | Bounced | Expired | Dropped | Reported
    | Transferred | Adopted | Steered | Held | Released
    | Started | Stopped | ProcessEnded | ProcessStarted | Reloaded | Trouble | Damaged | Incomplete
)  # fmt: skip
KINDS: Final = AnyFact.__args__
