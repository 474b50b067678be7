"""Reading from the spool. With store.py and store_write.py the only place that speaks SQL.

Owns: claims, listings, contents, counts. Runs in a thread, on a read-only connection of its own (or in turn with
writes, see StoreOptions.exclusive). Each statement that may give many rows makes one JSON array of them inside SQLite:
every step of SQLite gives the interpreter's lock up and queues for it again, up to 5 ms later while
the loop is busy, so a claim of 200 rows is one step, not 200.

Columns are cast to their type, text and blobs are given in hexadecimal: what a flipped bit makes of them still is a
row of the right shape, and rows.py finds out that it is damaged.
"""

# ruff: noqa: S608 - the statements are put together of constants of this file only

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import apsw
import msgspec

from postroad.spool.errors import store_step
from postroad.spool.rows import HeadRow, WaitingRow
from postroad.spool.selection import Filter
from postroad.spool.store_transfer import TransferReads

_TIME_MAX: Final = 1e11
"""Seconds since the epoch: what is stored beyond is damage, and must not become an infinity in JSON."""
LAST_ID: Final = 2**63 - 1
LOOKED_AT: Final = 4_000
"""Rows that one scan looks at, about 5 ms: while it reads, the WAL cannot be started anew."""
COUNTED: Final = 5_000
"""Rows of counts in one page."""

Place = tuple[int, int]
"""(message id, number)."""


def _number(column: str) -> str:
    return f"ifnull(CAST({column} AS INTEGER), -1)"


def _time(column: str) -> str:
    return f"ifnull(max(-1.0, min({_TIME_MAX}, CAST({column} AS REAL))), -1.0)"


def _octets(column: str) -> str:
    return f"hex(CAST({column} AS BLOB))"


