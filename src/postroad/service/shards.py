"""Opens the shards of a data_dir, closes them in order, and takes over those that have no worker any more.

Owns: where they are (``data_dir/shard-N``, N the slot of the worker), what they are opened with, adoption: all that an
orphaned shard holds is transferred, then its directory goes. Does not own: a shard (spool/shard.py), the steps of a
transfer (spool/transfer.py), what is said when a shard cannot be opened (service/offline.py for commands,
service/start.py for the relay). Directories ``shard-N.damaged-TIME`` stay where they are.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from postroad.config.model import Settings
from postroad.core import facts
from postroad.core.faces import Clock, Disk, Outlet, Threads
from postroad.core.ids import SHARDS_MAX
from postroad.service.threads import WorkerThreads
from postroad.spool.errors import StoreTooNew, StoreTrouble
from postroad.spool.face import Spool, SpoolRefused
from postroad.spool.ground import ShardSettings, whole
from postroad.spool.owner import LockOwner, Owner, ShardOwned
from postroad.spool.real_disk import OsDisk
from postroad.spool.removal import remove_shard
from postroad.spool.shard import Shard
from postroad.spool.store import StoreOptions
from postroad.spool.transfer import Transfer

RETRY_FIRST: Final = 0.5
RETRY_LONGEST: Final = 30.0
"""Seconds between attempts at an adoption while a disk is in trouble or full, or another process holds the shard;
doubling."""
_NAME: Final = re.compile(r"shard-(0|[1-9][0-9]{0,2})")


def shard_directory(data_dir: Path, number: int) -> Path:
    """Return where the shard of that number is."""
    return data_dir / f"shard-{number}"


def shard_numbers(data_dir: Path) -> list[int]:
    """Return the numbers of the shards that there are, the smallest first. Raises OSError."""
    try:
        names = [path.name for path in data_dir.iterdir() if path.is_dir()]
    except FileNotFoundError:
        return []
    numbers = [int(found[1]) for name in names if (found := _NAME.fullmatch(name))]
    return sorted(number for number in numbers if number < SHARDS_MAX)


def number_of_damaged(name: str) -> int | None:
    """Return the number of the shard whose database was set aside under that name; None if it is no such name."""
    found = _NAME.match(name)
    return int(found[1]) if found and name[found.end() :].startswith(".damaged-") else None


class Hands(NamedTuple):
    """What a shard is opened with, but for threads: the machine's own, unless a simulation has others."""

    disk: Disk = OsDisk()
    owner: Callable[[str], Owner] = LockOwner
    """Takes the right to a directory."""
    store: StoreOptions = StoreOptions()


THE_MACHINES: Final = Hands()


@asynccontextmanager
async def open_shard(
    settings: Settings, clock: Clock, outlet: Outlet, threads: WorkerThreads | None = None, *, number: int = 0
) -> AsyncIterator[Shard]:
    """Give a shard, ours until the block ends. Without ``threads`` it has its own, which end with it.

    Raises:
        ShardOwned: another process has it.
        OSError, StoreTrouble, StoreTooNew: it cannot be opened.
    """
    mine = WorkerThreads() if threads is None else threads
    try:
        shard = await _take(settings, number, clock, outlet, mine)
        try:
            yield shard
        finally:
            await shard.close()
    finally:
        if threads is None:
            mine.close()


@asynccontextmanager
async def open_all_shards(settings: Settings, clock: Clock, outlet: Outlet) -> AsyncIterator[list[Spool]]:
    """Give all shards of data_dir, by number, ours until the block ends: for commands while no relay runs.

    All or none: what was opened before one that cannot be is closed again. Where there is none, shard 0 is made.

    Raises:
        ShardOwned: another process has one of them.
        OSError, StoreTrouble, StoreTooNew: one cannot be opened.
    """
    threads = WorkerThreads()
    try:
        async with AsyncExitStack() as stack:
            spools: list[Spool] = [
                await stack.enter_async_context(open_shard(settings, clock, outlet, threads, number=number))
                for number in shard_numbers(settings.data_dir) or [0]
            ]
            yield spools
    finally:
        threads.close()


async def _take(
    settings: Settings,
    number: int,
    clock: Clock,
    outlet: Outlet,
    threads: Threads,
    owner: Owner | None = None,
    hands: Hands = THE_MACHINES,
) -> Shard:
    directory = str(shard_directory(settings.data_dir, number))
    return await Shard.take(
        directory,
        number=number,
        clock=clock,
        outlet=outlet,
        disk=hands.disk,
        threads=threads,
        settings=ShardSettings(min_free=settings.spool.min_free, store=hands.store),
        owner=owner or hands.owner(directory),
    )


