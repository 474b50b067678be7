"""The spool's database: opening, closing and what every connection is told. With store_write.py and
store_read.py the only place that speaks SQL.

Owns: the connections, their pragmas, checkpoints. Nobody opens or closes the database by path while we own the
shard: closing any descriptor of it would drop SQLite's POSIX locks (docs/durability.md). Blocking: ``open``,
``close`` and ``checkpoint`` run in the writer's lane.

If you change a pragma, run `make bench` and tests/laws.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import apsw
import msgspec

from postroad.core.units import KIB, MIB
from postroad.spool.errors import StoreTrouble, store_step
from postroad.spool.face import Why
from postroad.spool.migrations import migrate
from postroad.spool.store_read import ReadStore
from postroad.spool.store_write import WriteStore

DATABASE_NAME: Final = "spool.db"
PAGE_SIZE: Final = 16 * KIB
"""Octets. Of 4, 8, 16 and 32 KiB the least CPU for a message of 5 KiB, in batches of 20 to 50."""
CHECKPOINT_OCTETS: Final = 32 * MIB
"""Size of the WAL at which it is copied into the database: large enough that a page written a hundred times is copied
once, small enough that a start has little to replay."""
WRITE_CACHE_OCTETS: Final = 16 * MIB
READ_CACHE_OCTETS: Final = 8 * MIB
BUSY_MILLISECONDS: Final = 2_000
"""How long to wait for a lock. We are alone, so it is only ever taken for the moment of a checkpoint."""


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the database is reached."""

    vfs: str = ""
    """Name of an apsw VFS; empty: the system's."""
    exclusive: bool = False
    """``locking_mode=EXCLUSIVE``: no shared memory, hence no second connection; reads take turns with writes. For a
    VFS without shared memory, as in the simulation."""
    checkpoint_octets: int = CHECKPOINT_OCTETS


