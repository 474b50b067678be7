"""Reading the records' file in a process that does not own it.

Owns: a read-only connection, opened when it is first needed. Does not own: writing (store.py in the ledger's process),
the SQL (store.py). Readers of a WAL database see each change as soon as its writer has answered, and block nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Final

import apsw

from postroad.core.faces import Clock, RecordRow, Threads
from postroad.records.store import BUSY_MILLISECONDS, read_row, read_slice, scan_slices, translated

_LANE: Final = "records-reader"


class SqliteReader:
    """``get`` and ``scan`` of Records. Raises RecordsTrouble, also while there is no file yet."""

    def __init__(self, path: str, threads: Threads, clock: Clock) -> None:
        self._path = path
        self._threads = threads
        self._clock = clock
        self._connection: apsw.Connection | None = None  # used in the lane alone

    async def get(self, table: str, key: str) -> RecordRow | None:
        return await self._threads.run_blocking(translated, self._get, table, key, self._clock.now(), lane=_LANE)

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        async with aclosing(scan_slices(self._read_slice, table, prefix)) as rows:
            async for row in rows:
                yield row

    async def close(self) -> None:
        """Close the file, if it is open."""
        await self._threads.run_blocking(self._close, lane=_LANE)

    async def _read_slice(self, table: str, after: str, inclusive: bool) -> list[RecordRow]:
        now = self._clock.now()
        return await self._threads.run_blocking(translated, self._slice, table, after, inclusive, now, lane=_LANE)

    # --- in the lane ---

    def _get(self, table: str, key: str, now: float) -> RecordRow | None:
        return read_row(self._open(), table, key, now)

    def _slice(self, table: str, after: str, inclusive: bool, now: float) -> list[RecordRow]:
        return read_slice(self._open(), table, after, inclusive, now)

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            connection = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READONLY)
            connection.set_busy_timeout(BUSY_MILLISECONDS)
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
