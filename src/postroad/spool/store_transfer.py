"""Transfers between two shards, as rows. With the other store*.py the only place that speaks SQL.

Owns: reading what leaves, writing what arrives with the note that it has (tables arrived and copied, schema-2.sql),
removing what has arrived elsewhere. Reading runs in the reader's thread; writing on the loop, in the transaction of a
batch. Does not own: the order of these steps (transfer.py), whether a row is what we wrote (rows.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import apsw
import msgspec

from postroad.core.units import KIB
from postroad.spool.errors import store_step
from postroad.spool.rows import HeadRow, MessageRow, WaitingRow

if TYPE_CHECKING:
    from postroad.spool.batch import Batch
    from postroad.spool.store_read import ReadStore

SLICE_MESSAGES: Final = 100
SLICE_OCTETS: Final = 512 * KIB
SLICE_ROWS: Final = 500
"""What moves in one transaction at most, unless one message alone is more: about 10 ms of the loop."""
COPY_ROWS: Final = 500
"""Rows without messages copied in one transaction."""

_COUNTS: Final = """
SELECT message_id, count(*) FROM delivery WHERE message_id IN (SELECT value FROM json_each(?)) GROUP BY message_id
"""
_CONTENT: Final = "SELECT CAST(octets AS BLOB) FROM content WHERE id = ?"
_ARRIVED: Final = "SELECT message_id FROM arrived WHERE message_id IN (SELECT value FROM json_each(?))"
_STRAYS: Final = """
SELECT DISTINCT message_id FROM delivery WHERE message_id NOT IN (SELECT id FROM message)
UNION SELECT id FROM content WHERE id NOT IN (SELECT id FROM message) LIMIT ?
"""
_IS_EMPTY: Final = """
SELECT NOT (EXISTS (SELECT 1 FROM message) OR EXISTS (SELECT 1 FROM delivery) OR EXISTS (SELECT 1 FROM content))
"""
_TOKEN: Final = "SELECT token FROM identity"  # noqa: S105 - not a secret
_ROOM: Final = """
SELECT page_count * page_size, freelist_count * page_size
FROM pragma_page_count, pragma_freelist_count, pragma_page_size
"""
_COPY: Final = {
    "settled": (
        """
        SELECT 0, message_id, number, at FROM settled WHERE (message_id, number) > (?, ?)
        ORDER BY message_id, number LIMIT ?
        """,
        "INSERT OR IGNORE INTO settled VALUES (?2, ?3, ?4)",
    ),
    "arrived": (
        "SELECT 0, message_id, from_shard FROM arrived WHERE message_id > ? ORDER BY message_id LIMIT ?",
        "INSERT OR IGNORE INTO arrived VALUES (?2, ?3)",
    ),
    "dropped": (
        """
        SELECT rowid, message_id, number, CAST(recipient AS BLOB), CAST(rule AS BLOB), CAST(reply AS BLOB), at
        FROM dropped WHERE rowid > ? ORDER BY rowid LIMIT ?
        """,
        """
        INSERT INTO dropped VALUES (?2, ?3, CAST(?4 AS TEXT), CAST(?5 AS TEXT), CAST(?6 AS TEXT), ?7)
        """,
    ),
    "damaged": (
        """
        SELECT number, message_id, CAST(kind AS BLOB), CAST(why AS BLOB), CAST(raw AS BLOB), found_at
        FROM damaged WHERE number > ? ORDER BY number LIMIT ?
        """,
        """
        INSERT INTO damaged (message_id, kind, why, raw, found_at)
        VALUES (?2, CAST(?3 AS TEXT), CAST(?4 AS TEXT), ?5, ?6)
        """,
    ),
}
"""By table: how its rows are read, after the key of the last one, and written. The first column is the row's number."""
_UP_TO: Final = "SELECT up_to FROM copied WHERE source = ? AND kind = ?"
_SET_UP_TO: Final = "INSERT OR REPLACE INTO copied VALUES (?, ?, ?, ?)"
_FORGET_COPIED: Final = "DELETE FROM copied WHERE from_shard = ?"
_FORGET_ARRIVED: Final = "DELETE FROM arrived WHERE message_id = ? AND from_shard = ?"
_FORGET_SHARD: Final = "DELETE FROM arrived WHERE from_shard = ?"
_THERE: Final = "SELECT id, head_hash FROM message WHERE id IN (SELECT value FROM json_each(?))"
_INSERT_MESSAGE: Final = "INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, ?)"
_INSERT_CONTENT: Final = "INSERT INTO content VALUES (?, ?)"
_INSERT_DELIVERY: Final = "INSERT OR IGNORE INTO delivery VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING number"
_INSERT_ARRIVED: Final = "INSERT OR REPLACE INTO arrived VALUES (?, ?)"
_ADD_TOTAL: Final = """
UPDATE total SET messages = messages + ?, octets = octets + ?, last_id = max(last_id, ?)
"""
_TAKE_MESSAGE: Final = "DELETE FROM message WHERE id = ? RETURNING id, size, in_file"
_DELETE_CONTENT: Final = "DELETE FROM content WHERE id = ?"
_DELETE_DELIVERIES: Final = "DELETE FROM delivery WHERE message_id = ?"
_INSERT_SETTLED: Final = "INSERT OR IGNORE INTO settled VALUES (?, ?, ?)"