class Store:
    """The connections of one open database: ``write``, and ``read`` (the same one if exclusive)."""

    def __init__(self, directory: str, options: StoreOptions) -> None:
        self.path = f"{directory}/{DATABASE_NAME}"
        self._options = options
        self._connections: list[apsw.Connection] = []
        self._wal_pages = 0
        self._wal_file_pages = 0  # the most it held since it was last emptied: its file is as large
        self._file_pages = 0
        self._checkpoint_pages = options.checkpoint_octets // PAGE_SIZE
        self._checkpoint_at = self._checkpoint_pages
        self.write: WriteStore
        self.read: ReadStore

    def open(self, now: float) -> None:
        """Open, migrate, and copy the whole WAL into the database: only then may anything be put.

        A failed sync leaves frames that were refused, and later ones may stand on frames that never reached the disk;
        after a TRUNCATE checkpoint on a fresh connection nothing rests on the WAL any more. But while that copies, the
        database rests on the WAL: whoever calls this has made it durable (recovery.py).

        Raises:
            StoreTrouble, StoreDamaged, StoreTooNew.
        """
        with store_step():
            connection = self._connect(apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE, WRITE_CACHE_OCTETS)
            connection.execute(f"PRAGMA page_size={PAGE_SIZE}")
            # Not by execute: the mode is changed after the row that tells of it, an error then would be passed over.
            mode = connection.pragma("journal_mode", "wal")
            if mode != "wal":
                raise StoreTrouble(Why.TROUBLE, f"the database stays in journal mode {mode}")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA journal_size_limit={2 * self._options.checkpoint_octets}")
            self._truncate_wal(connection)
            for _ in migrate(connection, now):
                self._truncate_wal(connection)
            self._file_pages = int(connection.pragma("page_count"))
            connection.set_wal_hook(self._on_commit)  # in place of SQLite's own checkpoints every 1,000 pages
            self.write = WriteStore(connection)
            if self._options.exclusive:
                self.read = ReadStore(connection)
            else:
                self.read = ReadStore(self._connect(apsw.SQLITE_OPEN_READONLY, READ_CACHE_OCTETS))

    def commit(self) -> StoreTrouble | None:
        """Make the transaction durable. Returns what went wrong after it was: the checkpoint.

        Raises:
            StoreTrouble, StoreDamaged: it is not durable, as far as we know.
        """
        with store_step():
            self.write.commit()
        if self._wal_pages < self._checkpoint_at:
            return None
        try:
            self.checkpoint()
        except StoreTrouble as trouble:
            return trouble
        return None

    def checkpoint(self) -> None:
        """Copy what the WAL holds into the database, as far as no reader needs it; the next commit starts it anew."""
        connection = self._connections[0]
        with store_step():
            total, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            if copied >= total:
                self._file_pages = int(connection.pragma("page_count"))
        # A long read keeps the WAL from being started anew: then it grows by as much again before the next try.
        self._checkpoint_at = self._checkpoint_pages if copied >= total else total + self._checkpoint_pages

    def empty_wal(self) -> bool:
        """Copy all that the WAL holds into the database and give its room back to the disk; False while somebody reads.

        The database's file grows by what ``file_octets`` lacks of it: there must be room for that.

        Raises:
            StoreTrouble, StoreDamaged: a write or a sync failed.
        """
        connection = self._connections[0]
        with store_step():
            connection.set_busy_timeout(0)
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                return False
            finally:
                connection.set_busy_timeout(BUSY_MILLISECONDS)
            self._file_pages = int(connection.pragma("page_count"))
        self._wal_pages = self._wal_file_pages = 0
        self._checkpoint_at = self._checkpoint_pages
        return True

    @property
    def file_octets(self) -> int:
        """The size of the database's file, at least: what else is in the database, only the WAL holds."""
        return self._file_pages * PAGE_SIZE

    @property
    def wal_file_octets(self) -> int:
        """The size of the WAL's file, about: it does not get smaller where it is begun anew."""
        return self._wal_file_pages * PAGE_SIZE

    @property
    def wal_octets(self) -> int:
        """What the WAL holds: so much of the database, at most, is not in its file yet, and may extend it."""
        return self._wal_pages * PAGE_SIZE

    def close(self, *, checkpoint: bool) -> None:
        """Close the connections. Without ``checkpoint`` the WAL stays as it is: for a disk in trouble.

        Never raises: there is nothing to be done about it, and what matters was durable before.
        """
        for connection in reversed(self._connections):
            try:
                with store_step():
                    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0 if checkpoint else 1)
                    connection.close()
            except StoreTrouble:
                connection.close(force=True)
        self._connections = []

    def _connect(self, flags: int, cache_octets: int) -> apsw.Connection:
        connection = apsw.Connection(self.path, flags=flags, vfs=self._options.vfs or None)
        self._connections.append(connection)
        connection.set_busy_timeout(BUSY_MILLISECONDS)
        connection.wal_autocheckpoint(0)
        if self._options.exclusive:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        for pragma in (f"cache_size={-cache_octets // KIB}", "temp_store=MEMORY", "mmap_size=0", "cell_size_check=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _truncate_wal(self, connection: apsw.Connection) -> None:
        total, copied = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        if total > 0 or copied > 0:  # after success both are 0, the WAL is empty
            raise StoreTrouble(Why.TROUBLE, f"the WAL could not be emptied: {copied} of {total} frames copied")

    def _on_commit(self, connection: apsw.Connection, name: str, pages: int) -> int:
        self._wal_pages = pages
        self._wal_file_pages = max(pages, self._wal_file_pages)
        return apsw.SQLITE_OK


def wal_of(directory: str) -> str:
    """Return the path of the WAL."""
    return f"{directory}/{DATABASE_NAME}-wal"


def database_files(directory: str) -> Iterable[str]:
    """Return the paths that SQLite uses beside one another."""
    return tuple(f"{directory}/{DATABASE_NAME}{suffix}" for suffix in ("", "-wal", "-shm"))
