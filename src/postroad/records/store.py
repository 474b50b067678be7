"""The Records face on one SQLite file, all its SQL but the schema.

Owns: reading, writing, expiry. Does not own: the schema (migrations.py), the threads it runs in. A call returns when
its change is on the disk (WAL, synchronous=FULL). All calls take turns in one lane: these tables are small and change
seldom; who reads often keeps a copy.

Passes tests/contracts/test_records.py, as does testing/memory_records.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Concatenate, Final, ParamSpec, TypeVar

import apsw

from postroad.core.faces import Clock, RecordRow, RecordsTrouble, Threads
from postroad.core.units import MIB
from postroad.records.migrations import migrate, transaction

SLICE: Final = 200
"""Rows that a scan reads at once; between two slices others have their turn."""
EXPIRED_AT_ONCE: Final = 20
"""Expired rows that a write takes away: more than it adds, so they never gather."""
_LANE: Final = "records"
BUSY_MILLISECONDS: Final = 5_000
"""How long SQLite waits for a lock."""

ReadSlice = Callable[[str, str, bool], Awaitable[list[RecordRow]]]
"""Table, key to begin at, whether that is included."""

P = ParamSpec("P")
T = TypeVar("T")


class SqliteRecords:
    """Records in one file. Make it with ``open``."""

    def __init__(self, connection: apsw.Connection, threads: Threads, clock: Clock) -> None:
        self._connection = connection
        self._threads = threads
        self._clock = clock

    @classmethod
    async def open(cls, path: str, threads: Threads, clock: Clock) -> SqliteRecords:
        """Open the file, made if there is none (mode 0600: it holds credentials).

        Raises:
            RecordsTrouble: it cannot be opened.
            RecordsTooNew: a newer Postroad has written it.
        """
        connection = await threads.run_blocking(_open, path, clock.now(), lane=_LANE)
        return cls(connection, threads, clock)

    async def get(self, table: str, key: str) -> RecordRow | None:
        return await self._run(read_row, table, key, self._clock.now())

    async def put(self, table: str, row: RecordRow) -> None:
        await self._run(_put, table, row, self._clock.now())

    async def delete(self, table: str, key: str) -> bool:
        return await self._run(_delete, table, key, self._clock.now())

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        async with aclosing(scan_slices(self._read_slice, table, prefix)) as rows:
            async for row in rows:
                yield row

    async def close(self) -> None:
        """Close the file. Nothing may be called after it."""
        await self._run(apsw.Connection.close)

    async def _read_slice(self, table: str, after: str, inclusive: bool) -> list[RecordRow]:
        return await self._run(read_slice, table, after, inclusive, self._clock.now())

    async def _run(self, work: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        return await self._threads.run_blocking(translated, work, self._connection, *args, lane=_LANE)


async def scan_slices(read: ReadSlice, table: str, prefix: str) -> AsyncGenerator[RecordRow, None]:
    """Yield the rows of a scan, read slice by slice."""
    after, inclusive = prefix, True
    while True:
        rows = await read(table, after, inclusive)
        for row in rows:
            if not row.key.startswith(prefix):
                return  # keys stand in the order of their octets, so those with the prefix are together
            yield row
        if len(rows) < SLICE:
            return
        after, inclusive = rows[-1].key, False


def translated(work: Callable[..., T], *arguments: object) -> T:
    """The one place where SQLite's errors become ours."""
    try:
        return work(*arguments)
    except apsw.Error as error:
        raise RecordsTrouble(str(error)) from error


def _open(path: str, now: float) -> apsw.Connection:
    try:
        os.close(
            os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )  # before SQLite, which would use the umask
        connection = apsw.Connection(path)
    except (OSError, apsw.Error) as error:
        raise RecordsTrouble(f"{path}: {error}") from error
    try:
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        # Not by execute: the mode is changed after the row that tells of it, and an error then would be passed over.
        mode = connection.pragma("journal_mode", "wal")
        if mode != "wal":
            raise RecordsTrouble(f"{path}: it stays in journal mode {mode}")
        connection.execute("PRAGMA synchronous=FULL")
        _settle_wal(connection, path)
        migrate(connection, now)
        _sync_directory(os.path.dirname(path) or ".")
    except (OSError, apsw.Error) as error:
        connection.close(force=True)
        raise RecordsTrouble(f"{path}: {error}") from error
    except BaseException:
        connection.close(force=True)
        raise
    return connection


def _settle_wal(connection: apsw.Connection, path: str) -> None:
    """Have the medium hold what the WAL seems to hold, before anything rests on it (docs/durability.md).

    Done as its only writer: another process may have the file open.
    """
    with transaction(connection), suppress(FileNotFoundError):
        _write_again(f"{path}-wal")


def _write_again(path: str) -> None:
    """As Disk.write_again: what a failed sync left in the kernel's memory alone is written by no other sync."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        offset = 0
        while octets := os.pread(descriptor, MIB, offset):
            offset += os.pwrite(descriptor, octets, offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_row(connection: apsw.Connection, table: str, key: str, now: float) -> RecordRow | None:
    found = connection.execute(
        "SELECT key, value, expires_at FROM record "
        "WHERE tab = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)",
        (table, key, now),
    ).fetchone()
    return None if found is None else RecordRow(*found)


def _put(connection: apsw.Connection, table: str, row: RecordRow, now: float) -> None:
    with transaction(connection):
        connection.execute(
            "DELETE FROM record WHERE (tab, key) IN "
            "(SELECT tab, key FROM record WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
            (now, EXPIRED_AT_ONCE),
        )
        connection.execute(
            "INSERT INTO record VALUES (?, ?, ?, ?) "
            "ON CONFLICT (tab, key) DO UPDATE SET value = excluded.value, expires_at = excluded.expires_at",
            (table, row.key, row.value, row.expires_at),
        )


def _delete(connection: apsw.Connection, table: str, key: str, now: float) -> bool:
    deleted = connection.execute(
        "DELETE FROM record WHERE tab = ? AND key = ? RETURNING expires_at IS NULL OR expires_at > ?", (table, key, now)
    ).fetchall()
    return deleted == [(1,)]


def read_slice(connection: apsw.Connection, table: str, after: str, inclusive: bool, now: float) -> list[RecordRow]:
    found = connection.execute(
        f"SELECT key, value, expires_at FROM record WHERE tab = ? AND key {'>=' if inclusive else '>'} ? "  # noqa: S608 - no input
        "AND (expires_at IS NULL OR expires_at > ?) ORDER BY key LIMIT ?",
        (table, after, now, SLICE),
    )
    return [RecordRow(*row) for row in found]
