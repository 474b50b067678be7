"""The machine's disk as one of its processes sees it: every operation may be the last.

Owns: where crashes and errors fall (before, in, after an operation), descriptors that die with their process, which of
them are open (what leaks shows here). Does not own: what is seen and what is durable (testing/memory_disk.py), when
something falls (chaos.py). SQLite reaches the same disk by testing/fault_vfs.py.
"""

from __future__ import annotations

import errno
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from postroad.testing.memory_disk import WRITTEN_AGAIN_AT_ONCE, MemoryDisk, MemoryFile
from postroad.testing.seeded_dice import SeededDice
from postroad.testing.sim.chaos import MIN_FREE, Chaos
from postroad.testing.sim.kernel import Kernel, Process

T = TypeVar("T")


class ProcessDisk:
    """Implements faces.Disk for one process, and what FaultVfs asks of a disk."""

    def __init__(self, disk: MemoryDisk, process: Process, chaos: Chaos) -> None:
        self.disk = disk
        self.process = process
        self.chaos = chaos
        self.open_files: Counter[str] = Counter()
        """How often each is open; by the path that it was opened by."""
        process.on_death.append(self._let_go)

    def _let_go(self) -> None:
        """Let the dead go: SQLite holds its files where no collector of cycles looks, and they hold this."""
        self.process = _NOBODY
        self.chaos = _NOBODYS_CHAOS

    def do(self, operation: str, path: str, work: Callable[[], T], half: Callable[[], Any] | None = None) -> T:
        """Do one operation, unless a crash or an error falls on it."""
        self.check()
        blow, error, place = self.chaos.look(self.process, operation, path)
        if blow is None and error is None:
            return work()
        if blow is None:
            assert error is not None
            self._fail(error)
            try:
                return work()  # the disk raises it, having done what a failed operation leaves behind
            finally:
                self.disk.on_operation = None
        if blow.when == "after":
            result = work()
            self.chaos.strike(self.process, blow, place)
            return result
        if blow.when == "in":
            assert half is not None, "chaos.look makes it a blow after what happens whole or not at all"
            half()
        self.chaos.strike(self.process, blow, place)
        if self.process.is_alive:  # nothing fell, and the operation goes on
            return work()
        raise dead()

    def _fail(self, error: OSError) -> None:
        def fail(operation: str, path: str) -> None:
            raise error

        self.disk.on_operation = fail

    def check(self) -> None:
        if not self.process.is_alive:
            raise dead()

    # --- the face ---

    def create(self, path: str, mode: int = 0o600) -> ProcessFile:
        return ProcessFile(self, path, self.do("create", path, lambda: self.disk.create(path, mode)))

    def open(self, path: str) -> ProcessFile:
        self.check()
        return ProcessFile(self, path, self.disk.open(path))

    def write_again(self, path: str) -> None:
        file = self.open(path)
        try:
            for offset in range(0, file.size(), WRITTEN_AGAIN_AT_ONCE):
                file.write_at(offset, file.read_at(offset, WRITTEN_AGAIN_AT_ONCE))
            file.sync()
        finally:
            file.close()

    def rename(self, old: str, new: str) -> None:
        self.do("rename", new, lambda: self.disk.rename(old, new))

    def link(self, old: str, new: str) -> None:
        self.do("link", new, lambda: self.disk.link(old, new))

    def unlink(self, path: str) -> None:
        self.do("unlink", path, lambda: self.disk.unlink(path))

    def remove_directory(self, path: str) -> None:
        self.do("remove_directory", path, lambda: self.disk.remove_directory(path))

    def exists(self, path: str) -> bool:
        self.check()
        return self.disk.exists(path)

    def list(self, path: str) -> Sequence[str]:
        self.check()
        return self.disk.list(path)

    def make_directories(self, path: str, mode: int = 0o700) -> None:
        self.check()
        if not self.disk.exists(path):
            outer = path.rsplit("/", 1)[0]
            self.do(
                "make_directories",
                path,
                lambda: self.disk.make_directories(path, mode),
                lambda: self.disk.make_directories(outer, mode),
            )

    def sync_directory(self, path: str) -> None:
        self.do(
            "sync_directory",
            path,
            lambda: self.disk.sync_directory(path),
            lambda: self.disk.sync_directory_part(path, self.chaos.dice),
        )

    def free(self, path: str) -> int:
        self.check()
        share = self.chaos.free_share
        return self.disk.free(path) if share == math.inf else int(share * MIN_FREE)


class ProcessFile:
    """Implements faces.DiskFile, and what an SQLite VFS needs besides."""

    __slots__ = ("_disk", "_file", "_is_open", "_path")

    def __init__(self, disk: ProcessDisk, path: str, file: MemoryFile) -> None:
        self._disk = disk
        self._path = path
        self._file = file
        self._is_open = True
        disk.open_files[path] += 1

    def write(self, octets: bytes | memoryview) -> None:
        self.write_at(self._file.size(), octets)

    def write_at(self, offset: int, octets: bytes | memoryview) -> None:
        file = self._file
        self._disk.do(
            "write",
            self._path,
            lambda: file.write_at(offset, octets),
            lambda: file.write_at(offset, octets[: int(len(octets) * self._disk.chaos.dice.random())]),
        )

    def truncate(self, size: int) -> None:
        self._disk.do("truncate", self._path, lambda: self._file.truncate(size))

    def read_at(self, offset: int, octets_max: int) -> bytes:
        self._disk.check()
        self._disk.chaos.look_at_reading(self._path)
        return self._file.read_at(offset, octets_max)

    def size(self) -> int:
        self._disk.check()
        return self._file.size()

    def sync(self) -> None:
        self._disk.do("sync", self._path, self._file.sync, lambda: self._file.sync_part(self._disk.chaos.dice))

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._disk.open_files[self._path] -= 1
        self._file.close()


_NOBODY: Final = Process(Kernel(), "nobody")
"""Stands for any process that is dead."""
_NOBODY.die()
_NOBODYS_CHAOS: Final = Chaos(_NOBODY.kernel, SeededDice(0), ())


def dead() -> OSError:
    return OSError(errno.EIO, "the process that asks is dead")
