"""One segment of stored facts: an SQLite file for a day, a writer, and a part of it. All SQL about facts.

Owns: the schema, the connections and what they are told, the index of addresses. Blocking. Does not own: what is in a
row (packing.py), when a segment begins and ends (segments.py), which ones there are (segment_files.py).

The index of addresses is searched like a text, it is no tree: one blob for each transaction, 12 octets for each address
of each row. A tree of hashes would be written all over, a page for every address; this is written in order, 24 octets
for an ordinary message, and a search reads 24 MiB for a million messages.

synchronous=FULL, since NORMAL leaves to the kernel when a transaction is on the disk: half a minute. There is one a
second. A segment that has ended has no -wal: it can be read wherever it is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

import apsw

from postroad.core.units import KIB, MIB
from postroad.observe.packing import HASH_OCTETS, Row

VERSION: Final = 1
"""Of the schema. A step to the next one is made by beginning a new segment."""
WAL_MAX: Final = 8 * MIB
"""Octets of the -wal at which it is copied into the file."""
CACHE: Final = 4 * MIB
PAGE_SIZE: Final = 8 * KIB
"""Octets. A row has about 1 KiB."""
BUSY_MILLISECONDS: Final = 2_000
LAST_ROW: Final = 2**62
"""Larger than any row."""

_ENTRY: Final = struct.Struct(f">{HASH_OCTETS}sI")
_SCHEMA: Final = f"""
    CREATE TABLE fact (
      row     INTEGER PRIMARY KEY,  -- in the order of writing
      message INTEGER,              -- its id; NULL: facts of no message
      at      REAL NOT NULL,        -- of the first fact
      facts   BLOB NOT NULL         -- observe/packing.py
    ) STRICT;
    CREATE INDEX fact_message ON fact (message) WHERE message IS NOT NULL;
    CREATE TABLE address (
      first   INTEGER PRIMARY KEY,  -- the row from which the entries count
      entries BLOB NOT NULL         -- for each address of each row its hash and how many rows behind the first
    ) STRICT;
    PRAGMA user_version={VERSION};
