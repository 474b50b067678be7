"""A disk in memory that forgets what was not synced, for tests and for the simulation.

Owns: what programs see (the page cache and the names in it), what would be there after a power cut, errors on command.
Passes tests/contracts/test_disk.py. testing/fault_vfs.py puts SQLite on the same disk. Does not own: when
anything fails; a test says so with ``on_operation``.

It is as forgetful as POSIX allows, more so than ext4: the content of a file is durable after its ``sync`` only, its
name, and a directory that was made, after a ``sync_directory`` only; a directory that is removed is gone. After a
*failed* sync what it was to write is never written any more, though it can still be read: that is what Linux does (the
pages are marked clean).
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Sequence
from typing import Final

from postroad.core.faces import Dice
from postroad.core.units import KIB

FREE_OCTETS: Final = 1 << 40
"""Free space, unless a test says less."""

WRITTEN_AGAIN_AT_ONCE: Final = 64 * KIB
"""Octets; less than the real disk's, so that a crash finds more places to fall on."""

Change = tuple[int, bytes | None]
"""A write at an offset, or, with None, a truncation to that length."""


class MemoryNode:
    """One file, whatever its names: what is seen, and what the medium holds."""

    __slots__ = ("durable", "pending", "seen")

    def __init__(self) -> None:
        self.seen = bytearray()
        self.durable = bytearray()
        self.pending: list[Change] = []

    def change(self, change: Change) -> None:
        _apply(self.seen, change)
        self.pending.append(change)

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()


def _apply(octets: bytearray, change: Change) -> None:
    offset, written = change
    if written is None:
        del octets[offset:]
        octets.extend(bytes(offset - len(octets)))
        return
    octets.extend(bytes(max(0, offset - len(octets))))
    octets[offset : offset + len(written)] = written


NameChange = tuple[tuple[str, MemoryNode | None], ...]
"""Names that get a node, or lose theirs, at once."""


class MemoryDisk:
    """Implements faces.Disk. May be used by several threads."""

    def __init__(self) -> None:
        self.free_octets = FREE_OCTETS
        self.on_operation: Callable[[str, str], None] | None = None
        """Called with the operation's name and path before each that changes or syncs; what it raises happens."""
        self.operations = 0
        """How many operations there were that change or sync."""
        self.is_off = False
        """True: the power is off, everything raises OSError until ``power_on``."""
        self._lock = threading.RLock()
        self._names: dict[str, MemoryNode] = {}
        self._durable_names: dict[str, MemoryNode] = {}
        self._pending: list[NameChange] = []
        self._directories = {"/", "."}
        self._durable_directories = {"/", "."}
        self._new_directories: set[str] = set()
        """Those of the first that are not in the second."""
        self._power = 0

    # --- crashes ---

    def kill(self) -> None:
        """The process dies: open files are gone, what the kernel has stays."""
        with self._lock:
            self._power += 1

    def power_off(self, dice: Dice | None = None) -> None:
        """The power goes: what was not synced is lost, or, with ``dice``, any part of it may have been written.

        Any of the pending writes to a file, each to any length; of the pending changes of names a first part.
        """
        with self._lock:
            self.is_off = True
            self._power += 1
            nodes = {id(node): node for names in (self._names, self._durable_names) for node in names.values()}
            for node in nodes.values():
                if dice is not None:
                    for change in node.pending:
                        _apply_part(node.durable, change, dice)
                node.pending.clear()
            while dice and self._pending and dice.random() < 0.5:
                self._make_durable(self._pending.pop(0))
            self._pending.clear()
            for one in sorted(self._new_directories):
                if dice and _parent(one) in self._durable_directories and dice.random() < 0.5:
                    self._keep_directories({one})
            self._new_directories.clear()
            for name in [name for name in self._durable_names if _parent(name) not in self._durable_directories]:
                del self._durable_names[name]

    def power_on(self) -> None:
        """It comes back: there is what the medium holds."""
        with self._lock:
            self.is_off = False
            self._names = dict(self._durable_names)
            self._directories = set(self._durable_directories)
            for node in self._names.values():
                node.seen = bytearray(node.durable)

    def contents(self) -> list[tuple[str, bytes]]:
        """Return all files as they are seen, by name."""
        with self._lock:
            return [(name, bytes(node.seen)) for name, node in sorted(self._names.items())]

    # --- files ---

    def create(self, path: str, mode: int = 0o600) -> MemoryFile:
        with self._lock:
            self._begin("create", path)
            if path in self._names or path in self._directories:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
            self._need_directory(path)
            node = MemoryNode()
            self._rename(((path, node),))
            return MemoryFile(self, path, node, self._power)

    def open(self, path: str) -> MemoryFile:
        with self._lock:
            return MemoryFile(self, path, self._node(path), self._power)

    def write_again(self, path: str) -> None:
        file = self.open(path)
        for offset in range(0, file.size(), WRITTEN_AGAIN_AT_ONCE):
            file.write_at(offset, file.read_at(offset, WRITTEN_AGAIN_AT_ONCE))
        file.sync()

    def rename(self, old: str, new: str) -> None:
        with self._lock:
            self._begin("rename", new)
            self._need_directory(new)
            self._rename(((new, self._node(old)), (old, None)))

    def link(self, old: str, new: str) -> None:
        with self._lock:
            self._begin("link", new)
            self._need_directory(new)
            if new in self._names:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new)
            self._rename(((new, self._node(old)),))

    def unlink(self, path: str) -> None:
        with self._lock:
            self._begin("unlink", path)
            self._node(path)
            self._rename(((path, None),))

    def exists(self, path: str) -> bool:
        with self._lock:
            self._check()
            return path in self._names or path in self._directories

    # --- directories ---

    def list(self, path: str) -> Sequence[str]:
        with self._lock:
            self._check()
            self._need(path)
            inside = {*self._names, *self._directories} - {path}
            return sorted(name.rsplit("/", 1)[1] for name in inside if _parent(name) == path)

    def make_directories(self, path: str, mode: int = 0o700) -> None:
        with self._lock:
            missing = list[str]()
            while path not in self._directories:
                missing.append(path)
                path = _parent(path)
            self.sync_directory(_parent(path))
            for each in reversed(missing):
                self._begin("make_directories", each)
                self._directories.add(each)
                self._new_directories.add(each)
                self.sync_directory(_parent(each))

    def remove_directory(self, path: str) -> None:
        """Durable at once, as directories are made here."""
        with self._lock:
            self._begin("remove_directory", path)
            self._need(path)
            if any(_parent(name) == path for name in {*self._names, *self._directories} - {path}):
                raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
            for each in (self._directories, self._durable_directories, self._new_directories):
                each.discard(path)
            for name in [name for name in self._durable_names if _parent(name) == path]:
                del self._durable_names[name]

    def sync_directory(self, path: str) -> None:
        with self._lock:
            self._begin("sync_directory", path)
            self._need(path)
            self._keep_directories({one for one in self._new_directories if _parent(one) == path})
            pending, self._pending = self._pending, []
            for change in pending:
                if any(_parent(name) == path for name, _ in change):
                    self._make_durable(change)
                else:
                    self._pending.append(change)

    def sync_directory_part(self, path: str, dice: Dice) -> None:
        """Make a first part of the names in it durable, as a sync that is cut short does."""
        with self._lock:
            waiting = [change for change in self._pending if any(_parent(name) == path for name, _ in change)]
            for change in waiting[: int(dice.random() * (len(waiting) + 1))]:
                self._make_durable(change)
                self._pending.remove(change)

    def free(self, path: str) -> int:
        with self._lock:
            self._check()
            return self.free_octets

    # --- underneath ---

    def _begin(self, operation: str, path: str) -> None:
        self._check()
        self.operations += 1
        if self.on_operation is not None:
            self.on_operation(operation, path)
            self._check()

    def _check(self, power: int | None = None) -> None:
        if self.is_off or (power is not None and power != self._power):
            raise OSError(errno.EIO, "the power is off" if self.is_off else "the process that opened it is dead")

    def _node(self, path: str) -> MemoryNode:
        self._check()
        if path not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._names[path]

    def _need(self, directory: str) -> None:
        if directory not in self._directories:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), directory)

    def _need_directory(self, path: str) -> None:
        self._need(_parent(path))

    def _keep_directories(self, made: set[str]) -> None:
        self._durable_directories |= made
        self._new_directories -= made

    def _rename(self, change: NameChange) -> None:
        _set_names(self._names, change)
        self._pending.append(change)

    def _make_durable(self, change: NameChange) -> None:
        _set_names(self._durable_names, change)


