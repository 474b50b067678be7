"""What a person may see and steer of the queue: the face, and the values that cross it.

Owns: ``Steering``, the one face that the command line works with, whether a relay runs (http/control_client.py asks it
over the control socket) or not (outbound/control.py on the spool itself); the rows of listings; ``ControlRefused``.
Does not own: doing it (outbound/control.py), how it travels (http/control_wire.py), how it looks (cli).

The field names of the rows are what ``--json`` prints and what the control socket says: never rename one, only add.
Ids are text, times are seconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from postroad.core.counter import Counter as Counter
from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId
from postroad.spool.face import Changed, Selection

PAGE_MAX: Final = 500
"""Messages in one page of a listing: few enough that a page is no work to speak of."""
PAGE_RECIPIENTS_MAX: Final = 2_000
"""Recipients in one page: it ends before the message with which it had more. A page has a message at least."""
DOMAINS_MAX: Final = 1000
"""Rows in one answer to ``stats``."""
STATES: Final = ("due", "deferred", "held", "report")
"""What a selection may ask for. ``due``: waits for an attempt, tried or not; ``deferred``: of these the tried ones."""


WHAT_IS_UNSURE: Final = "Part of it may be changed all the same: look when the disk works again, or try again."
"""What follows why a spool refused a change: after a failed sync nobody knows, until the disk works again."""


class ControlRefused(Exception):
    """No: the text is a sentence for the person, with what to do. ``status`` is the exit status it deserves."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.text = text
        self.status = status


class NotThere(ControlRefused):
    """What was named is not in the queue, or nothing is known of it."""


class Unanswered(ControlRefused):
    """Who was asked is away, or hangs: whether it was done is not known. Try again."""


class NoRelay(Unanswered):
    """Nobody listens on the control socket."""


class Change(StrEnum):
    """What can be done to deliveries."""

    FLUSH = "flush"
    HOLD = "hold"
    RELEASE = "release"
    DELETE = "delete"
    BOUNCE = "bounce"


class RecipientRow(msgspec.Struct, frozen=True, kw_only=True):
    """One recipient that is still in the queue."""

    number: int
    """Its place in the envelope."""
    address: str
    state: str
    """``due``: not yet tried; ``deferred``: to be tried again; ``held``; ``report``: ended, a report is due."""
    attempts: int
    next_at: float | None
    """When it is tried next; None where no attempt is due."""
    reason: str
    """What the last attempt came to; empty before the first."""
    host: str
    """The host that said so; empty where none did."""


class MessageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One message in the queue, with those of its recipients that the selection meant."""

    id: str
    received_at: float
    size: int
    sender: str
    """``<>`` is the null reverse-path."""
    client: str
    """Who gave it to us: an IP address, ``unix`` or ``local``."""
    user: str
    listener: str
    envelope_id: str
    recipients_total: int
    """How many the envelope had; those that have ended are not in ``recipients``."""
    recipients: tuple[RecipientRow, ...]


class MessagePage(msgspec.Struct, frozen=True):
    """A slice of a listing, the oldest message first."""

    messages: tuple[MessageRow, ...]
    after: MessageId | None
    """Give it to the next call; None: this was the last page."""


class DestinationRow(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for one recipient domain."""

    domain: str
    destination: str
    """The route or site that it goes by, as far as the relay has found out; empty if not."""
    status: str
    """How the destination does, in one word of the relay's; empty if nothing is known."""
    due: int
    held: int
    reports: int
    oldest_at: float | None
    next_at: float | None
    reason: str


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """The queue in numbers, and the domains with most waiting."""

    at: float
    messages: int
    recipients: int
    held: int
    reports: int
    octets: int
    oldest_at: float | None
    accepting: bool
    trouble: str
    """Why it takes no mail; empty if it does."""
    destinations: tuple[DestinationRow, ...]


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """Whether the relay is well, and which one it is."""

    version: str
    pid: int
    started_at: float
    at: float
    listeners: tuple[str, ...]
    """The addresses it listens on, as the configuration writes them."""
    accepting: bool
    trouble: str
    messages: int
    recipients: int


class DropRow(msgspec.Struct, frozen=True, kw_only=True):
    """A recipient that ended by a named rule or person: a row that was committed with the spool."""

    at: float
    number: int
    recipient: str
    rule: str
    reply: str


class Steering(Protocol):
    """What one known person may do with the queue: of a worker, of a spool nobody runs, or of all. All raise
    ControlRefused."""

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        """Return up to ``limit`` messages (at most PAGE_MAX, of PAGE_RECIPIENTS_MAX recipients), the oldest first."""

    async def show(self, message: MessageId) -> MessageRow:
        """Return one message with all its recipients that have not ended. Refuses if it is not in the queue."""

    async def stats(self, limit: int) -> QueueStats:
        """Return the totals, and up to ``limit`` domains (at most DOMAINS_MAX) with most waiting."""

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        """Do it to every delivery that the selection means; a dry run only counts them."""

    def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        """Yield what has lately happened to the message, then what happens, until it has left the queue.

        None: what happens to any message, from now on, without end; with ``everything`` facts that are about no
        message too. Raises NotThere for a message of which nothing is known.
        """

    async def health(self) -> Health: ...

    async def own_counters(self) -> tuple[Counter, ...]:
        """Return the numbers that metrics show; of several workers, the sums."""

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        """Return the durable rows of those of the message's recipients that were dropped, the oldest first.

        Empty if there are none (any more), also for a message that never was.
        """
