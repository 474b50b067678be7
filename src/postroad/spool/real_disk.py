"""The Disk face on the operating system's files.

Owns: how a file is made, synced, listed. Does not own: when (content.py, recovery.py, local delivery). Passes
tests/contracts/test_disk.py, as does testing/memory_disk.py. The assumptions about what ``fsync`` means stand in
docs/durability.md.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Final

from postroad.core.units import MIB

_FILE_FLAGS: Final = os.O_CLOEXEC | os.O_NOFOLLOW
_WRITTEN_AGAIN_AT_ONCE: Final = MIB
_MADE_MAX: Final = 4_096
"""Directories that are remembered as durable: most of those of the Maildirs that mail is brought to again and again."""


class OsFile:
    """An open file of the operating system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, octets: bytes | memoryview) -> None:
        rest = memoryview(octets)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]

    def read_at(self, offset: int, octets_max: int) -> bytes:
        return os.pread(self._descriptor, octets_max, offset)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class OsDisk:
    """The file systems of this machine. May be used by several threads."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def create(self, path: str, mode: int = 0o600) -> OsFile:
        return OsFile(os.open(path, _FILE_FLAGS | os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, mode))

    def open(self, path: str) -> OsFile:
        return OsFile(os.open(path, _FILE_FLAGS | os.O_RDONLY))

    def write_again(self, path: str) -> None:
        write_again(path)

    def rename(self, old: str, new: str) -> None:
        Path(old).replace(new)

    def link(self, old: str, new: str) -> None:
        os.link(old, new, follow_symlinks=False)

    def unlink(self, path: str) -> None:
        Path(path).unlink()

    def remove_directory(self, path: str) -> None:
        Path(path).rmdir()

    def exists(self, path: str) -> bool:
        return os.path.lexists(path)

    def list(self, path: str) -> Sequence[str]:
        return os.listdir(path)

    def make_directories(self, path: str, mode: int = 0o700) -> None:
        if path in self._made and os.path.isdir(path):
            return
        chain = (Path(path), *Path(path).parents)
        missing = list(takewhile(lambda each: not each.is_dir(), chain))
        # Whoever made the innermost that is there may have died before its sync, or be about to: nobody below rests on
        # a name that is not durable. What is above it was durable before it was made.
        self._sync_name(chain[min(len(missing), len(chain) - 1)])
        for each in reversed(missing):
            each.mkdir(mode=mode, exist_ok=True)
            self.sync_directory(str(each.parent))
        if len(self._made) >= _MADE_MAX:
            self._made.clear()
        self._made.add(path)

    def _sync_name(self, directory: Path) -> None:
        if not directory.is_mount():
            with suppress(PermissionError):  # where we may not look, somebody else made it
                self.sync_directory(str(directory.parent))

    def sync_directory(self, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def free(self, path: str) -> int:
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize


def write_again(path: str) -> None:
    """See ``Disk.write_again``."""
    descriptor = os.open(path, _FILE_FLAGS | os.O_RDWR)
    try:
        offset = 0
        while octets := os.pread(descriptor, _WRITTEN_AGAIN_AT_ONCE, offset):
            offset += os.pwrite(descriptor, octets, offset)  # what it did not take is read again
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
