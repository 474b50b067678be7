"""Numbered steps that bring a spool's database to the schema this code needs.

Owns: the list of steps, applying those that are missing, telling a database whose schema is not what its record of
steps says. A step and its record are one transaction, so a crash leaves it done or not done. Does not own: what the
tables are for (schema.sql and schema-2.sql say it by column), opening the database (store.py).

To change the schema add a step at the end; never edit one that was released, since spools exist
that have run it. SALVAGE: salvage.py builds an empty database by the same steps to learn page 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import apsw

from postroad.spool.errors import StoreDamaged, StoreTooNew

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

_Objects = frozenset[tuple[str, str]]
"""Tables, indexes and the like, each by type and name."""


def migrate(connection: apsw.Connection, now: float) -> Iterator[str]:
    """Apply the missing steps, and yield the name of each when it has been committed.

    Raises:
        StoreTooNew: a newer Postroad has been here.
        StoreDamaged: the database has not the schema that its record of steps says.
    """
    connection.execute(_RECORD_TABLE)
    done = {number for (number,) in connection.execute("SELECT number FROM migration")}
    newest = MIGRATIONS[-1][0]
    if done and max(done) > newest:
        raise StoreTooNew(f"the spool has schema {max(done)}, this version knows {newest}: run the newer Postroad")
    for number, name, sql in MIGRATIONS:
        if number in done:
            continue
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(sql)
            connection.execute("INSERT INTO migration VALUES (?, ?, ?)", (number, name, now))
            connection.execute("COMMIT")
        except (apsw.SQLError, apsw.ConstraintError) as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            _check(connection, done, f"step {number}: {error}")
            raise  # the database is well, so the step is wrong: it stays where it is, the older Postroad can go on
        done.add(number)
        yield name
    if missing := _wanted(done) - _found(connection):
        raise StoreDamaged(f"there is no {' '.join(min(missing))}")


def _check(connection: apsw.Connection, done: set[int], why: str) -> None:
    """Raises StoreDamaged if the database is not what those steps made of it: then it is no fault of the next step."""
    for (found,) in connection.execute("PRAGMA quick_check(1)"):
        if found != "ok":
            raise StoreDamaged(f"{why}; {found}")
    if _found(connection) != _wanted(done):
        raise StoreDamaged(f"{why}; the tables are not those of steps {sorted(done)}")


def _wanted(done: set[int]) -> _Objects:
    return _made_by(tuple(sql for number, _, sql in MIGRATIONS if number in done))


@cache
def _made_by(steps: tuple[str, ...]) -> _Objects:
    """Return what there is after those steps."""
    scratch = apsw.Connection(":memory:")
    try:
        for sql in (_RECORD_TABLE, *steps):
            scratch.execute(sql)
        return _found(scratch)
    finally:
        scratch.close()


def _found(connection: apsw.Connection) -> _Objects:
    """Return what there is, but for what SQLite makes by itself."""
    sql = "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    return frozenset((str(kind), str(name)) for kind, name in connection.execute(sql))
