"""Large contents: files beside the database, written as they come in, read in pieces.

Owns: BodyWriter and ContentReader on the Disk face, the hash of a content,
its way into another shard. Does not own: the row that names a file
(it commits after the file and its name are durable), unlinking after removal (shard.py, once that is synced).
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from postroad.core.faces import Disk, DiskFile, Threads
from postroad.core.ids import MessageId
from postroad.core.units import KIB
from postroad.spool.errors import refusal_of
from postroad.spool.face import ContentDamaged, SpoolFile, SpoolRefused, Why
from postroad.spool.rows import HASH_OCTETS, body_name

PIECE_OCTETS: Final = 256 * KIB
"""Octets read at a time to check a hash."""
_NO_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS})


class FileBodyWriter:
    """Writes one content into ``bodies/<id>``. One write is under way at a time; the next waits for it."""

    def __init__(
        self, directory: str, message: MessageId, disk: Disk, threads: Threads, refusing: Callable[[], Why | None]
    ) -> None:
        self._directory = directory
        self._path = f"{directory}/{body_name(message)}"
        self._name = body_name(message)
        self._disk = disk
        self._threads = threads
        self._refusing = refusing
        self._file: DiskFile | None = None
        self._under_way: asyncio.Future[None] | None = None
        self._hash = blake2b(digest_size=HASH_OCTETS)
        self._size = 0

    async def write(self, octets: bytes) -> None:
        """Append. Raises SpoolRefused: the disk does not take it, and the file is gone."""
        await self._settle()
        if (why := self._refusing()) is not None:
            await self.discard()
            raise SpoolRefused(why)
        self._size += len(octets)
        self._under_way = self._threads.run_blocking(self._append, octets)

    def _append(self, octets: bytes) -> None:
        if self._file is None:
            self._file = self._disk.create(self._path)
        self._file.write(octets)
        self._hash.update(octets)

    async def _settle(self) -> None:
        """Wait for what is under way. Cancelled here, ``discard`` still finds it, and waits for it first."""
        if self._under_way is None:
            return
        try:
            await asyncio.shield(self._under_way)
        except OSError as error:
            await self.discard()
            raise refusal_of(error) from error
        self._under_way = None

    async def finish(self) -> SpoolFile:
        """Make content and name durable. Raises SpoolRefused; the file is then gone."""
        await self._settle()
        self._under_way = self._threads.run_blocking(self._sync)
        await self._settle()
        return SpoolFile(self._name, self._size, self._hash.digest())

    def _sync(self) -> None:
        if self._file is None:
            self._file = self._disk.create(self._path)
        self._file.sync()
        self._file.close()
        self._file = None
        self._disk.sync_directory(self._directory)

    async def discard(self) -> None:
        """Forget it, at any time. Never raises for what the disk says: an orphan is collected at the next start."""
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            with suppress(OSError):
                await asyncio.shield(under_way)
        with suppress(OSError):
            await asyncio.shield(self._threads.run_blocking(self._remove))

    def _remove(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()
        if self._size and self._disk.exists(self._path):
            self._disk.unlink(self._path)


class MemoryReader:
    """A small content, checked."""

    def __init__(self, octets: bytes) -> None:
        self._octets = octets
        self.size = len(octets)

    async def read(self, offset: int, octets_max: int) -> bytes:
        return self._octets[offset : offset + octets_max]

    def close(self) -> None:
        self._octets = b""


class FileReader:
    """A large content, checked before the first octet is given."""

    def __init__(self, file: DiskFile, size: int, threads: Threads) -> None:
        self._file = file
        self._threads = threads
        self.size = size

    async def read(self, offset: int, octets_max: int) -> bytes:
        return await self._threads.run_blocking(self._file.read_at, offset, octets_max)

    def close(self) -> None:
        self._file.close()


def open_checked(disk: Disk, path: str, size: int, content_hash: bytes) -> DiskFile:
    """Open a content file and read it once against its hash. Blocking.

    Raises:
        ContentDamaged: it is missing, or not what we wrote.
        OSError: the disk does not answer now.
    """
    try:
        file = disk.open(path)
    except FileNotFoundError:
        raise ContentDamaged("the content's file is missing") from None
    try:
        found, offset = blake2b(digest_size=HASH_OCTETS), 0
        while piece := file.read_at(offset, PIECE_OCTETS):
            found.update(piece)
            offset += len(piece)
        if offset != size or found.digest() != content_hash:
            raise ContentDamaged("the content's file does not hold what was written")
    except BaseException:
        file.close()
        raise
    return file


# --- contents that go to another shard: blocking ---


def take_files(disk: Disk, old: str, new: str, names: Sequence[str]) -> None:
    """Give content files a durable second name in the directory ``new``; where that cannot be, a durable copy.

    What stands there under such a name is left from a transfer that broke off: no row names it.
    """
    for name in names:
        if disk.exists(f"{new}/{name}"):
            disk.unlink(f"{new}/{name}")
        try:
            disk.link(f"{old}/{name}", f"{new}/{name}")
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            copy_file(disk, f"{old}/{name}", f"{new}/{name}")
    disk.sync_directory(new)


def take_spare_files(disk: Disk, old: str, new: str, names: Iterable[str]) -> None:
    """Likewise for contents of messages set aside as damaged: as far as they are there, never over another."""
    wanted = [name for name in names if disk.exists(f"{old}/{name}") and not disk.exists(f"{new}/{name}")]
    take_files(disk, old, new, wanted)


def copy_file(disk: Disk, old: str, new: str) -> None:
    """Make a new file with the content of another, durable but for its name. Raises OSError: a part of it may be there.

    Blocking.
    """
    source, offset = disk.open(old), 0
    try:
        target = disk.create(new)
        try:
            while piece := source.read_at(offset, PIECE_OCTETS):
                target.write(piece)
                offset += len(piece)
            target.sync()
        finally:
            target.close()
    finally:
        source.close()
