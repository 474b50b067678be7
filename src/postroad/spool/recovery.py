"""How a shard gets on its feet: at start, and again after the disk or the database failed it.

Owns: making the WAL durable before it is copied, opening with an empty one, setting a damaged database aside whole,
removing refused messages that are there all the same, collecting orphaned content files. Blocking: runs in the writer's
lane. Does not own: when to try again (shard.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from typing import Final

import msgspec

from postroad.core.faces import Disk
from postroad.core.ids import parse_id
from postroad.spool.content import copy_file
from postroad.spool.errors import NO_SPACE, StoreDamaged, StoreTrouble, store_step
from postroad.spool.rows import body_name
from postroad.spool.store import Store, StoreOptions, database_files, wal_of
from postroad.spool.store_read import LOOKED_AT, Counts, Totals

BODIES: str = "bodies"
MARK: Final = "damaged-"
"""How the name of the file begins which says that the database beside it is being set aside. The rest is the time, and
``DIRECTORY.NAME`` is where it goes."""
COPY: Final = ".copy"
"""How the name of the file ends, after the WAL's, that is to take its place. A crash may leave it: it is nothing."""


class SetAside(StoreTrouble):
    """The damaged database was moved to ``moved``, but a new one cannot be made now."""

    def __init__(self, moved: str, error: StoreTrouble) -> None:
        super().__init__(error.why, f"{error} (the database was damaged, and moved to {moved})")
        self.moved = moved


class Found(msgspec.Struct, frozen=True):
    """What a shard held when it was opened."""

    store: Store
    totals: Totals
    counts: Counts
    reports: list[int]
    oldest: tuple[int, float] | None
    damaged_at: str
    """Where a damaged database was moved to; empty if it was well."""


def reopen(
    directory: str,
    options: StoreOptions,
    disk: Disk,
    refused: Iterable[int],
    now: float,
    reports: int,
    is_damaged: bool = False,
    moved: str = "",
) -> Found:
    """Open the store, or, if it is damaged (known to be, or begun to be set aside), set it aside and make a new one.

    ``moved``: where an earlier try has set it aside already.

    Raises:
        StoreTrouble: the disk does not work now.
        StoreTooNew: a newer Postroad wrote it.
    """
    if not is_damaged and _begun(directory, disk) is None:
        try:
            return _open(directory, options, disk, refused, now, reports, moved)
        except StoreDamaged:
            pass
    moved = set_aside(directory, disk, now)
    try:
        return _open(directory, options, disk, (), now, reports, moved)
    except StoreTrouble as error:
        raise SetAside(moved, error) from error


def _open(
    directory: str,
    options: StoreOptions,
    disk: Disk,
    refused: Iterable[int],
    now: float,
    reports: int,
    moved: str,
) -> Found:
    _settle_wal(directory, disk)
    store = Store(directory, options)
    try:
        store.open(now)
        with store_step():  # of the database and the WAL, where they are new; SQLite would pass over an error
            disk.sync_directory(directory)
        store.write.forget(refused)
        totals, counts = store.read.totals(), store.read.counts()
        return Found(store, totals, counts, store.read.reports(reports), store.write.oldest(), moved)
    except BaseException:
        store.close(checkpoint=False)
        raise


def _settle_wal(directory: str, disk: Disk) -> None:
    """Have the medium hold what the WAL seems to hold.

    A sync of it may have failed, in this process or in one before: then its frames are read from the kernel's memory
    and not written by any later sync, and a power cut while they are copied would leave a database that is torn and a
    WAL without the frames to mend it. What is read is written to a new file, durable before it takes the WAL's place:
    most of the frames stand for accepted mail and are well, a power cut while they are overwritten could destroy them.
    Only where there is no room for that they are written over themselves: a relay must start on a full disk.
    """
    wal = wal_of(directory)
    copy = f"{wal}{COPY}"
    with store_step():
        _unlink_if_there(disk, copy)
        if not disk.exists(wal):
            return
        try:
            if not _is_empty(disk, wal):
                copy_file(disk, wal, copy)
                disk.rename(copy, wal)
        except OSError as error:
            if error.errno not in NO_SPACE:
                raise
            _unlink_if_there(disk, copy)
            disk.write_again(wal)
        disk.sync_directory(directory)


def _unlink_if_there(disk: Disk, path: str) -> None:
    if disk.exists(path):
        disk.unlink(path)


