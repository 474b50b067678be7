"""Numbered steps that bring a spool's database to the schema this code needs.

Owns: the list of steps, applying those that are missing. A step and its record are one
transaction, so a crash leaves it done or not done. Does not own: what the tables are for (schema.sql
and schema-2.sql say it by column), opening the database (store.py).

To change the schema add a step at the end; never edit one that was released, since spools exist
that have run it. SALVAGE: salvage.py builds an empty database by the same steps to learn page 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import apsw

from postroad.spool.errors import StoreTooNew

_HERE: Final = Path(__file__).parent

MIGRATIONS: Final = (
    (1, "first schema", (_HERE / "schema.sql").read_text()),
    (2, "transfers", (_HERE / "schema-2.sql").read_text()),
)
"""Number, name and SQL of each step, in order."""

_RECORD_TABLE: Final = """
CREATE TABLE IF NOT EXISTS migration (
  number INTEGER PRIMARY KEY,  -- of the step
  name   TEXT NOT NULL,
  at     REAL NOT NULL         -- seconds since the epoch, UTC
) STRICT
"""


def migrate(connection: apsw.Connection, now: float) -> Iterator[str]:
    """Apply the missing steps, and yield the name of each when it has been committed.

    Raises:
        StoreTooNew: a newer Postroad has been here.
    """
    connection.execute(_RECORD_TABLE)
    done = {number for (number,) in connection.execute("SELECT number FROM migration")}
    newest = MIGRATIONS[-1][0]
    if done and max(done) > newest:
        raise StoreTooNew(f"the spool has schema {max(done)}, this version knows {newest}: run the newer Postroad")
    for number, name, sql in MIGRATIONS:
        if number in done:
            continue
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(sql)
        connection.execute("INSERT INTO migration VALUES (?, ?, ?)", (number, name, now))
        connection.execute("COMMIT")
        yield name
