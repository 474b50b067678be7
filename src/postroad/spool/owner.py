"""Who owns a shard: a lock on shard-N/owner.lock, held as long as the shard is.

Owns: the lock. One owner at a time, in whatever process; a crash frees it, since the kernel does. The lock is never
on the database: closing any descriptor of that would drop SQLite's own locks (docs/durability.md). Does not
own: what the owner does (shard.py). The command line takes the same lock when no relay runs.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final, Protocol

from postroad.spool.real_disk import OsDisk

LOCK_NAME: Final = "owner.lock"


class ShardOwned(Exception):
    """Another process owns the shard. The text says which, as far as it told."""


class Owner(Protocol):
    """The right to a shard."""

    def release(self) -> None:
        """Give it back. Harmless a second time."""


class LockOwner:
    """The right to the shard in a directory of the real disk.

    Raises:
        ShardOwned: another process has it.
        OSError: the directory cannot be made or the lock file not opened.
    """

    def __init__(self, directory: str) -> None:
        OsDisk().make_directories(directory)
        path = Path(directory) / LOCK_NAME
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(self._descriptor, 64).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise ShardOwned(f"{path} is held by process {owner}") from None
        if not _is_named(self._descriptor, path):  # its owner has just removed the shard, and the file with it
            os.close(self._descriptor)
            raise ShardOwned(f"{path} has just been removed by its owner")
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_named(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