def _is_empty(disk: Disk, path: str) -> bool:
    file = disk.open(path)
    try:
        return file.size() == 0
    finally:
        file.close()


def set_aside(directory: str, disk: Disk, now: float) -> str:
    """Move a damaged database, whole, to ``DIRECTORY.damaged-TIME``; return where it is. Content files stay.

    Broken off anywhere, by a crash or an error, it is gone on with before anything is opened again: a database without
    its WAL may look well and lacks mail, and SQLite deletes a WAL that it finds beside a new database.

    Raises:
        SetAside: all of it is there, but the disk does not work now: it must not be done again.
        StoreTrouble: the disk does not work now.
    """
    with store_step():
        if (name := _begun(directory, disk)) is None:
            name = _free_name(directory, disk, now)
            disk.create(f"{directory}/{name}").close()
        disk.sync_directory(directory)  # also of a mark that was there: who made it may not have come to that
        target = f"{directory}.{name}"
        disk.make_directories(target)
        database, *beside = database_files(directory)
        # The database last: when it is there, all of it is, and what is here is not its.
        for paths in (beside, [database]):
            if not disk.exists(_inside(target, database)):
                for path in filter(disk.exists, paths):
                    disk.rename(path, _inside(target, path))
            disk.sync_directory(target)
            disk.sync_directory(directory)
    try:
        with store_step():
            disk.unlink(f"{directory}/{name}")
            disk.sync_directory(directory)
    except StoreTrouble as error:
        raise SetAside(target, error) from error
    return target


def _begun(directory: str, disk: Disk) -> str | None:
    """Return the name of the mark in the directory which says that its database is being set aside, and where."""
    with store_step():
        return next((name for name in sorted(disk.list(directory)) if name.startswith(MARK)), None)


def _free_name(directory: str, disk: Disk, now: float) -> str:
    """Return a name under which none was set aside before: what is there holds mail."""
    name = base = f"{MARK}{int(now)}"
    count = 1
    while disk.exists(f"{directory}.{name}"):
        count += 1
        name = f"{base}-{count}"
    return name


def _inside(target: str, path: str) -> str:
    return f"{target}/{path.rsplit('/', 1)[1]}"


def collect_orphans(directory: str, disk: Disk, store: Store) -> str:
    """Unlink content files that no row names: of messages that were refused, or ended just before a crash.

    Returns why some are left, for the next start to look at: they cost room, and nothing waits for that. Does nothing
    while a damaged database lies beside the shard: its messages' contents may be among them.

    Raises:
        StoreTrouble: what is there could not be read.
    """
    left = ""
    with store_step():
        if damaged_beside(directory, disk):
            return left
        entries = iter(disk.list(f"{directory}/{BODIES}"))
        while names := list(islice(entries, LOOKED_AT)):  # not all ids at once: a queue may be long, and few are files
            known = {body_name(message) for message in store.read.known([*filter(None, map(_named, names))])}
            for entry in names:
                if entry not in known:
                    try:
                        disk.unlink(f"{directory}/{BODIES}/{entry}")
                    except OSError as error:
                        left = f"content of no message could not be removed: {error}"
    return left


def drop_contents(directory: str, disk: Disk, store: Store, messages: Iterable[int]) -> None:
    """Unlink the content files of those that did not become messages. Never raises: the next start does it then."""
    ids = sorted(messages)
    with suppress(StoreTrouble), store_step():
        known = store.read.known(ids)
        for path in (f"{directory}/{BODIES}/{body_name(message)}" for message in ids if message not in known):
            with suppress(OSError):  # one that stays keeps no other
                _unlink_if_there(disk, path)


def _named(name: str) -> int | None:
    """Return the message that a content file is named after; None if it is not one."""
    try:
        return parse_id(name)
    except ValueError:
        return None


def damaged_beside(directory: str, disk: Disk) -> list[str]:
    """Return the directories of databases of this shard that were set aside as damaged."""
    parent, name = directory.rsplit("/", 1)
    return [f"{parent}/{other}" for other in sorted(disk.list(parent)) if other.startswith(f"{name}.{MARK}")]


__all__ = [
    "BODIES",
    "Found",
    "StoreTrouble",
    "collect_orphans",
    "damaged_beside",
    "drop_contents",
    "reopen",
    "set_aside",
]
