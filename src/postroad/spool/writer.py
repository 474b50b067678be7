"""Group commit: what came in while the last sync ran is written in one transaction and one sync.

Owns: the order of turns: a batch's rows on the loop thread, its COMMIT in the writer's lane, then everybody is told;
the bounds of what waits. Does not own: SQL (store*.py), what memory learns of a batch (shard.py), what follows a
failure (recovery.py, through ``on_failed``).

The writer never waits for more to come: under load batches fill by themselves. Records without puts wait up to
RECORD_DELAY_MAX for company. While COMMIT runs nobody else touches that connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from postroad.core.faces import Clock, Threads
from postroad.core.units import MIB
from postroad.spool.batch import Batch, PutEntry, RecordEntry, WorkEntry
from postroad.spool.errors import DuplicateId, StoreTrouble
from postroad.spool.face import RECORD_DELAY_MAX, SpoolRefused, Why
from postroad.spool.store import Store

BATCH_PUTS: Final = 512
BATCH_OCTETS: Final = 8 * MIB
"""Puts and octets in one transaction: a sync of more takes long enough to be felt by those who wait."""
WAITING_PUTS: Final = 8_192
WAITING_OCTETS: Final = 128 * MIB
"""Puts and octets that may wait for the disk; past that clients are told to come back (451)."""
RECORDS_AT_ONCE: Final = 512
"""Records that do not wait for company."""


class Writer:
    """The one who writes. All calls on the loop."""

    def __init__(
        self,
        store: Store,
        threads: Threads,
        clock: Clock,
        *,
        lane: str,
        on_begun: Callable[[Batch], None],
        on_committed: Callable[[Batch, StoreTrouble | None], None],
        on_refused: Callable[[PutEntry], None],
        on_failed: Callable[[StoreTrouble], None],
    ) -> None:
        self.store = store
        self._threads = threads
        self._clock = clock
        self._lane = lane
        self._on_begun = on_begun
        self._on_committed = on_committed
        self._on_refused = on_refused
        self._on_failed = on_failed
        self._puts: list[PutEntry] = []
        self._records: list[RecordEntry] = []
        self._works: list[WorkEntry] = []
        self._octets = 0
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._idle: list[asyncio.Future[None]] = []
        self.is_stopped = False
        """True while the store is in trouble: nothing is begun, records are kept."""
        self.refused: set[int] = set()
        """Messages whose put failed: should the disk hold them all the same, they are removed at the reopening."""
        self.doubtful: set[int] = set()
        """Messages with a content file that were put or ended by it: the file goes at the reopening if the row is not
        there."""
        self.turn = asyncio.Lock()
        """Held while a batch is under way. Readers take it where there is one connection only."""

    # --- what comes in ---

    @property
    def is_full(self) -> bool:
        return len(self._puts) >= WAITING_PUTS or self._octets >= WAITING_OCTETS

    def put(self, entry: PutEntry) -> None:
        self._puts.append(entry)
        self._octets += entry.octets
        self.kick()

    def record(self, entry: RecordEntry) -> None:
        self._records.append(entry)
        if len(self._records) >= RECORDS_AT_ONCE:
            self.kick()
        elif self._task is None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RECORD_DELAY_MAX, self.kick)

    async def work(self, apply: Callable[..., Any], learn: Callable[[], None] | None = None) -> Any:
        """Do a slice of work in the transaction of the next batch; ``learn`` is called once it is durable.

        Raises:
            SpoolRefused: it was not done; after a failed sync nobody knows, until the store has been opened again.
        """
        if self.is_stopped:
            raise SpoolRefused(Why.TROUBLE, "the store is not open now")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._works.append(WorkEntry(apply, future, learn))
        self.kick()
        return await asyncio.shield(future)

    async def settle(self) -> None:
        """Return when everything that waits now is durable."""
        while not self.is_stopped and (self._puts or self._records or self._works or self._task is not None):
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(future)
            self.kick()
            await future

    # --- turns ---

    def kick(self) -> None:
        """Begin a turn if there is work and none is under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is None and not self.is_stopped and (self._puts or self._records or self._works):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while (self._puts or self._works or self._records) and not self.is_stopped:
                async with self.turn:
                    await self._next_turn()
                if self._records and not (self._puts or self._works) and not self._idle:
                    break
        finally:
            self._task = None
            if self._records and not self.is_stopped and self._timer is None and not (self._puts or self._works):
                self._timer = asyncio.get_running_loop().call_later(RECORD_DELAY_MAX, self.kick)
            elif self._puts or self._works:
                self.kick()
            if self.is_stopped or not (self._puts or self._records or self._works):
                idle, self._idle = self._idle, []
                for future in idle:
                    if not future.done():
                        future.set_result(None)

    async def _next_turn(self) -> None:
        if not self.is_stopped:  # else whoever had the turn before us met trouble
            await self._turn(self._take())

    def _take(self) -> Batch:
        batch = Batch()
        octets = 0
        if len(self._puts) <= BATCH_PUTS and self._octets <= BATCH_OCTETS:
            batch.puts, self._puts, self._octets = self._puts, [], 0
        while self._puts and len(batch.puts) < BATCH_PUTS and octets < BATCH_OCTETS:
            entry = self._puts.pop(0)
            batch.puts.append(entry)
            octets += entry.octets
            self._octets -= entry.octets
        batch.records, self._records = self._records, []
        batch.works, self._works = self._works, []
        return batch

    async def _turn(self, batch: Batch) -> None:
        store = self.store
        try:
            self._on_begun(batch)
            store.write.apply(batch, self._clock.now())
        except DuplicateId as error:
            # Nothing was committed, and what is there under that id is somebody's message: it must not be touched.
            trouble = StoreTrouble(Why.TROUBLE, str(error))
            try:
                store.write.rollback()
            except StoreTrouble as worse:  # the transaction may still be open
                self._refuse(batch, worse)
                self.stop_for(worse)
            else:
                self._refuse(batch, trouble)
            return
        except Exception as error:  # noqa: BLE001 - boundary: whatever broke, nothing was committed; refused, reopened
            trouble = error if isinstance(error, StoreTrouble) else StoreTrouble(Why.TROUBLE, repr(error))
            self._refuse(batch, trouble)
            self.stop_for(trouble)
            return
        try:
            after = await self._threads.run_blocking(store.commit, lane=self._lane)
        except StoreTrouble as error:
            # The disk may hold it or not: should it, the reopening removes it, since the client was told 451. But not a
            # report: it has taken the place of what it tells of, and that would be lost with it.
            self.refused.update(put.id for put in batch.puts if not put.replaces)
            self.doubtful.update(put.id for put in batch.puts if put.row[3])
            self.doubtful.update(message for message, _, in_file in batch.removed if in_file)
            for put in batch.puts:
                put.is_doubtful = True
            for entry in batch.records:
                entry.is_doubtful = True
            self._refuse(batch, error)
            self.stop_for(error)
            return
        self._on_committed(batch, after)
        for work in batch.works:
            if work.learn is not None:
                work.learn()
        for put in batch.puts:
            if not put.future.done():
                put.future.set_result(None)
        for work in batch.works:
            if not work.future.done():
                work.future.set_result(work.result)

    def _refuse(self, batch: Batch, error: StoreTrouble) -> None:
        """Refuse the batch's puts and works; keep its records: what was delivered is not delivered again."""
        self._records = batch.records + self._records
        for put in batch.puts:
            self._on_refused(put)
            _tell(put.future, error.as_refusal())
        for work in batch.works:
            _tell(work.future, error.as_refusal())

    def stop_for(self, error: StoreTrouble) -> None:
        """Take nothing more until ``resume``."""
        self.is_stopped = True
        waiting, self._puts, self._octets = self._puts, [], 0
        works, self._works = self._works, []
        for put in waiting:
            _tell(put.future, error.as_refusal())
        for work in works:
            _tell(work.future, error.as_refusal())
        self._on_failed(error)

    def resume(self, store: Store) -> None:
        """A fresh store works: go on."""
        self.store = store
        self.refused.clear()
        self.doubtful.clear()
        self.is_stopped = False
        self.kick()

    def stop(self) -> None:
        """Take nothing more."""
        self.is_stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for put in self._puts:
            _tell(put.future, SpoolRefused(Why.CLOSED))
        for work in self._works:
            _tell(work.future, SpoolRefused(Why.CLOSED))
        self._puts, self._works = [], []


def _tell(future: asyncio.Future[Any], refusal: SpoolRefused) -> None:
    if not future.done():
        future.set_exception(refusal)
        future.exception()  # a caller that was cancelled does not look: that is no error of ours