class MemoryFile:
    """Implements faces.DiskFile, and what an SQLite VFS needs besides: writes at any place, truncation."""

    def __init__(self, disk: MemoryDisk, path: str, node: MemoryNode, power: int) -> None:
        self._disk = disk
        self._path = path
        self._node = node
        self._power = power

    def write(self, octets: bytes | memoryview) -> None:
        self.write_at(len(self._node.seen), octets)

    def write_at(self, offset: int, octets: bytes | memoryview) -> None:
        """Write all of ``octets`` at ``offset``. An error leaves half of it written."""
        written = bytes(octets)
        self._change("write", (offset, written), (offset, written[: len(written) // 2]))

    def truncate(self, size: int) -> None:
        """Cut the file, or lengthen it with zeros, to ``size`` octets."""
        self._change("truncate", (size, None), None)

    def _change(self, operation: str, change: Change, if_it_fails: Change | None) -> None:
        with self._disk._lock:  # noqa: SLF001 - a file is a part of its disk
            try:
                self._begin(operation)
            except OSError:
                if if_it_fails is not None and not self._disk.is_off:
                    self._node.change(if_it_fails)
                raise
            self._node.change(change)

    def read_at(self, offset: int, octets_max: int) -> bytes:
        self._disk._check(self._power)  # noqa: SLF001
        return bytes(self._node.seen[offset : offset + octets_max])

    def size(self) -> int:
        self._disk._check(self._power)  # noqa: SLF001
        return len(self._node.seen)

    def sync(self) -> None:
        with self._disk._lock:  # noqa: SLF001
            try:
                self._begin("sync")
            except OSError:
                self._node.pending.clear()  # read they can be, but nobody will write them now
                raise
            self._node.sync()

    def sync_part(self, dice: Dice) -> None:
        """Write out any part of what waits, as the system may do at any time, and as a sync that is cut short does."""
        with self._disk._lock:  # noqa: SLF001
            for change in self._node.pending:
                _apply_part(self._node.durable, change, dice)

    def close(self) -> None:
        """Files hold nothing that must be let go of."""

    def _begin(self, operation: str) -> None:
        self._disk._check(self._power)  # noqa: SLF001
        self._disk._begin(operation, self._path)  # noqa: SLF001


def _parent(path: str) -> str:
    return path.rsplit("/", 1)[0] or "/" if "/" in path else "."


def _set_names(names: dict[str, MemoryNode], change: NameChange) -> None:
    for name, node in change:
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _apply_part(octets: bytearray, change: Change, dice: Dice) -> None:
    """Write all of it, nothing, or a first part."""
    chance = dice.random()
    if chance < 0.4:
        return
    offset, written = change
    if written is not None and chance < 0.6:
        written = written[: int(len(written) * dice.random())]
    _apply(octets, (offset, written))