class _Lent:
    """The right to a shard that outlives the shard's closing: the directory is removed under the same lock."""

    def release(self) -> None:
        """Whoever lent it releases it."""


class Adoption:
    """Takes over the shard of a number: everything in it moves to ``into``, then its directory goes."""

    def __init__(
        self,
        number: int,
        into: Shard,
        *,
        settings: Settings,
        clock: Clock,
        outlet: Outlet,
        threads: Threads,
        hands: Hands = THE_MACHINES,
    ) -> None:
        self.number = number
        self.spool: Shard | None = None
        """The adopted shard while it is open: people may steer it until it is empty."""
        self._moved_before = 0
        self._transfer: Transfer | None = None
        self._into = into
        self._settings = settings
        self._clock = clock
        self._outlet = outlet
        self._threads = threads
        self._hands = hands
        self._trouble = ""
        self.is_here = False
        """True once all that the shard held is in ours, durably; its directory may still be there."""
        self._settled = asyncio.Event()

    async def settled(self) -> None:
        """Return when that is so, or when it is given up."""
        await self._settled.wait()

    @property
    def moved(self) -> int:
        """Messages moved by this object so far."""
        return self._moved_before + (self._transfer.moved if self._transfer is not None else 0)

    async def run(self) -> int:
        """Return how many messages were moved, when the shard is gone. Tries until it is, unless a newer Postroad
        wrote it: then it stays, a fact says so, and what was moved before is returned.

        Cancelled, it ends what is in hand and closes the shard: what is moved is moved, the rest stays.
        """
        began, wait = asyncio.get_running_loop().time(), RETRY_FIRST
        while True:
            moved = self.moved
            try:
                await self._try()
                break
            except StoreTooNew as error:
                self._tell(str(error))
                self._settled.set()
                return self.moved
            except (ShardOwned, SpoolRefused, StoreTrouble, OSError) as error:
                self._tell(str(error))
            except Exception as error:  # noqa: BLE001 - boundary: the mail in it must not wait for the next start
                self._tell(f"an error of ours: {error!r}")
                asyncio.get_running_loop().call_exception_handler({"message": "an adoption broke", "exception": error})
            wait = RETRY_FIRST if self.moved > moved else min(2.0 * wait, RETRY_LONGEST)
            await asyncio.sleep(wait)
        if self._trouble:
            self._tell(self._trouble, over=True)
        seconds = asyncio.get_running_loop().time() - began
        self._outlet.emit(
            facts.Adopted(
                at=self._clock.now(),
                shard=self.number,
                into=self._into.number,
                messages=self.moved,
                seconds=seconds,
            )
        )
        return self.moved

    async def _try(self) -> None:
        directory = str(shard_directory(self._settings.data_dir, self.number))
        owner = self._hands.owner(directory)
        try:
            await self._empty()
            self.is_here = True
            self._settled.set()
            await whole(self._threads.run_blocking(remove_shard, directory, self._hands.disk))
        finally:
            owner.release()
        await self._into.forget_copied(self.number)

    async def _empty(self) -> None:
        """Open the shard, move all that is in it, close it."""
        parts = (self._settings, self.number, self._clock, self._outlet, self._threads)
        shard = await _take(*parts, owner=_Lent(), hands=self._hands)
        self.spool = shard
        self._moved_before, self._transfer = self.moved, None
        self._transfer = Transfer(shard, self._into)
        try:
            await self._transfer.run()
        finally:
            self.spool = None
            await whole(shard.close())

    def _tell(self, why: str, *, over: bool = False) -> None:
        if over or why != self._trouble:
            text = f"shard-{self.number} is not yet moved into shard-{self._into.number}: {why}"
            self._outlet.emit(facts.Trouble(at=self._clock.now(), what="adoption", why=text, over=over))
        self._trouble = why


async def adopt(number: int, into: Shard, *, settings: Settings, clock: Clock, outlet: Outlet, threads: Threads) -> int:
    """Move everything of shard ``number`` into ours, and remove it. See Adoption.run."""
    return await Adoption(number, into, settings=settings, clock=clock, outlet=outlet, threads=threads).run()