_HEAD: Final = ", ".join(
    [_number("id"), _time("received_at"), _number("size"), _number("in_file")]
    + [_octets(column) for column in ("content_hash", "head_hash", "envelope")]
)
_WAITING: Final = ", ".join(
    (
        *(_number("message_id"), _number("number"), _octets("domain"), _number("priority"), _number("state")),
        *(_number("attempts"), _time("due_at"), _number("warned"), _octets("last")),
    )
)
_HEADS_AFTER: Final = f"""
SELECT json_group_array(json_array({_HEAD})) FROM (SELECT * FROM message WHERE id > ? ORDER BY id LIMIT ?)
"""
_HEADS: Final = f"""
SELECT json_group_array(json_array({_HEAD})) FROM message WHERE id IN (SELECT value FROM json_each(?))
"""
_DUE: Final = f"""
SELECT json_group_array(json_array({_WAITING})) FROM (
  SELECT * FROM delivery INDEXED BY delivery_queue
  WHERE domain = ?1 AND state = 0 AND priority = ?2 AND due_at <= ?3
    AND (message_id, number) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?4))
  ORDER BY due_at LIMIT ?5)
"""
_NEXT_DUE: Final = """
SELECT min(due_at) FROM delivery INDEXED BY delivery_queue
WHERE domain = ? AND state = 0 AND priority = ? AND due_at > ?
"""
_IS_WANTED: Final = """
(?4 IS NULL OR domain = ?4) AND (?5 IS NULL OR substr(domain, -length(?5)) = ?5)
AND state BETWEEN ?6 AND ?7 AND attempts >= ?8 AND warned <= ?9
"""
_SCAN: Final = f"""
SELECT json_group_array(json_array({_WAITING})) FROM (
  SELECT * FROM (
    SELECT * FROM delivery NOT INDEXED
    WHERE (message_id, number) > (?1, ?2) AND message_id < ?3 ORDER BY message_id, number LIMIT ?11)
  WHERE {_IS_WANTED} LIMIT ?10)
"""
_LOOKED_TO: Final = """
SELECT message_id, number FROM delivery NOT INDEXED
WHERE (message_id, number) > (?, ?) AND message_id < ? ORDER BY message_id, number LIMIT 1 OFFSET ?
"""
_SCAN_FORM: Final = f"""
SELECT json_group_array(json_array({_WAITING})) FROM (
  SELECT * FROM delivery %s
  WHERE (message_id, number) > (?1, ?2) AND message_id < ?3 AND {_IS_WANTED} AND %s
  ORDER BY message_id, number LIMIT ?10)
"""
_SCAN_IDS: Final = _SCAN_FORM % ("NOT INDEXED", "message_id IN (SELECT value FROM json_each(?11))")
_SCAN_DOMAIN: Final = _SCAN_FORM % ("INDEXED BY delivery_queue", "domain = ?4 AND ?11 IS NULL")
_COUNT: Final = f"""
SELECT count(*), count(*) FILTER (WHERE is_free), count(DISTINCT message_id) FILTER (WHERE is_free) FROM (
  SELECT message_id, (message_id, number) NOT IN (SELECT value ->> 0, value ->> 1 FROM json_each(?10)) AS is_free
  FROM delivery NOT INDEXED WHERE message_id > ?1 AND ?2 = 0 AND message_id <= ?3 AND {_IS_WANTED})
"""
_BOUND: Final = "SELECT message_id FROM delivery NOT INDEXED WHERE message_id > ? ORDER BY message_id LIMIT 1 OFFSET ?"
_KNOWN: Final = """
SELECT json_group_array(id) FROM (
  SELECT id FROM message WHERE id IN (SELECT value FROM json_each(?1))
  UNION SELECT message_id FROM damaged WHERE message_id IN (SELECT value FROM json_each(?1)))
"""
_OLDEST_OF: Final = f"""
SELECT json_group_array(json_array({_WAITING})) FROM (
  SELECT delivery.* FROM (
    SELECT value AS name, (
      SELECT min(message_id) FROM delivery INDEXED BY delivery_queue WHERE domain = value) AS first
    FROM json_each(?)) CROSS JOIN delivery NOT INDEXED ON message_id = first AND domain = name
  LIMIT ?)
"""
_IS_STRAY: Final = """
SELECT EXISTS (SELECT 1 FROM delivery WHERE message_id = ?1) AND NOT EXISTS (SELECT 1 FROM message WHERE id = ?1)
"""
_OF_MESSAGE: Final = f"""
SELECT json_group_array(json_array({_WAITING})) FROM (SELECT * FROM delivery WHERE message_id = ? ORDER BY number)
"""
_COUNTS: Final = f"""
SELECT json_group_array(json_array(
  {_octets("domain")}, {_number("state")}, {_number("priority")}, rows, {_time("earliest")})) FROM (
  SELECT domain, state, priority, count(*) AS rows, min(due_at) AS earliest FROM delivery INDEXED BY delivery_queue
  WHERE (domain, state, priority) > (CAST(?1 AS TEXT), ?2, ?3)
  GROUP BY domain, state, priority ORDER BY domain, state, priority LIMIT ?4)
"""
_REPORTS: Final = """
SELECT json_group_array(DISTINCT message_id) FROM (
  SELECT message_id FROM delivery INDEXED BY delivery_report WHERE state >= 2 ORDER BY message_id LIMIT ?)
"""
_DROP: Final = ", ".join(
    (_number("number"), _octets("recipient"), _octets("rule"), _octets("reply"), _time("at")),
)
_DROPS: Final = f"""
SELECT json_group_array(json_array({_DROP})) FROM (
  SELECT * FROM dropped WHERE message_id = ? ORDER BY rowid LIMIT ?)
"""
_CONTENT: Final = "SELECT octets FROM content WHERE id = ?"
_IDS: Final = "SELECT json_group_array(id) FROM message"
_DAMAGED_IDS: Final = "SELECT json_group_array(message_id) FROM damaged"
_OLDEST: Final = "SELECT received_at FROM message ORDER BY id LIMIT 1"

_decode_heads: Final = msgspec.json.Decoder(list[HeadRow]).decode
_decode_waiting: Final = msgspec.json.Decoder(list[WaitingRow]).decode
DropColumns = tuple[int, str, str, str, float]
"""number, then recipient, rule and reply in hexadecimal, at."""
_decode_drops: Final = msgspec.json.Decoder(list[DropColumns]).decode
CountRow = tuple[str, int, int, int, float]
"""domain, state, priority, how many, when the first of them is due."""
_decode_counts: Final = msgspec.json.Decoder(list[CountRow]).decode
_decode_ids: Final = msgspec.json.Decoder(list[int]).decode
_encode: Final = msgspec.json.Encoder().encode


