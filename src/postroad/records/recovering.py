"""The Records face for the process that owns the file, where the file may be unreadable.

Owns: opening it, again and again while that fails. Does not own: the file (store.py). A damaged or full disk must not
keep the ledger from its limits: until the file can be opened each call raises RecordsTrouble, and a fact says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from postroad.core.faces import Clock, Outlet, RecordRow, RecordsTrouble, Threads
from postroad.core.facts import Trouble
from postroad.records.migrations import RecordsTooNew
from postroad.records.store import SqliteRecords


class RecoveringRecords:
    """Records in one file that is opened when it can be. Make it with ``open``."""

    def __init__(self, path: str, threads: Threads, clock: Clock, outlet: Outlet) -> None:
        self._path = path
        self._threads = threads
        self._clock = clock
        self._outlet = outlet
        self._records: SqliteRecords | None = None
        self._opening = asyncio.Lock()
        self._is_known = False  # that it cannot be opened

    @classmethod
    async def open(cls, path: str, threads: Threads, clock: Clock, outlet: Outlet) -> RecoveringRecords:
        """Open the file if that is possible. Never raises for what is wrong with it."""
        records = cls(path, threads, clock, outlet)
        with suppress(RecordsTrouble):  # told as a fact
            await records._opened()
        return records

    async def get(self, table: str, key: str) -> RecordRow | None:
        return await (await self._opened()).get(table, key)

    async def put(self, table: str, row: RecordRow) -> None:
        await (await self._opened()).put(table, row)

    async def delete(self, table: str, key: str) -> bool:
        return await (await self._opened()).delete(table, key)

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        async for row in (await self._opened()).scan(table, prefix):
            yield row

    async def close(self) -> None:
        """Close the file, if it is open."""
        if self._records is not None:
            await self._records.close()

    async def _opened(self) -> SqliteRecords:
        async with self._opening:
            if self._records is None:
                try:
                    self._records = await SqliteRecords.open(self._path, self._threads, self._clock)
                except (RecordsTrouble, RecordsTooNew) as error:
                    self._tell(str(error))
                    raise RecordsTrouble(str(error)) from error
                self._tell("the records can be read", over=True)
            return self._records

    def _tell(self, why: str, *, over: bool = False) -> None:
        """Say it once, and once when it is over."""
        if self._is_known is over:
            self._is_known = not over
            self._outlet.emit(Trouble(at=self._clock.now(), what="records", why=why, over=over))
