"""The spool's face: the only door between inbound and outbound, and its promise.

The promise (RFC 5321 section 6.1): when ``put`` returns, the message survives kill -9
and loss of power. When it raises SpoolRefused, the message was not taken and the
client must be told so. There is no third case, so a put is never cancelled or timed out: callers
shield it and await it; if the disk hangs, the connection is dropped without a reply.

Owns: the values that cross the face, and the Protocol. Implementations: Shard (shard.py, SQLite) and
testing/memory_spool.py; both pass tests/contracts/test_spool.py.

A message has recipients numbered by their place in its envelope; each recipient in the
queue is one *delivery* (message id, number), in a DeliveryState. A delivery that has ended has no
row. A message whose last delivery has ended is removed with its content. A message may move to another
shard (transfer.py), under the same id and with all its states: it is durable there before it is removed here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from postroad.core.envelope import Envelope
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState, Outcome

RECORD_DELAY_MAX: Final = 0.05
"""Seconds until what was recorded is durable at the latest, while the disk works: a crash repeats at most what was
delivered in that time (RFC 5321 section 6.1 allows a duplicate, never a loss)."""


class Why(StrEnum):
    """Why the spool refuses a message."""

    FULL = "full"  # below [spool] min_free, or ENOSPC: 452
    TROUBLE = "trouble"  # a write or sync failed, or the shard is being reopened: 451
    BUSY = "busy"  # more waits for the disk than we hold: 451
    CLOSED = "closed"  # stopping: 421


class SpoolRefused(Exception):
    """The message was not taken. The world's fault or overload, never the client's: a 4yz."""

    def __init__(self, why: Why, detail: str = "") -> None:
        super().__init__(f"spool refuses ({why.value}): {detail}")
        self.why = why


class ContentDamaged(Exception):
    """What is stored is not what we wrote (its hash differs). The message was set aside, not deleted."""


class SpoolFile(msgspec.Struct, frozen=True, array_like=True):
    """The content of a large message in a file of the shard: durable, not yet referenced by a row."""

    name: str
    size: int
    hash: bytes


class BodyWriter(Protocol):
    """Takes a large content as it comes in, into a file beside the database."""

    async def write(self, octets: bytes) -> None:
        """Append. Returns when at most a few hundred KiB wait in memory. Raises SpoolRefused."""

    async def finish(self) -> SpoolFile:
        """Sync the file and its directory. Raises SpoolRefused; the file is then gone."""

    async def discard(self) -> None:
        """Forget it, at any time. Never raises."""


Content = bytes | SpoolFile


class NewMessage(msgspec.Struct, frozen=True):
    """A message to keep."""

    id: MessageId
    envelope: Envelope
    content: Content
    received_at: float
    """Seconds since the epoch, UTC."""


class DeliveryKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Names one delivery."""

    message: MessageId
    number: int
    """Index into ``envelope.recipients``."""


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """One recipient in the queue, as its row says."""

    message: MessageId
    number: int
    domain: str
    """Of the recipient: A-labels in lower case, or an address literal; "" for a bare Postmaster."""
    priority: int
    state: DeliveryState
    attempts: int
    due_at: float
    warned: bool
    """True once a "delayed" report was made (or is forbidden)."""
    last: Outcome | None
    """The last outcome, if there was an attempt."""


class QueuedMessage(msgspec.Struct, frozen=True):
    """A message with some of its deliveries: what a claim, a report or a listing is about."""

    id: MessageId
    envelope: Envelope
    received_at: float
    size: int
    """Octets of content."""
    deliveries: tuple[Delivery, ...]
    content: bytes | None = None
    """The content, where it still is in memory from coming in. Else ``Spool.open`` it."""


class Ruling(msgspec.Struct, frozen=True, array_like=True):
    """What becomes of one claimed delivery: made by outbound/trouble.py, made durable by ``record``."""

    number: int
    outcome: Outcome
    next: DeliveryState | None
    """None: it has ended. outcome.Dropped then leaves a durable drop row."""
    due_at: float = 0.0
    """For DUE: when to try again."""
    warned: bool = False
    """For DUE: a delay report was made, or must not be made. No attempt is counted, ``last`` stays as it was."""


class ContentReader(Protocol):
    """The content of one message, checked against its hash before the first octet is given."""

    size: int

    async def read(self, offset: int, octets_max: int) -> bytes:
        """Return 1 to ``octets_max`` octets, or b"" at the end. Raises OSError."""

    def close(self) -> None: ...