"""


class SegmentTrouble(Exception):
    """The file cannot be written or read now: no room, an error of the disk, no permission."""


class SegmentDamaged(Exception):
    """What stands in the file is not what we wrote."""


class SegmentTooNew(Exception):
    """Another version of Postroad has written the file."""


class Segment:
    """A segment that is written. ``size``: octets, about."""

    def __init__(self, path: str) -> None:
        """Open the file, made if there is none.

        Raises:
            SegmentTrouble, SegmentDamaged, SegmentTooNew.
        """
        self.path = path
        try:
            _create(path)
            self._connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
        except (OSError, apsw.Error) as error:
            raise _translated(error, path) from error
        try:
            self._prepare()
        except (OSError, apsw.Error) as error:
            self._connection.close(force=True)
            raise _translated(error, path) from error
        except SegmentTooNew:
            self._connection.close(force=True)
            raise

    def append(self, rows: Sequence[Row]) -> None:
        """Write rows, all of them durably or none.

        Raises:
            SegmentTrouble, SegmentDamaged: the segment must be closed.
        """
        entries = index_of(rows)
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            last = connection.execute("SELECT max(row) FROM fact").fetchone()
            first = int(last[0] or 0) + 1 if last else 1  # asked each time: somebody else may write here, too
            connection.executemany(
                "INSERT INTO fact VALUES (?, ?, ?, ?)",
                [(first + offset, row.message, row.at, row.facts) for offset, row in enumerate(rows)],
            )
            if entries:
                connection.execute("INSERT INTO address VALUES (?, ?)", (first, entries))
            connection.execute("COMMIT")
        except apsw.Error as error:
            raise _translated(error, self.path) from error

    @property
    def size(self) -> int:
        """Octets of the file once its -wal is copied into it, about."""
        try:
            return int(self._connection.pragma("page_count")) * PAGE_SIZE
        except apsw.Error:
            return 0  # the next append tells what is wrong

    def close(self) -> None:
        """Close the file; nothing stands beside it then, unless somebody reads it just now. Never raises."""
        with suppress(apsw.Error):  # a reader, or the trouble for which we close
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._connection.set_busy_timeout(0)
            self._connection.pragma("journal_mode", "delete")
        with suppress(apsw.Error):
            self._connection.close(force=True)

    def _prepare(self) -> None:
        connection = self._connection
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        connection.pragma("page_size", PAGE_SIZE)
        connection.pragma("journal_mode", "wal")
        connection.pragma("synchronous", "full")
        connection.pragma("wal_autocheckpoint", WAL_MAX // PAGE_SIZE)
        connection.pragma("journal_size_limit", WAL_MAX)
        connection.pragma("cache_size", -CACHE // KIB)
        version = connection.pragma("user_version")
        if version == 0:
            connection.execute(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT")
        elif version != VERSION:
            raise SegmentTooNew(f"{self.path}: facts of schema {version}, this version knows {VERSION}")
        connection.execute("SELECT max(row) FROM fact").fetchone()  # what is no segment says so now


class SegmentReader:
    """Reads a segment, also while another process writes it. Each call is a whole reading: nothing stays locked."""

    def __init__(self, path: str) -> None:
        """Open the file.

        Raises:
            SegmentTrouble, SegmentDamaged, SegmentTooNew.
        """
        self.path = path
        try:
            self._connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
            self._connection.set_busy_timeout(BUSY_MILLISECONDS)
            version = self._connection.pragma("user_version")
        except apsw.Error as error:
            raise _translated(error, path) from error
        if version != VERSION:
            self.close()
            raise SegmentTooNew(f"{path}: facts of schema {version}, this version knows {VERSION}")

    def rows_of(self, messages: Iterable[int]) -> list[int]:
        """Return the rows with facts of these messages, in no particular order."""
        found: list[int] = []
        for message in messages:
            found += (row for (row,) in self._read("SELECT row FROM fact WHERE message = ?", (message,)))
        return found

    def rows_by(self, address: bytes, before: int, most: int) -> tuple[list[int], int]:
        """Return about ``most`` rows to which the hash of an address leads, the newest first, and what to give as
        ``before`` for those before them. No rows: there are no more."""
        found: list[int] = []
        while len(found) < most:
            texts = self._read(
                "SELECT first, entries FROM address WHERE first < ? ORDER BY first DESC LIMIT 64", (before,)
            )
            if not texts:
                break
            for first, entries in texts:
                before = first
                found += (first + offset for offset in reversed(offsets_of(entries, address)))
                if len(found) >= most:
                    break
        return found, before

    def fetch(self, rows: Sequence[int]) -> list[tuple[int, int | None, float, bytes]]:
        """Return row, message, time and facts of rows, in their order."""
        marks = ",".join("?" * len(rows))
        return self._read(
            f"SELECT row, message, at, facts FROM fact WHERE row IN ({marks}) ORDER BY row",  # noqa: S608 - question marks
            tuple(rows),
        )

    def close(self) -> None:
        """Close the file."""
        self._connection.close(force=True)

    def _read(self, sql: str, bindings: tuple[int, ...]) -> list[Any]:
        try:
            return self._connection.execute(sql, bindings).fetchall()
        except apsw.Error as error:
            raise _translated(error, self.path) from error


def index_of(rows: Sequence[Row]) -> bytes:
    """Return what leads from the hashes of addresses to rows, by how many rows they are behind the first."""
    return b"".join(_ENTRY.pack(address, offset) for offset, row in enumerate(rows) for address in row.addresses)


def offsets_of(entries: bytes, address: bytes) -> list[int]:
    """Return how many rows behind the first those are to which the hash leads."""
    found: list[int] = []
    position = entries.find(address)
    while position >= 0:
        if position % _ENTRY.size == 0:
            found.append(_ENTRY.unpack_from(entries, position)[1])
        position = entries.find(address, position + 1)
    return found


def _create(path: str) -> None:
    """Make an empty file before SQLite does, which would go by the umask: facts are private."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _translated(error: Exception, path: str) -> SegmentTrouble | SegmentDamaged:
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.SQLError | apsw.MismatchError):
        return SegmentDamaged(f"{path}: {error}")  # an SQLError: our own statements find no such table
    return SegmentTrouble(f"{path}: {error}")
