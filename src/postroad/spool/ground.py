"""What a shard stands on: its store and writer, whether they work, and how they are brought back.

Owns: the parts a shard is made of, reading in a thread, trouble and its end, the free space. Does not own: what memory
knows of the rows (counting.py), the calls of the face (steer.py, shard.py), which are built on this.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

import msgspec

from postroad.core import facts
from postroad.core.faces import Clock, Disk, Outlet, Threads
from postroad.core.ids import IdMaker, MessageId
from postroad.core.units import KIB
from postroad.spool.agenda import Agenda
from postroad.spool.batch import Batch, PutEntry
from postroad.spool.errors import StoreDamaged, StoreTrouble
from postroad.spool.face import Why
from postroad.spool.owner import Owner
from postroad.spool.recovery import BODIES, Found, SetAside, drop_contents, reopen
from postroad.spool.rows import body_name
from postroad.spool.store import StoreOptions
from postroad.spool.store_read import ReadStore
from postroad.spool.writer import Writer

FREE_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the free space, while mail comes in."""
FREE_SHARE: Final = 4
"""A part of min_free must be free on the disk itself: the WAL and content files are not written inside the database,
and other shards may want some of it at the same time."""
WAL_EMPTIED_AT: Final = 256 * KIB
"""Octets of a WAL that are given back to a disk with less than min_free; fewer are not worth a sync."""
REOPEN_FIRST: Final = 0.05
REOPEN_LONGEST: Final = 10.0
"""Seconds between attempts to open the store again after trouble; doubling."""
REPORTS_READ: Final = 20_000


class ShardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of a shard."""

    min_free: int
    """Octets; less on the disk: puts are refused (FULL)."""
    store: StoreOptions = StoreOptions()


class Question(NamedTuple):
    """What only the store can tell, once it is open again: a commit failed, and what it wrote may be there."""

    read: Callable[[ReadStore], Any]
    """Blocking. Raises StoreTrouble: it is asked again at the next opening."""
    learn: Callable[[Any], None]
    """Called with what was read, before anything new is committed. Not if the store was set aside as damaged."""


@asynccontextmanager
async def closing_on_failure(opening: asyncio.Future[Found], threads: Threads, lane: str) -> AsyncIterator[Found]:
    """Wait for a store that is being opened, and close it if what follows fails or is cancelled: the lock goes next.

    A thread that opens cannot be called back, so a cancelled opening is waited for, too.
    """
    try:
        yield await whole(opening)
    except BaseException:
        if opening.exception() is None:
            store = opening.result().store
            await whole(threads.run_blocking(lambda: store.close(checkpoint=False), lane=lane))
        raise


class Ground:
    """The parts of a shard, and whether they work."""

    def __init__(
        self,
        directory: str,
        *,
        number: int,
        clock: Clock,
        outlet: Outlet,
        disk: Disk,
        threads: Threads,
        settings: ShardSettings,
        owner: Owner,
        found: Found,
    ) -> None:
        self.agenda = Agenda()
        self.number = number
        self._clock = clock
        self._directory = directory
        self._outlet = outlet
        self._disk = disk
        self._threads = threads
        self._settings = settings
        self._owner = owner
        self._lane = f"spool-{number}"
        self._ids = IdMaker(number, floor=found.totals.last_id)
        self._is_full = False
        self._free_looked_at = -FREE_LOOK_EVERY
        self._is_looking = False
        self._trouble = ""
        self._reopening: asyncio.Task[None] | None = None
        self._questions: list[Question] = []
        self._answers: list[tuple[Question, Any]] = []
        self._background: set[asyncio.Future[Any]] = set()
        self._is_closed = False
        self._reopen_wait = REOPEN_FIRST
        self.writer = Writer(
            found.store,
            threads,
            clock,
            lane=self._lane,
            on_begun=self._on_begun,
            on_committed=self._on_committed,
            on_refused=self._on_refused,
            on_failed=self._on_failed,
        )

    def _on_begun(self, batch: Batch) -> None:
        self.agenda.arriving.update(put.id for put in batch.puts)

    def _on_refused(self, put: PutEntry) -> None:
        self.agenda.arriving.discard(put.id)

    def _on_committed(self, batch: Batch, trouble: StoreTrouble | None) -> None:
        raise AssertionError("counting.py learns")

    def _learn(self, found: Found) -> None:
        raise AssertionError("counting.py learns")

    def refusing(self) -> Why | None:
        if self._is_closed:
            return Why.CLOSED
        if self.writer.is_stopped:
            return Why.TROUBLE
        self._look_at_free()
        if self._is_full:
            return Why.FULL
        return self._busy()

    def _busy(self) -> Why | None:
        return Why.BUSY if self.writer.is_full else None

    # --- trouble, and its end ---

    def _on_failed(self, error: StoreTrouble) -> None:
        self.agenda.arriving.clear()
        self._tell_trouble(str(error))
        if self._reopening is None and not self._is_closed:
            self._reopening = asyncio.get_running_loop().create_task(self._reopen(isinstance(error, StoreDamaged)))
            self._reopening.add_done_callback(self._on_background_done)

    def _tell_trouble(self, why: str, *, over: bool = False) -> None:
        if over or why != self._trouble:
            self._outlet.emit(facts.Trouble(at=self._clock.now(), what="spool", why=why or self._trouble, over=over))
        self._trouble = "" if over else why

    async def _reopen(self, is_damaged: bool) -> None:
        """Open a fresh store, again and again until the disk works."""
        old = self.writer.store
        async with self.writer.turn:
            await self._end_reads()
            await self._threads.run_blocking(lambda: old.close(checkpoint=False), lane=self._lane)
            moved = ""
            while not self._is_closed:
                # Also before the first: a store that opens well and fails at each commit must not become a hot loop.
                await asyncio.sleep(self._reopen_wait)
                self._reopen_wait = min(self._reopen_wait * 2.0, REOPEN_LONGEST)
                try:
                    found = await self._open_again(is_damaged and not moved, moved)
                    break
                except SetAside as error:
                    moved = error.moved
                    self._tell_trouble(str(error))
                except StoreDamaged as error:  # it opened well, and a question met what is broken
                    is_damaged = True
                    self._tell_trouble(str(error))
                except Exception as error:  # noqa: BLE001 - boundary: whatever it is, nothing is accepted until it is over
                    self._tell_trouble(str(error) or repr(error))
            else:
                return
            if found.damaged_at:
                for claim in list(self.agenda.claims.values()):
                    claim.stale = True
            self._learn(found)
            for question, answer in self._answers:
                try:
                    question.learn(answer)
                except Exception as error:  # noqa: BLE001 - boundary: whoever asked must not keep the shard shut
                    self._tell_broken(error)
            self._questions, self._answers = [], []
            self._reopening = None
            self.writer.resume(found.store)
        self._tell_trouble("", over=True)

    async def _open_again(self, is_damaged: bool, moved: str) -> Found:
        """Open a fresh store. Cancelled, we wait, and close what was opened all the same: the lock goes next."""
        opening = self._threads.run_blocking(
            reopen,
            self._directory,
            self._settings.store,
            self._disk,
            sorted(self.writer.refused),
            self._clock.now(),
            REPORTS_READ,
            is_damaged,
            moved,
            lane=self._lane,
        )
        async with closing_on_failure(opening, self._threads, self._lane) as found:
            if (doubtful := set(self.writer.doubtful)) and not found.damaged_at:  # a salvage may want them
                arguments = (self._directory, self._disk, found.store, doubtful)
                await self._threads.run_blocking(drop_contents, *arguments, lane=self._lane)
            self._answers = []
            for question in () if found.damaged_at else self._questions:
                try:
                    answer = await self._threads.run_blocking(question.read, found.store.read, lane=self._lane)
                except StoreTrouble:
                    raise
                except Exception as error:  # noqa: BLE001 - boundary: as where it learns
                    self._tell_broken(error)
                else:
                    self._answers.append((question, answer))
            return found

    def _tell_if_kept(self, message: MessageId, told: Callable[[], None]) -> None:
        """Have ``told`` called when the store is open again, should it hold a message whose commit has failed."""

        def learn(known: set[int]) -> None:
            if message in known:
                told()

        self._questions.append(Question(lambda store: store.known([message]), learn))

    def _tell_broken(self, error: Exception) -> None:
        """Tell of an error of ours in what asked a question."""
        why = f"what was asked of the store could not be learnt: {error!r}"
        self._outlet.emit(facts.Trouble(at=self._clock.now(), what="spool", why=why))
        asyncio.get_running_loop().call_exception_handler({"message": why, "exception": error})

    async def _end_reads(self) -> None:
        """Return when no read is under way: a connection must not be closed under one."""
        if not self._settings.store.exclusive:
            await self._threads.run_blocking(bool, lane=f"{self._lane}-read")

    async def _read(self, work: Callable[[Any], Any]) -> Any:
        """Read in a thread; None if the store cannot be read now."""
        if self.writer.is_stopped:
            return None
        store = self.writer.store
        try:
            if self._settings.store.exclusive:
                async with self.writer.turn:
                    return await self._threads.run_blocking(work, store.read, lane=self._lane)
            return await self._threads.run_blocking(work, store.read, lane=f"{self._lane}-read")
        except StoreTrouble as error:
            if store is self.writer.store and not self.writer.is_stopped:
                self.writer.stop_for(error)
            return None

    # --- free space ---

    def _look_at_free(self) -> None:
        loop = asyncio.get_running_loop()
        if self._is_looking or loop.time() - self._free_looked_at < FREE_LOOK_EVERY:
            return
        self._is_looking, self._free_looked_at = True, loop.time()
        self._in_background(self._measure_free())

    async def _measure_free(self) -> None:
        """Learn whether mail may come in.

        Neither a database nor its WAL gets smaller by itself. What the database grew by when much mail waited is free
        inside it once that is delivered, and counts; what the WAL grew to is given back. Otherwise a queue that has
        filled its disk by itself would refuse mail for ever.
        """
        try:
            free = await self._learn_free()
            if self._is_full and self.writer.store.wal_file_octets >= WAL_EMPTIED_AT and self._is_some(free):
                await self._empty_wal()  # the next look finds what it gave
        finally:
            self._is_looking = False

    async def _learn_free(self) -> int:
        """Return how much is free on the disk once the database has grown by what only its WAL holds."""
        least, inside, growth = self._settings.min_free, 0, 0
        try:
            free = await self._threads.run_blocking(self._disk.free, self._directory)
        except OSError:
            return 0  # what was known holds until the next look
        store = self.writer.store
        if free < least + store.wal_octets and (room := await self._read(lambda store: store.transfer.room())):
            growth = max(0, room[0] - store.file_octets)
            inside = room[1] if self._is_some(free - growth) else 0
        left = free - growth
        if (is_full := left + inside < least) != self._is_full:
            why = f"{left} octets free in {self._directory}, and {inside} in its database; min_free is {least}"
            self._outlet.emit(facts.Trouble(at=self._clock.now(), what="disk", why=why, over=not is_full))
        self._is_full = is_full
        return left

    def _is_some(self, free: int) -> bool:
        return free >= self._settings.min_free // FREE_SHARE

    async def _empty_wal(self) -> None:
        async with self.writer.turn:
            if self.writer.is_stopped:
                return
            try:
                await self._threads.run_blocking(self.writer.store.empty_wal, lane=self._lane)
            except StoreTrouble as error:
                self.writer.stop_for(error)

    def _now(self) -> float:
        return self._clock.now()

    def _body_path(self, message: int) -> str:
        return f"{self._directory}/{BODIES}/{body_name(message)}"

    def _in_background(self, work: Any) -> None:
        future = asyncio.ensure_future(work)
        self._background.add(future)
        future.add_done_callback(self._on_background_done)

    def _on_background_done(self, future: asyncio.Future[Any]) -> None:
        self._background.discard(future)
        if not future.cancelled() and (error := future.exception()) is not None:
            self._outlet.emit(facts.Trouble(at=self._clock.now(), what="spool", why=str(error)))


async def whole(work: Awaitable[Any]) -> Any:
    """Await work that is never broken off half way: cancelled, once or again, we wait for its end first."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_unheard)  # whoever asked is gone: nobody is left to hear of it
        while not task.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([task])
        raise


def _unheard(task: asyncio.Future[Any]) -> None:
    """Look at the error that nobody will: else the loop tells of it as a bug."""
    if not task.cancelled():
        task.exception()