def wants_report(envelope: Envelope, number: int) -> bool:
    """True if the failure of a recipient is reported: there is a sender, who wants to be told (RFC 3461)."""
    return envelope.sender is not None and envelope.recipients[number].wants_failure


WantedBack = Callable[[Mapping[MessageId, AbstractSet[int]], bool], Sequence[Delivery]]
"""Is asked for claimed deliveries, by message and number; returns those that only wait in memory, as they were claimed.
True: it gives them back, by ``unclaim``, with whatever goes together with them, before it returns."""
Told = Callable[[Sequence[QueuedMessage]], None]
"""Hears of a slice of a bulk change: messages with those of their deliveries that were changed, as they were before."""


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which deliveries a person means. All given conditions must hold; patterns as in routes."""

    ids: tuple[MessageId, ...] = ()
    to: str = ""
    """``user@domain``, ``domain``, ``*.domain`` or ``*``."""
    sender: str = ""
    """Likewise; ``<>`` is the null reverse-path."""
    domain: str = ""
    """The recipient's domain exactly (fast)."""
    state: str = ""
    """``due``, ``deferred`` (due and tried before), ``held``, ``report``; empty: any."""


class Page(msgspec.Struct, frozen=True):
    """A slice of a listing, in the order of ids."""

    messages: tuple[QueuedMessage, ...]
    after: MessageId | None
    """Give it to the next call; None: this was the last page."""


class DomainStats(msgspec.Struct, frozen=True):
    """How much waits for one recipient domain."""

    domain: str
    due: int
    """Recipients in state DUE, whatever the time."""
    held: int
    reports: int
    next_due_at: float | None


class SpoolStats(msgspec.Struct, frozen=True):
    """Counts that are kept as rows change: costs nothing to ask."""

    messages: int
    recipients: int
    held: int
    reports: int
    octets: int
    oldest_at: float | None
    accepting: bool
    trouble: str
    """Why it is not accepting; empty if it is."""


class Changed(msgspec.Struct, frozen=True):
    """What a bulk change did (or, in a dry run, would do)."""

    recipients: int
    messages: int
    in_flight: int
    """Matching deliveries that were in somebody's hands at that moment, as a rule being attempted: left alone. What was
    claimed and only waited in memory is none of them."""
    unreached: tuple[int, ...] = ()
    """Numbers of shards without a worker that are not yet moved into one that has: what matches there was left alone,
    and is counted nowhere. A spool never says any."""


class Drop(msgspec.Struct, frozen=True):
    """What is left of a delivery that ended by a named rule or person: committed with its end."""

    message: MessageId
    number: int
    recipient: str
    rule: str
    reply: str
    """The last reply heard; empty if none."""
    at: float


