"""Reading from a damaged database. With store.py, store_read.py and store_write.py the only place that speaks SQL.

Owns: the connection to a copy of it, walking the ids of its tables. Blocking. What is read of one message is read by
store_read.py. Does not own: what follows from a message that can or cannot be read (salvage.py).
"""

# ruff: noqa: S608 - the statements are put together of constants of this file only

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import apsw

from postroad.spool.errors import store_step
from postroad.spool.store import DATABASE_NAME
from postroad.spool.store_read import ReadStore

SOURCES: Final = {"message": "id", "delivery": "message_id", "content": "id"}
"""Tables that name a message, and their column: where one is damaged, another still tells of the message."""
_IDS: Final = """
SELECT DISTINCT {column} FROM {table} NOT INDEXED WHERE {column} > ?1 AND {column} < ?2 ORDER BY {column} {order}
"""


class DamagedStore:
    """A damaged database, of which there is a copy in ``directory``."""

    def __init__(self, directory: str) -> None:
        with store_step():
            # Not read-only: what the WAL holds is to be seen, and that needs its index to be made. It is a copy.
            self._connection = apsw.Connection(f"{directory}/{DATABASE_NAME}", flags=apsw.SQLITE_OPEN_READWRITE)
            self._connection.wal_autocheckpoint(0)
        self.read = ReadStore(self._connection)

    def check(self) -> None:
        """Raises StoreTrouble: its tables are not known, since its first page cannot be read."""
        with store_step():
            for table, column in SOURCES.items():
                self._connection.execute(f"SELECT {column} FROM {table} LIMIT 0").fetchall()

    def ids(self, table: str, after: int, before: int, *, backwards: bool) -> Iterator[int]:
        """Yield the ids with after < id < before, in order. Raises StoreTrouble where it cannot go on."""
        sql = _IDS.format(table=table, column=SOURCES[table], order="DESC" if backwards else "ASC")
        with store_step():
            for (message,) in self._connection.execute(sql, (after, before)):
                yield message

    def close(self) -> None:
        self._connection.close(force=True)
