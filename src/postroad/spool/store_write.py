"""Writing to the spool: the statements of a batch. With store.py and store_read.py the only place that speaks SQL.

Owns: how a batch becomes rows, in one transaction. Runs on the loop thread between two commits (each step of SQLite
gives the interpreter's lock up, which costs nothing while no other thread wants it); only ``commit`` runs
in the writer's lane. Does not own: what goes into a batch (writer.py), what memory learns of it (shard.py).

The cost of a message with one recipient, in and out: three rows in, three rows out. Keep it there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import apsw
import msgspec

from postroad.core.envelope import Envelope
from postroad.core.outcome import DeliveryState, Dropped, Outcome
from postroad.spool.agenda import Claim
from postroad.spool.batch import Batch, RecordEntry, marks_warned
from postroad.spool.errors import DuplicateId, store_step
from postroad.spool.face import Delivery, NewMessage, Ruling
from postroad.spool.rows import encode_outcome, message_row
from postroad.spool.store_transfer import TransferWrites

PRUNE_ROWS: Final = 1_000

_INSERT_MESSAGE: Final = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_CONTENT: Final = "INSERT INTO content VALUES (?, ?)"
_INSERT_DELIVERY: Final = "INSERT INTO delivery VALUES (?, ?, ?, ?, 0, 0, ?, ?, NULL)"
_DELETE_MESSAGE: Final = "DELETE FROM message WHERE id = ?"
_DELETE_CONTENT: Final = "DELETE FROM content WHERE id = ?"
_DELETE_DELIVERY: Final = "DELETE FROM delivery WHERE message_id = ? AND number = ?"
_DELETE_DELIVERIES: Final = "DELETE FROM delivery WHERE message_id = ?"
_DELETE_IF_LAST: Final = """
DELETE FROM message WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM delivery WHERE message_id = ?1)
RETURNING id, size, in_file
"""
_TAKE_MESSAGE: Final = "DELETE FROM message WHERE id = ? RETURNING id, size, in_file"
_UPDATE_DELIVERY: Final = """
UPDATE delivery SET state = ?, attempts = attempts + 1, due_at = ?, last = ? WHERE message_id = ? AND number = ?
"""
_MARK_WARNED: Final = "UPDATE delivery SET warned = 1 WHERE message_id = ? AND number = ?"
_STEER: Final = """
UPDATE delivery SET state = ?, due_at = ?, last = coalesce(?, last) WHERE message_id = ? AND number = ?
"""
_ATTEMPTS: Final = "SELECT attempts FROM delivery WHERE message_id = ? AND number = ?"
_HAS_MESSAGE: Final = "SELECT 1 FROM message WHERE id = ?"
_INSERT_DROP: Final = "INSERT INTO dropped VALUES (?, ?, ?, ?, ?, ?)"
_INSERT_SETTLED: Final = "INSERT OR IGNORE INTO settled VALUES (?, ?, ?)"
_SETTLED: Final = "SELECT number FROM settled WHERE message_id = ?"
_INSERT_SALVAGED: Final = "INSERT INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_PRUNE_DROPS: Final = """
DELETE FROM dropped WHERE at < ?1 AND rowid IN (SELECT rowid FROM dropped ORDER BY rowid LIMIT ?2)
"""
_ADD_TOTAL: Final = """
UPDATE total SET messages = messages + ?, octets = octets + ?, last_id = max(last_id, ?)
"""
_INSERT_DAMAGED: Final = "INSERT INTO damaged (message_id, kind, why, raw, found_at) VALUES (?, ?, ?, ?, ?)"
_RAW: Final = {
    "message": "SELECT id, received_at, size, in_file, content_hash, head_hash, envelope FROM message WHERE id = ?",
    "content": "SELECT id, octets FROM content WHERE id = ?",
    "delivery": """
        SELECT message_id, number, CAST(domain AS BLOB), priority, state, attempts, due_at, warned, last
        FROM delivery WHERE message_id = ?
    """,
}
"""The rows of a message as they are, whatever is in them: a flipped bit makes text that cannot be decoded."""
_OLDEST: Final = "SELECT id, received_at FROM message ORDER BY id LIMIT 1"


class WriteStore:
    """The writing side of the open database. At most one transaction at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self.transfer = TransferWrites(connection)

    def apply(self, batch: Batch, now: float) -> None:
        """Begin a transaction and write the batch into it.

        Raises:
            DuplicateId: a message of one of the ids is there already.
            StoreTrouble, StoreDamaged.
        """
        with store_step():
            self._execute("BEGIN IMMEDIATE")
            if batch.puts:
                self._insert(batch)
            if records := batch.all_records():
                self._record(batch, records, now)
        for work in batch.works:
            work.result = work.apply(self, batch)
        with store_step():
            messages, octets = len(batch.puts), sum(put.row[2] for put in batch.puts)
            last_id = max((put.id for put in batch.puts), default=0)
            removed = sum(size for _, size, _ in batch.removed)
            self._execute(_ADD_TOTAL, (messages - len(batch.removed), octets - removed, last_id))

    def commit(self) -> None:
        self._execute("COMMIT")

    def rollback(self) -> None:
        """Forget the transaction, if there is one."""
        with store_step():
            self._execute("ROLLBACK")

    def oldest(self) -> tuple[int, float] | None:
        """Return id and time of the oldest message."""
        with store_step():
            row = self._execute(_OLDEST).fetchone()
        return (int(row[0]), float(row[1])) if row else None

    # --- puts and records ---

    def _insert(self, batch: Batch) -> None:
        puts = batch.puts
        try:
            self._executemany(_INSERT_MESSAGE, [put.row for put in puts])
        except apsw.ConstraintError as error:
            raise DuplicateId(f"one of {len(puts)} messages is in the spool already") from error
        self._executemany(_INSERT_CONTENT, [(put.id, put.message.content) for put in puts if not put.row[3]])
        self._executemany(_INSERT_DELIVERY, [row for put in puts for row in put.delivery_rows()])

    def _record(self, batch: Batch, records: Sequence[RecordEntry], now: float) -> None:
        ended = list[tuple[int, int]]()
        whole = list[tuple[int, int, int]]()  # messages that ended for their only recipient
        partly = dict[int, None]()
        for entry in records:
            claim = entry.claim
            if claim.stale:
                self._settle(entry, now)
                continue
            if entry.is_doubtful:
                self._leave_out_applied(batch, entry)
            gone = len(ended)
            for delivery, ruling in entry.pairs:
                self._rule(claim, delivery, ruling, ended, now)
            if len(ended) == gone:
                continue
            if len(claim.envelope.recipients) == 1:
                whole.append((claim.id, claim.size, claim.in_file))
            else:
                partly[claim.id] = None
        if ended:
            self._executemany(_DELETE_DELIVERY, ended)
        if whole:
            ids = [row[:1] for row in whole]
            self._executemany(_DELETE_MESSAGE, ids)
            self._executemany(_DELETE_CONTENT, ids)
            batch.removed += whole
        if partly:
            self.end_messages(batch, partly)

    def _leave_out_applied(self, batch: Batch, entry: RecordEntry) -> None:
        """Take out of an entry what a commit that seemed to fail has written all the same."""
        left = list[tuple[Delivery, Ruling]]()
        for delivery, ruling in entry.pairs:
            row = self._execute(_ATTEMPTS, (delivery.message, delivery.number)).fetchone()
            is_there = row is not None and (row[0] == delivery.attempts or marks_warned(ruling))
            (left if is_there else entry.applied).append((delivery, ruling))
        entry.pairs = left
        if entry.claim.in_file and not self._execute(_HAS_MESSAGE, (entry.claim.id,)).fetchone():
            batch.orphaned.append(entry.claim.id)

    def _rule(self, claim: Claim, delivery: Delivery, ruling: Ruling, ended: list[tuple[int, int]], now: float) -> None:
        key = (delivery.message, delivery.number)
        if ruling.next is None:
            ended.append(key)
            if isinstance(ruling.outcome, Dropped):
                self._drop(claim.envelope, delivery, ruling.outcome.rule, now)
        elif marks_warned(ruling):
            self._execute(_MARK_WARNED, key)
        else:
            due_at = ruling.due_at if ruling.next is DeliveryState.DUE else delivery.due_at
            self._execute(_UPDATE_DELIVERY, (int(ruling.next), due_at, encode_outcome(ruling.outcome), *key))

    def _drop(self, envelope: Envelope, delivery: Delivery, rule: str, now: float) -> None:
        recipient = str(envelope.recipients[delivery.number].mailbox)
        reply = "" if delivery.last is None or isinstance(delivery.last, Dropped) else str(delivery.last.reply)
        self._execute(_INSERT_DROP, (delivery.message, delivery.number, recipient, rule, reply, now))

    def _settle(self, entry: RecordEntry, now: float) -> None:
        """Its rows went away with a damaged database: remember what has ended, so that a salvage leaves it out."""
        ended = [(entry.claim.id, delivery.number, now) for delivery, ruling in entry.pairs if ruling.next is None]
        self._executemany(_INSERT_SETTLED, ended)

    # --- steering: slices of a few hundred rows, each in the transaction of a batch ---

    def steer(self, delivery: Delivery, state: DeliveryState, due_at: float, last: Outcome | None = None) -> None:
        """Give a delivery another state and time."""
        with store_step():
            outcome = None if last is None else encode_outcome(last)
            self._execute(_STEER, (int(state), due_at, outcome, delivery.message, delivery.number))

    def drop(self, envelope: Envelope, delivery: Delivery, rule: str, now: float) -> None:
        """End a delivery by a named rule; ``end_messages`` must follow."""
        with store_step():
            self._drop(envelope, delivery, rule, now)
            self._execute(_DELETE_DELIVERY, (delivery.message, delivery.number))

    def end_messages(self, batch: Batch, messages: Iterable[int]) -> None:
        """Remove those of the messages that have no delivery left."""
        with store_step():
            for message in messages:
                for row in self._execute(_DELETE_IF_LAST, (message,)).fetchall():
                    batch.removed.append((int(row[0]), int(row[1]), int(row[2])))  # type: ignore[arg-type]
                    self._execute(_DELETE_CONTENT, (message,))

    def prune_drops(self, before: float) -> None:
        """Forget the oldest drops, PRUNE_ROWS at most."""
        with store_step():
            self._execute(_PRUNE_DROPS, (before, PRUNE_ROWS))

    # --- refused and damaged ---

    def set_aside(self, message: int, why: str, now: float) -> bool:
        """Move all rows of a message into table damaged; True if the message's row was there.

        Its content file, if it has one, stays where it is.
        """
        with store_step():
            for kind in _RAW:
                rows = self._execute(_RAW[kind], (message,)).fetchall()
                self._executemany(
                    _INSERT_DAMAGED, [(message, kind, why, msgspec.msgpack.encode(row), now) for row in rows]
                )
            sizes = self._execute("SELECT size FROM message WHERE id = ?", (message,)).fetchall()
            for sql in (_DELETE_MESSAGE, _DELETE_CONTENT, _DELETE_DELIVERIES):
                self._execute(sql, (message,))
            self._execute(_ADD_TOTAL, (-len(sizes), -sum(size for (size,) in sizes if isinstance(size, int)), 0))
        return bool(sizes)

    def forget(self, messages: Iterable[int]) -> list[int]:
        """Remove refused messages that are there all the same, in a transaction of its own. Returns which were."""
        batch = Batch()
        with store_step():
            self._execute("BEGIN IMMEDIATE")
            for message in messages:
                self._execute(_DELETE_DELIVERIES, (message,))
                self._execute(_DELETE_CONTENT, (message,))
                batch.removed += self._execute(_TAKE_MESSAGE, (message,)).fetchall()  # type: ignore[arg-type]
            octets = sum(size for _, size, _ in batch.removed)
            self._execute(_ADD_TOTAL, (-len(batch.removed), -octets, 0))
            self._execute("COMMIT")
        return [message for message, _, _ in batch.removed]

    # --- salvage, in a transaction that ``apply`` began ---

    def settled(self, message: int) -> set[int]:
        """Return the recipients of a message in a damaged database that have ended, or were salvaged."""
        with store_step():
            return {int(number) for (number,) in self._execute(_SETTLED, (message,))}

    def put_salvaged(self, message: NewMessage, deliveries: Sequence[Delivery], now: float) -> None:
        """Put a message with the deliveries it had, and note them as settled: no salvage puts them again."""
        row = message_row(message)
        with store_step():
            self._execute(_INSERT_MESSAGE, row)
            if isinstance(message.content, bytes):
                self._execute(_INSERT_CONTENT, (message.id, message.content))
            for one in deliveries:
                last = None if one.last is None else encode_outcome(one.last)
                key = (message.id, one.number)
                state = (int(one.state), one.attempts, one.due_at, int(one.warned), last)
                self._execute(_INSERT_SALVAGED, (*key, one.domain, one.priority, *state))
                self._execute(_INSERT_SETTLED, (*key, now))
            self._execute(_ADD_TOTAL, (1, row[2], message.id))
