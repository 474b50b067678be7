"""The end of a shard that holds nothing any more: its directory goes, durably.

Owns: the order in which it goes, what becomes of contents that a damaged database beside it may name. Blocking; the
caller holds the shard's lock, whose file goes last: what a crash leaves is an empty or half removed shard, which opens
like a new one and is removed again. Does not own: that nothing is left in it (transfer.py).
"""

from __future__ import annotations

from postroad.core.faces import Disk
from postroad.spool.content import take_spare_files
from postroad.spool.owner import LOCK_NAME
from postroad.spool.recovery import BODIES, damaged_beside
from postroad.spool.store import database_files


def remove_shard(directory: str, disk: Disk) -> None:
    """Remove the directory of an empty, closed shard. May be called again after it failed.

    While a damaged database lies beside, what is left of contents may be its messages': it goes there, for a salvage.

    Raises:
        OSError: the disk does not work now, or something lies in it that is not the spool's.
    """
    bodies = f"{directory}/{BODIES}"
    if disk.exists(bodies):
        names = disk.list(bodies)
        for damaged in damaged_beside(directory, disk) if names else ():
            disk.make_directories(f"{damaged}/{BODIES}")
            take_spare_files(disk, bodies, f"{damaged}/{BODIES}", names)
        for name in names:
            disk.unlink(f"{bodies}/{name}")
        disk.remove_directory(bodies)
    # The database first, durably: where its last transactions are in the WAL alone, without that it has back what
    # has been moved, and delivered since. A WAL without a database is nothing, and SQLite takes it for nothing.
    database, *beside = database_files(directory)
    if disk.exists(database):
        disk.unlink(database)
    disk.sync_directory(directory)  # also where it is gone: the sync may be what failed the last time
    for path in (*beside, f"{directory}/{LOCK_NAME}"):
        if disk.exists(path):
            disk.unlink(path)
    disk.remove_directory(directory)
    disk.sync_directory(directory.rsplit("/", 1)[0])
