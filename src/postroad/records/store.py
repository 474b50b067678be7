"""The Records face on one SQLite file, all its SQL but the schema.

Owns: reading, writing, expiry. Does not own: the schema (migrations.py), the threads it runs in. A call returns when
its change is on the disk (WAL, synchronous=FULL). All calls take turns in one lane: these tables are small and change
seldom; who reads often keeps a copy.

Passes tests/contracts/test_records.py, as does testing/memory_records.py.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

import apsw

from postroad.core.faces import Clock, RecordRow, Threads
from postroad.records.migrations import migrate, transaction

SLICE: Final = 200
"""Rows that a scan reads at once; between two slices others have their turn."""
EXPIRED_AT_ONCE: Final = 20
"""Expired rows that a write takes away: more than it adds, so they never gather."""
_LANE: Final = "records"
_BUSY_MILLISECONDS: Final = 5_000

P = ParamSpec("P")
T = TypeVar("T")


class RecordsTrouble(Exception):
    """The file cannot be read or written now. The call was not done, but an I/O error may let it show at a restart."""


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
        return await self._run(_get, table, key, self._clock.now())

    async def put(self, table: str, row: RecordRow) -> None:
        await self._run(_put, table, row, self._clock.now())

    async def delete(self, table: str, key: str) -> bool:
        return await self._run(_delete, table, key, self._clock.now())

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        after, inclusive = prefix, True
        while True:
            rows = await self._run(_slice, table, after, inclusive, self._clock.now())
            for row in rows:
                if not row.key.startswith(prefix):
                    return  # keys stand in the order of their octets, so those with the prefix are together
                yield row
            if len(rows) < SLICE:
                return
            after, inclusive = rows[-1].key, False

    async def close(self) -> None:
        """Close the file. Nothing may be called after it."""
        await self._run(apsw.Connection.close)

    async def _run(self, work: Callable[Concatenate[apsw.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        assert not kwargs
        return await self._threads.run_blocking(_translated, work, self._connection, *args, lane=_LANE)


def _translated(work: Callable[..., T], *arguments: object) -> T:
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
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        migrate(connection, now)
        _sync_directory(os.path.dirname(path) or ".")
    except (OSError, apsw.Error) as error:
        connection.close(force=True)
        raise RecordsTrouble(f"{path}: {error}") from error
    except BaseException:
        connection.close(force=True)
        raise
    return connection


def _sync_directory(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _get(connection: apsw.Connection, table: str, key: str, now: float) -> RecordRow | None:
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


def _slice(connection: apsw.Connection, table: str, after: str, inclusive: bool, now: float) -> list[RecordRow]:
    found = connection.execute(
        f"SELECT key, value, expires_at FROM record WHERE tab = ? AND key {'>=' if inclusive else '>'} ? "  # noqa: S608 - no input
        "AND (expires_at IS NULL OR expires_at > ?) ORDER BY key LIMIT ?",
        (table, after, now, SLICE),
    )
    return [RecordRow(*row) for row in found]
