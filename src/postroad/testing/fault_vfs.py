"""SQLite on a MemoryDisk: its files, syncs and errors are the disk's.

Owns: translating between SQLite's VFS and the disk. Does not own: what fails or is lost (memory_disk.py). It has no
shared memory, so the spool opens it with ``exclusive`` (StoreOptions), on the same code otherwise. What it
claims of the device is what SQLite's own VFS claims on Linux. The simulation stands on it.
"""

from __future__ import annotations

import errno
from typing import Protocol

import apsw

from postroad.testing.memory_disk import MemoryDisk, MemoryFile, MemoryNode

SECTOR_OCTETS = 4_096


class DatabaseFile(Protocol):
    """What SQLite needs of an open file."""

    def read_at(self, offset: int, octets_max: int) -> bytes: ...
    def write_at(self, offset: int, octets: bytes) -> None: ...
    def truncate(self, size: int) -> None: ...
    def sync(self) -> None: ...
    def size(self) -> int: ...
    def close(self) -> None: ...


class DatabaseDisk(Protocol):
    """What SQLite needs of a disk: a MemoryDisk, or one process's view of it (sim/disk.py)."""

    def exists(self, path: str) -> bool: ...
    def open(self, path: str) -> DatabaseFile: ...
    def create(self, path: str) -> DatabaseFile: ...
    def unlink(self, path: str) -> None: ...
    def sync_directory(self, path: str) -> None: ...


class _AsSqlite:
    """Turns the disk's errors into the result codes of SQLite's own VFS: it acts differently on each."""

    __slots__ = ("_code",)

    def __init__(self, code: int) -> None:
        self._code = code

    def __enter__(self) -> None:
        """Nothing is to be done: a class, since a generator costs three times as much."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, FileNotFoundError):
            raise apsw.exception_for(apsw.SQLITE_IOERR_DELETE_NOENT) from error
        if isinstance(error, OSError):
            raise apsw.exception_for(apsw.SQLITE_FULL if error.errno == errno.ENOSPC else self._code) from error


_as_sqlite = {
    code: _AsSqlite(code)
    for code in (
        apsw.SQLITE_CANTOPEN,
        apsw.SQLITE_IOERR_DELETE,
        apsw.SQLITE_IOERR_ACCESS,
        apsw.SQLITE_IOERR_READ,
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_TRUNCATE,
        apsw.SQLITE_IOERR_FSYNC,
        apsw.SQLITE_IOERR_FSTAT,
    )
}.__getitem__


class FaultVfs(apsw.VFS):
    """Registered under ``name`` as long as the object lives."""

    def __init__(self, name: str, disk: DatabaseDisk) -> None:
        super().__init__(name, "", makedefault=False, maxpathname=0)
        self._disk = disk

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> VfsFile:  # type: ignore[override]  # noqa: N802
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None:  # a temporary file
            return VfsFile(MemoryFile(MemoryDisk(), "/temporary", MemoryNode(), 0), None)
        flags[1] = flags[0]
        with _as_sqlite(apsw.SQLITE_CANTOPEN):
            return self._open(path, flags[0])

    def _open(self, path: str, flags: int) -> VfsFile:
        if not self._disk.exists(path) and not flags & apsw.SQLITE_OPEN_CREATE:
            raise apsw.CantOpenError(path)
        # SQLite makes the name of a journal durable with the first sync after each opening that might have made
        # it (os_unix.c: isNewJrnl, UNIXFILE_DIRSYNC), that of a database never.
        journals = apsw.SQLITE_OPEN_WAL | apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL
        is_new = flags & apsw.SQLITE_OPEN_CREATE and flags & journals
        directory = (self._disk, path.rsplit("/", 1)[0]) if is_new else None
        return VfsFile(self._disk.open(path) if self._disk.exists(path) else self._disk.create(path), directory)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        with _as_sqlite(apsw.SQLITE_IOERR_DELETE):
            self._disk.unlink(filename)
            if syncdir:
                self._disk.sync_directory(filename.rsplit("/", 1)[0])

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        with _as_sqlite(apsw.SQLITE_IOERR_ACCESS):
            return self._disk.exists(pathname)

    def excepthook(self, etype: object, evalue: object, etraceback: object) -> bool:
        """Nobody is to be told of an error that SQLite passes over: True."""
        return True

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name


class VfsFile:
    """One open file, as SQLite asks for it."""

    def __init__(self, file: DatabaseFile, directory: tuple[DatabaseDisk, str] | None) -> None:
        self._file = file
        self._directory = directory

    def excepthook(self, etype: object, evalue: object, etraceback: object) -> bool:
        """Nobody is to be told of an error that SQLite passes over: True."""
        return True

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802
        with _as_sqlite(apsw.SQLITE_IOERR_READ):
            return self._file.read_at(offset, amount)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        with _as_sqlite(apsw.SQLITE_IOERR_WRITE):
            self._file.write_at(offset, data)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        with _as_sqlite(apsw.SQLITE_IOERR_TRUNCATE):
            self._file.truncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        with _as_sqlite(apsw.SQLITE_IOERR_FSYNC):
            self._file.sync()
            if self._directory is not None:
                disk, path = self._directory
                disk.sync_directory(path)
                self._directory = None

    def xFileSize(self) -> int:  # noqa: N802
        with _as_sqlite(apsw.SQLITE_IOERR_FSTAT):
            return self._file.size()

    def xClose(self) -> None:  # noqa: N802
        self._file.close()

    def xLock(self, level: int) -> None:  # noqa: N802
        """One connection, one process: nobody to keep out."""

    def xUnlock(self, level: int) -> None:  # noqa: N802
        """See ``xLock``."""

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR_OCTETS

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE
