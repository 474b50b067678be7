"""Numbered steps that bring the records' file to the schema this code needs.

Owns: the list of steps, applying those that are missing. A step and its record are one transaction. Does not own:
opening the file (store.py). To change the schema add a step at the end; never edit one that was released.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import apsw

MIGRATIONS: Final = (
    (
        1,
        "first schema",
        """
        CREATE TABLE record (
          tab        TEXT NOT NULL,   -- name of the table: users, bans, ...
          key        TEXT NOT NULL,
          value      BLOB NOT NULL,   -- as its owner wrote it
          expires_at REAL,            -- seconds since the epoch, UTC; NULL: never
          PRIMARY KEY (tab, key)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX record_expiry ON record (expires_at) WHERE expires_at IS NOT NULL;
        """,
    ),
)
"""Number, name and SQL of each step, in order."""


class RecordsTooNew(Exception):
    """A newer Postroad has written the file. Run that one, or put back a copy from before."""


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Do everything within, or nothing. (apsw's own is a savepoint: it breaks where SQLite rolled back by itself.)"""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def migrate(connection: apsw.Connection, now: float) -> None:
    """Apply the steps that are missing.

    Raises:
        RecordsTooNew: a newer Postroad has been here.
    """
    connection.execute(
        "CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT NOT NULL, at REAL NOT NULL) STRICT"
    )
    done = {number for (number,) in connection.execute("SELECT number FROM migration")}
    if done and max(done) > MIGRATIONS[-1][0]:
        raise RecordsTooNew(f"the records have schema {max(done)}, this version knows {MIGRATIONS[-1][0]}")
    for number, name, sql in MIGRATIONS:
        if number not in done:
            with transaction(connection):
                connection.execute(sql)
                connection.execute("INSERT INTO migration VALUES (?, ?, ?)", (number, name, now))
