"""Records in memory, for tests and simulations.

Owns: the rows. Does not own: durability, which it cannot show. Passes tests/contracts/test_records.py, as
records/store.py does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from postroad.core.faces import Clock, RecordRow


class MemoryRecords:
    """A dictionary behind the Records face."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tables: dict[str, dict[str, RecordRow]] = {}

    async def get(self, table: str, key: str) -> RecordRow | None:
        row = self._tables.get(table, {}).get(key)
        return row if row is not None and self._is_alive(row) else None

    async def put(self, table: str, row: RecordRow) -> None:
        self._tables.setdefault(table, {})[row.key] = row

    async def delete(self, table: str, key: str) -> bool:
        row = self._tables.get(table, {}).pop(key, None)
        return row is not None and self._is_alive(row)

    async def scan(self, table: str, prefix: str = "") -> AsyncIterator[RecordRow]:
        rows = self._tables.get(table, {})
        for key in sorted(rows):
            row = rows.get(key)  # it may have gone since
            if row is not None and key.startswith(prefix) and self._is_alive(row):
                yield row

    def _is_alive(self, row: RecordRow) -> bool:
        return row.expires_at is None or row.expires_at > self._clock.now()