class Spool(Protocol):
    """One shard. All calls on the event loop; what blocks runs through Threads."""

    # --- in ---
    def new_id(self) -> MessageId:
        """Return an id for a message about to be put (its trace field names it)."""

    def begin_body(self, message: MessageId) -> BodyWriter:
        """Start a large content. Nothing touches the disk before the first write."""

    async def put(
        self,
        message: NewMessage,
        *,
        replaces: Sequence[tuple[MessageId, Sequence[Ruling]]] = (),
        told: Callable[[], None] | None = None,
    ) -> None:
        """Keep a message. On return it is durable and may be claimed.

        ``replaces``: rulings of other messages that become true in the same transaction
        (a report takes the place of the deliveries it tells of; a delay report marks them warned).
        Where all of them end deliveries, the message is taken while the disk is FULL too.

        ``told`` is called on the loop, once, as soon as the message is known to be kept: before this returns, or, where
        it raised because a sync failed, when the store is open again and has the message all the same.

        Raises:
            SpoolRefused: not taken, nothing of it remains. But one with ``replaces`` may be kept, with them: of that
                ``told`` hears.
        """

    def refusing(self) -> Why | None:
        """Return why a put would be refused now, or None. From memory: asked at every MAIL."""

    def on_kept(self, listener: Callable[[QueuedMessage], bool]) -> None:
        """Call ``listener`` on the loop for each message that has become durable, with its content if that is small.

        True: the listener claims all its deliveries at once. Otherwise they wait in the queue.
        """

    def on_wanted_back(self, listener: WantedBack) -> None:
        """Ask ``listener``, on the loop, which claims only wait: steering leaves the others alone, and no more."""

    # --- out ---
    def due_domains(self, now: float, limit: int) -> Sequence[str]:
        """Return domains with unclaimed deliveries due, the longest due first. From memory."""

    def pause(self, domain: str, until: float) -> None:
        """Leave the domain out of ``due_domains`` and ``next_due_at`` until then (a time past: not any more).

        For a destination that is down or has all it can take. In memory; flush and release end it.
        """

    def next_due_at(self) -> float | None:
        """Return when the next unclaimed delivery is due (seconds since the epoch), or None. From memory."""

    async def claim(self, domain: str, now: float, limit: int) -> Sequence[QueuedMessage]:
        """Claim up to ``limit`` due deliveries of the domain, by priority, then due. One entry a message.

        Claims are in memory: a crash frees them.
        """

    async def open(self, message: MessageId) -> ContentReader:
        """Open the content of a claimed or listed message.

        Raises:
            ContentDamaged: the hash differs; set aside, its deliveries are out of the queue, a fact was emitted.
            KeyError: no such message.
        """

    def record(self, message: MessageId, rulings: Sequence[Ruling]) -> None:
        """Make outcomes of claimed deliveries durable, with the next batch, at the latest after RECORD_DELAY_MAX.

        They stay claimed until then. If the disk refuses, they are kept in memory and written when it works again.
        """

    def unclaim(self, message: MessageId, numbers: Sequence[int]) -> None:
        """Give claimed deliveries back untouched: not attempted. Their due time stays."""

    def due_reports(self, limit: int) -> Sequence[MessageId]:
        """Return messages with a report due and no delivery claimed. From memory."""

    async def claim_report(self, message: MessageId) -> QueuedMessage | None:
        """Claim all deliveries of the message whose report is due. None if there are none (any more)."""

    async def aged(
        self, after: MessageId, before: MessageId, limit: int, *, unwarned: bool
    ) -> tuple[Sequence[QueuedMessage], MessageId | None]:
        """Claim unclaimed DUE deliveries of messages with after < id < before, oldest first, due or not.

        ``unwarned``: only those not warned yet. Looks at ``limit`` rows at most; returns what it claimed, and the id up
        to which it has looked, or None at the end. For expiry and delay reports of mail that waits,
        also for a destination that is not even tried.
        """

    # --- steering ---
    # All raise SpoolRefused if nothing can be read now: "there is none" would be untrue. What was changed before stays.
    async def list(self, selection: Selection, *, after: MessageId | None, limit: int) -> Page: ...

    async def show(self, message: MessageId) -> QueuedMessage | None: ...

    async def drops_of(self, message: MessageId) -> Sequence[Drop]:
        """Return the drop rows of a message that are still kept, the oldest first; at most one a recipient."""

    async def flush(self, selection: Selection, now: float, *, dry_run: bool = False) -> Changed:
        """Make DUE deliveries due now."""

    async def hold(self, selection: Selection, *, dry_run: bool = False, told: Told | None = None) -> Changed:
        """Keep DUE deliveries until they are released.

        ``told``, here and below, hears of each slice once it is committed.
        """

    async def release(
        self, selection: Selection, now: float, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed: ...

    async def drop(
        self, selection: Selection, rule: str, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        """End deliveries without report, by a named rule or person; leaves a durable drop row each."""

    async def bounce(
        self, selection: Selection, outcome: Outcome, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        """End deliveries as failed: a report becomes due where one is wanted, else a drop row."""

    def stats(self) -> SpoolStats: ...

    async def oldest(self, domains: Sequence[str]) -> dict[str, QueuedMessage]:
        """Return the oldest message of each domain, with those of its deliveries that go there; none: not in it."""

    def domain_stats(self, limit: int) -> Sequence[DomainStats]:
        """Return the domains with most waiting, most first. From memory."""

    # --- life ---
    async def prune(self, now: float) -> None:
        """Forget drop rows that are older than DROPS_KEPT, a slice of them, at most once in PRUNE_EVERY.

        Where nothing can be written now, nothing is pruned.
        """

    async def flush_records(self) -> None:
        """Return when everything recorded so far is durable (an orderly stop, a test)."""

    async def close(self) -> None:
        """Write what is recorded, stop the writer, checkpoint, let go of the shard."""