CopiedRow = tuple[Any, ...]
"""A row's number and its columns."""


class Leaving(msgspec.Struct, frozen=True):
    """A slice of the messages of a shard, as they stand in it."""

    heads: list[HeadRow]
    rows: list[WaitingRow]
    contents: dict[int, bytes]
    """Of messages whose content is in the database and could be read."""
    is_last: bool


class Arriving(msgspec.Struct, frozen=True):
    """A message to be put as it stood in its former shard. Checked; not our idea of what it should be."""

    row: MessageRow
    deliveries: list[tuple[Any, ...]]
    """Rows of table delivery."""
    content: bytes | None
    """None: in a file."""

    @property
    def id(self) -> int:
        return self.row[0]


class Arrived(msgspec.Struct):
    """What became of a slice in its new shard."""

    messages: dict[int, list[int]]
    """By id: the numbers of the deliveries that were put."""
    new: set[int]
    """Those of the messages that were not there in any part."""
    strangers: list[int]
    """Messages whose id another message has in the new shard: not put."""


class TransferReads:
    """What a transfer reads. All methods block; all raise StoreTrouble and StoreDamaged."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store
        self._execute = store.execute

    def slice(self, after: int) -> Leaving:
        """Return messages after the id, in the order of ids, with their deliveries and contents."""
        store = self._store
        with store_step():
            heads = store.heads_after(after, SLICE_MESSAGES)
            found = self._execute(_COUNTS, (_text([head.id for head in heads]),))
            counts: dict[int, int] = {int(message): int(count) for message, count in found}
            taken, rows, octets = 0, 0, 0
            for head in heads:
                rows += counts.get(head.id, 0)
                octets += 0 if head.in_file else head.size
                if taken and (rows > SLICE_ROWS or octets > SLICE_OCTETS):
                    break
                taken += 1
            is_last = taken == len(heads) < SLICE_MESSAGES
            heads = heads[:taken]
            read = ((head.id, self._content(head.id)) for head in heads if not head.in_file)
            contents = {message: content for message, content in read if content is not None}
        waiting = [row for head in heads for row in store.deliveries(head.id)]
        return Leaving(heads, waiting, contents, is_last)

    def _content(self, message: int) -> bytes | None:
        row = self._execute(_CONTENT, (message,)).fetchone()
        return row[0] if row is not None and isinstance(row[0], bytes) else None

    def arrived(self, messages: Iterable[int]) -> set[int]:
        """Return those of the messages that came here and may not have been removed where they came from."""
        with store_step():
            return {int(message) for (message,) in self._execute(_ARRIVED, (_text(list(messages)),))}

    def strays(self) -> list[int]:
        """Return ids that a delivery or a content names and no message has."""
        with store_step():
            return [int(message) for (message,) in self._execute(_STRAYS, (COPY_ROWS,))]

    def is_empty(self) -> bool:
        """True if no row of any message is there."""
        with store_step():
            return self._execute(_IS_EMPTY).fetchone() == (1,)

    def token(self) -> bytes:
        """Return which database this is."""
        with store_step():
            row = self._execute(_TOKEN).fetchone()
        assert row is not None
        return bytes(row[0])

    def free_octets(self) -> int:
        """Return how much can be written without the database growing."""
        return self.room()[1]

    def room(self) -> tuple[int, int]:
        """Return how large the database is, what its WAL holds included, and how much of it is free; octets."""
        with store_step():
            row = self._execute(_ROOM).fetchone()
        return (int(row[0]), int(row[1])) if row is not None else (0, 0)

    def up_to(self, source: bytes, kind: str) -> int:
        """Return the number of the last row that was copied from another shard's table."""
        with store_step():
            row = self._execute(_UP_TO, (source, kind)).fetchone()
        return int(row[0]) if row is not None else 0

    def copy(self, kind: str, after: Sequence[int]) -> list[CopiedRow]:
        """Return rows of a table after a key."""
        with store_step():
            return [tuple(row) for row in self._execute(_COPY[kind][0], (*after, COPY_ROWS))]


