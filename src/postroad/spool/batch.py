"""What is written in one transaction: puts, records, and slices of work, with who waits for each.

Owns: the entries and what they know of their own size. Does not own: SQL (store_write.py), order and
bounds (writer.py), what memory learns afterwards (shard.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.spool.agenda import Claim
from postroad.spool.face import Delivery, NewMessage, Ruling, SpoolFile
from postroad.spool.rows import DeliveryRow, MessageRow, delivery_row, message_row, new_deliveries

if TYPE_CHECKING:
    from postroad.spool.store_write import WriteStore

ENTRY_OCTETS: int = 1_024
"""What an entry is counted as besides its content, octets."""


class PutEntry:
    """A message to keep, with its rows made, and what it replaces."""

    __slots__ = ("deliveries", "future", "is_doubtful", "message", "octets", "replaces", "row")

    def __init__(self, message: NewMessage, replaces: Sequence[RecordEntry], future: asyncio.Future[None]) -> None:
        self.message = message
        self.row: MessageRow = message_row(message)
        self.deliveries = new_deliveries(message)
        self.replaces = replaces
        self.future = future
        self.is_doubtful = False
        """True if the commit failed: it may be there all the same, until the reopening has looked."""
        self.octets = ENTRY_OCTETS if isinstance(message.content, SpoolFile) else ENTRY_OCTETS + len(message.content)

    @property
    def id(self) -> MessageId:
        return self.message.id

    def delivery_rows(self) -> list[DeliveryRow]:
        return [delivery_row(delivery) for delivery in self.deliveries]


class RecordEntry:
    """What became of claimed deliveries of one message."""

    __slots__ = ("applied", "claim", "is_doubtful", "pairs")

    def __init__(self, claim: Claim, pairs: list[tuple[Delivery, Ruling]]) -> None:
        self.claim = claim
        self.pairs = pairs
        self.is_doubtful = False
        """True after a failed commit: the disk may hold it or not, so it is written only where it is not there."""
        self.applied: list[tuple[Delivery, Ruling]] = []
        """What of it was there: counted already when the store was opened again."""


class WorkEntry:
    """A slice of other work, done in the transaction of a batch: at most a few hundred rows."""

    __slots__ = ("apply", "future", "learn", "result")

    def __init__(
        self,
        apply: Callable[[WriteStore, Batch], Any],
        future: asyncio.Future[Any],
        learn: Callable[[], None] | None = None,
    ) -> None:
        self.apply = apply
        """Called on the loop, inside the transaction."""
        self.future = future
        """Gets what ``apply`` returned, once it is durable."""
        self.learn = learn
        """Called on the loop when it is durable, before anything else sees the rows: for what memory counts."""
        self.result: Any = None


class Batch:
    """One transaction."""

    __slots__ = ("orphaned", "puts", "records", "removed", "works")

    def __init__(self) -> None:
        self.puts: list[PutEntry] = []
        self.records: list[RecordEntry] = []
        self.works: list[WorkEntry] = []
        self.orphaned: list[int] = []
        """Messages that a commit which seemed to fail had removed: their content files are to go."""
        self.removed: list[tuple[int, int, int]] = []
        """(id, size, in_file) of messages whose last delivery ended here."""

    def all_records(self) -> list[RecordEntry]:
        """Return the records, those that come with puts included."""
        found = self.records
        for put in self.puts:
            if put.replaces:
                found = [*found, *put.replaces]
        return found


def marks_warned(ruling: Ruling) -> bool:
    """True if the ruling says no more than that a delay was reported."""
    return ruling.next is DeliveryState.DUE and ruling.warned