Scanned = tuple[list[WaitingRow], list[HeadRow], Place | None]
"""Deliveries, their messages, and the place up to which was looked; None: to the end."""


class Totals(msgspec.Struct, frozen=True):
    """The row of table total."""

    messages: int
    octets: int
    last_id: int


class Counts:
    """Rows of counts, of many domains perhaps: they stay the text that SQLite made of them until they are used."""

    def __init__(self, pages: Sequence[str]) -> None:
        self._pages = pages

    def __iter__(self) -> Iterator[CountRow]:
        for page in self._pages:
            for domain, state, priority, count, due_at in _decode_counts(page):
                yield bytes.fromhex(domain).decode("utf-8", "replace"), state, priority, count, due_at


class ReadStore:
    """The reading side of the open database. All methods block; all raise StoreTrouble and StoreDamaged."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = self.execute = connection.execute
        self.transfer = TransferReads(self)

    def _value(self, sql: str, bindings: Sequence[apsw.SQLiteValue] = ()) -> apsw.SQLiteValue:
        row = self._execute(sql, tuple(bindings)).fetchone()
        return row[0] if row else None

    # --- claims ---

    def due(
        self, domain: str, levels: Iterable[int], now: float, claimed: Sequence[tuple[int, int]], limit: int
    ) -> tuple[list[WaitingRow], list[HeadRow], float | None]:
        """Return rows due, most urgent first, their messages, and, if that was all, when more is due (None: not all).

        Infinity: never.
        """
        rows = list[WaitingRow]()
        levels, given = list(levels), _text(claimed)
        with store_step():
            for level in levels:
                rows += _decode_waiting(_json(self._value(_DUE, (domain, level, now, given, limit - len(rows)))))
                if len(rows) >= limit:
                    return rows, self._heads(rows), None
            later = [self._value(_NEXT_DUE, (domain, level, now)) for level in levels]
            return (
                rows,
                self._heads(rows),
                min((float(at) for at in later if isinstance(at, float)), default=float("inf")),
            )

    def message(self, message: int) -> tuple[list[WaitingRow], list[HeadRow]]:
        """Return all deliveries of a message, and the message."""
        with store_step():
            rows = _decode_waiting(_json(self._value(_OF_MESSAGE, (message,))))
            return rows, _decode_heads(_json(self._value(_HEADS, (_text([message]),))))

    def is_stray(self, message: int) -> bool:
        """True if there are deliveries whose message is missing: asked in one statement, hence of one moment."""
        with store_step():
            return bool(self._value(_IS_STRAY, (message,)))

    def heads(self, message: int) -> list[HeadRow]:
        """Return the message's row alone: for a salvage, where the deliveries may be what cannot be read."""
        with store_step():
            return _decode_heads(_json(self._value(_HEADS, (_text([message]),))))

    def heads_after(self, after: int, limit: int) -> list[HeadRow]:
        """Return messages after the id, in the order of ids, without their deliveries: for a transfer."""
        with store_step():
            return _decode_heads(_json(self._value(_HEADS_AFTER, (after, limit))))

    def deliveries(self, message: int) -> list[WaitingRow]:
        """Return all deliveries of a message alone: for a salvage, or a transfer."""
        with store_step():
            return _decode_waiting(_json(self._value(_OF_MESSAGE, (message,))))

    def reports(self, limit: int) -> list[int]:
        """Return messages with a report due; of ``limit`` rows."""
        with store_step():
            return _decode_ids(_json(self._value(_REPORTS, (limit,))))

    # --- by id: what is old, listings, bulk changes ---

    def scan(self, after: Place, before: int, wanted: Filter, limit: int, *, by_domain: bool = False) -> Scanned:
        """Return deliveries with after < (id, number) and id < before, in that order, their messages, and where to
        go on (None: that was all). Looks at LOOKED_AT rows at most.

        ``by_domain``: by the index of domains, all rows of the filter's domain at once: where it has few.
        """
        ids = None if wanted.ids is None else _text(wanted.ids)
        bindings = (*after, before, *_bound(wanted), limit)
        with store_step():
            if ids is not None or (by_domain and wanted.domain is not None):
                found = self._value(_SCAN_DOMAIN if ids is None else _SCAN_IDS, (*bindings, ids))
                rows = _decode_waiting(_json(found))
                is_all = len(rows) < limit
            else:
                rows = _decode_waiting(_json(self._value(_SCAN, (*bindings, LOOKED_AT))))
                is_all = False
            if len(rows) == limit:
                return rows, self._heads(rows), (rows[-1].message, rows[-1].number)
            there = None if is_all else self._execute(_LOOKED_TO, (*after, before, LOOKED_AT - 1)).fetchone()
            return rows, self._heads(rows), None if there is None else (int(there[0]), int(there[1]))

    def oldest_of(self, domains: Sequence[str], limit: int) -> tuple[list[WaitingRow], list[HeadRow]]:
        """Return deliveries of the oldest message of each domain, and the messages. Looks at all rows of each."""
        with store_step():
            rows = _decode_waiting(_json(self._value(_OLDEST_OF, (_encode(domains).decode(), limit))))
            return rows, self._heads(rows)

    def bound(self, after: int, rows: int) -> int:
        """Return the id up to which there are about so many rows; the largest there can be where there are not."""
        with store_step():
            found = self._value(_BOUND, (after, rows))
        return found if isinstance(found, int) else LAST_ID

    def count(self, after: int, up_to: int, wanted: Filter, claimed: Sequence[Place]) -> tuple[int, int, int]:
        """Count deliveries with after < id <= up_to: all that pass, those not claimed, messages of the latter."""
        with store_step():
            row = self._execute(_COUNT, (after, 0, up_to, *_bound(wanted), _text(list(claimed)))).fetchone()
        assert row is not None
        return int(row[0]), int(row[1]), int(row[2])

    def drops(self, message: int, limit: int) -> list[DropColumns]:
        """Return the drop rows of a message, in their order: one pass over the table, which is kept for a month."""
        with store_step():
            return _decode_drops(_json(self._value(_DROPS, (message, limit))))

    # --- contents ---

    def content(self, message: int) -> bytes | None:
        """Return the content of a small message, or None if there is none."""
        with store_step():
            octets = self._value(_CONTENT, (message,))
        return octets if isinstance(octets, bytes) else None

    def known(self, messages: Sequence[int]) -> set[int]:
        """Return those of the messages that are there, or were set aside: what may have a content file."""
        with store_step():
            return set(_decode_ids(_json(self._value(_KNOWN, (_text(list(messages)),)))))

    def ids(self) -> set[int]:
        """Return the ids of all messages, and of those set aside: what may have a content file."""
        with store_step():
            return {*_decode_ids(_json(self._value(_IDS))), *_decode_ids(_json(self._value(_DAMAGED_IDS)))}

    # --- counts, at start ---

    def counts(self) -> Counts:
        """Count what waits, by domain, state and priority: one scan of an index, in pages."""
        pages, last = list[str](), (b"", -1, -100)
        with store_step():
            while rows := _decode_counts(page := _json(self._value(_COUNTS, (*last, COUNTED)))):
                pages.append(page)
                last = (bytes.fromhex(rows[-1][0]), *rows[-1][1:3])
        return Counts(pages)

    def totals(self) -> Totals:
        with store_step():
            row = self._execute("SELECT messages, octets, last_id FROM total").fetchone()
        return Totals(*row) if row else Totals(0, 0, 0)

    def oldest_at(self) -> float | None:
        with store_step():
            value = self._value(_OLDEST)
        return value if isinstance(value, float) else None

    def _heads(self, rows: Sequence[WaitingRow]) -> list[HeadRow]:
        ids = dict.fromkeys(row.message for row in rows)
        return _decode_heads(_json(self._value(_HEADS, (_text(list(ids)),)))) if ids else []


def _bound(wanted: Filter) -> tuple[str | None, str | None, int, int, int, int]:
    states = (wanted.state_min, wanted.state_max)
    return (wanted.domain, wanted.ending, *states, wanted.attempts_min, wanted.warned_max)


def _text(value: object) -> str:
    return _encode(value).decode()


def _json(value: apsw.SQLiteValue) -> str:
    assert isinstance(value, str)
    return value