class TransferWrites:
    """What a transfer writes, within the transaction of a batch."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany

    def arrive(self, messages: Sequence[Arriving], from_shard: int, forget: Iterable[int]) -> Arrived:
        """Put messages with the deliveries they had, note that they have arrived, forget older such notes.

        A message that is here without a note (a salvage put it) gets those deliveries that it lacks: a duplicate may
        happen, a loss may not.
        """
        with store_step():
            self._executemany(_FORGET_ARRIVED, [(message, from_shard) for message in forget])
            found = self._execute(_THERE, (_text([message.id for message in messages]),))
            there = {int(message): head_hash for message, head_hash in found}
            strangers = [message.id for message in messages if there.get(message.id, message.row[5]) != message.row[5]]
            meant = [message for message in messages if message.id not in strangers]
            new = [message for message in meant if message.id not in there]
            self._executemany(_INSERT_MESSAGE, [message.row for message in new])
            self._executemany(
                _INSERT_CONTENT, [(message.id, message.content) for message in new if message.content is not None]
            )
            put: dict[int, list[int]] = {}
            for message in meant:
                numbers = self._executemany(_INSERT_DELIVERY, message.deliveries)
                put[message.id] = [int(number) for (number,) in numbers]
            self._executemany(_INSERT_ARRIVED, [(message.id, from_shard) for message in meant])
            octets, last_id = sum(message.row[2] for message in new), max((message.id for message in new), default=0)
            self._execute(_ADD_TOTAL, (len(new), octets, last_id))
        return Arrived(put, {message.id for message in new}, strangers)

    def leave(self, messages: Iterable[int], batch: Batch) -> None:
        """Remove messages that have arrived elsewhere."""
        with store_step():
            for message in messages:
                self._execute(_DELETE_DELIVERIES, (message,))
                self._execute(_DELETE_CONTENT, (message,))
                batch.removed += self._execute(_TAKE_MESSAGE, (message,)).fetchall()  # type: ignore[arg-type]

    def settle(self, keys: Iterable[tuple[int, int]], now: float) -> None:
        """Note deliveries whose rows went away with a damaged database: no salvage is to put them."""
        with store_step():
            self._executemany(_INSERT_SETTLED, [(message, number, now) for message, number in keys])

    def copied(self, kind: str, rows: Sequence[CopiedRow], source: bytes, from_shard: int) -> None:
        """Put copies of rows, and note how far that is."""
        with store_step():
            self._executemany(_COPY[kind][1], rows)
            if rows[-1][0]:
                self._execute(_SET_UP_TO, (source, kind, from_shard, rows[-1][0]))

    def forget_shard(self, number: int) -> None:
        """Forget what arrived from a shard: nothing that arrived is there any more."""
        with store_step():
            self._execute(_FORGET_SHARD, (number,))

    def forget_copied(self, number: int) -> None:
        """Forget how far the rows of a shard were copied: it is gone."""
        with store_step():
            self._execute(_FORGET_COPIED, (number,))


def _text(value: Mapping[str, object] | list[int]) -> str:
    return msgspec.json.encode(value).decode()
