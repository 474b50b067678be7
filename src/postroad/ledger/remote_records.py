"""The Records face over processes: reads from the file, writes by way of the ledger, which owns it.

Owns: how long a write waits for a ledger that is away, who is told that a table has changed. Does not own: the file
(records, a face here), writing it (server.py).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from postroad.core.faces import RecordRow, RecordsTrouble
from postroad.core.units import SECOND
from postroad.ledger import wire
from postroad.ledger.link import Link

LEDGER_WAIT: Final = 5 * SECOND
"""Seconds that a write waits for the ledger to be there, and a read that cannot be done without it."""
WRITE_MAX: Final = 30 * SECOND
"""Seconds that a write may take: it waits for the disk."""


class RecordsReader(Protocol):
    """The half of Records that needs no owner. records/reader.py has it."""

    async def get(self, table: str, key: str) -> RecordRow | None:
        """As Records.get."""

    def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        """As Records.scan."""


class RemoteRecords:
    """Records for every process but the ledger. Passes tests/contracts/test_records.py."""

    def __init__(self, link: Link, reader: RecordsReader) -> None:
        self._link = link
        self._reader = reader
        self._listeners: list[Callable[[str], None]] = []
        self._tables: set[str] = set()  # used here; the code names them, so there are few

    def on_changed(self, listener: Callable[[str], None]) -> None:
        """See LedgerClient.on_records_changed."""
        self._listeners.append(listener)

    async def get(self, table: str, key: str) -> RecordRow | None:
        self._tables.add(table)
        try:
            return await self._reader.get(table, key)
        except RecordsTrouble:
            if self._link.was_there or not await self._link.wait_there(LEDGER_WAIT):
                raise
        return await self._reader.get(table, key)  # the first ledger has made the file meanwhile

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        self._tables.add(table)
        if not self._link.was_there:
            await self._link.wait_there(LEDGER_WAIT)  # the first ledger makes the file; without one, we shall see
        async for row in self._reader.scan(table, prefix):
            yield row

    async def put(self, table: str, row: RecordRow) -> None:
        size = len(row.key.encode()) + len(row.value)
        if size > wire.ROW_MAX:
            raise ValueError(f"a record of {size} octets; the ledger takes up to {wire.ROW_MAX}")
        await self._write(table, lambda number: wire.Put(number, table, row))

    async def delete(self, table: str, key: str) -> bool:
        return bool(await self._write(table, lambda number: wire.Delete(number, table, key)))

    async def _write(self, table: str, make: Callable[[int], wire.Question]) -> float:
        self._tables.add(table)
        if not await self._link.wait_there(LEDGER_WAIT):
            raise RecordsTrouble("the ledger, which writes the records, is away; nothing was written")
        answer = await self._link.ask(make, WRITE_MAX)
        if isinstance(answer, wire.Done):
            return answer.value
        if isinstance(answer, wire.Failed):
            raise RecordsTrouble(answer.why)
        raise RecordsTrouble("the ledger went away, or was too slow, and it is not known whether it was written")

    # --- what the ledger tells ---

    def changed(self, table: str) -> None:
        """Somebody has changed a row."""
        for listener in self._listeners:
            listener(table)

    def all_may_have_changed(self) -> None:
        """Nobody knows what was missed while the ledger was away."""
        for table in sorted(self._tables):
            self.changed(table)
