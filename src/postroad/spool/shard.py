"""One shard of the spool: the face on SQLite, with its agenda, writer and content files.

Owns: the way in and out (put, claim, open, record), what memory learns of each batch, trouble and its end. Steering is
steer.py. The promise stands in face.py; how it is kept, in docs/durability.md.

Everything here runs on the loop; what blocks runs through Threads. What changes counts changes them in
``_on_committed`` only: memory never runs ahead of what is durable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from postroad.core import facts
from postroad.core.faces import Clock, Disk, Outlet, Threads
from postroad.core.ids import IdMaker, MessageId
from postroad.core.outcome import DeliveryState
from postroad.spool.agenda import Agenda, Claim
from postroad.spool.batch import Batch, PutEntry, RecordEntry
from postroad.spool.content import FileBodyWriter, FileReader, MemoryReader, open_checked
from postroad.spool.errors import StoreDamaged, StoreTrouble
from postroad.spool.face import (
    BodyWriter,
    ContentDamaged,
    ContentReader,
    Delivery,
    NewMessage,
    QueuedMessage,
    Ruling,
    SpoolFile,
    SpoolRefused,
    SpoolStats,
    Why,
)
from postroad.spool.owner import LockOwner, Owner
from postroad.spool.recovery import BODIES, Found, collect_orphans, reopen
from postroad.spool.rows import (
    Head,
    HeadRow,
    RowDamaged,
    WaitingRow,
    body_name,
    hash_of,
    queued,
    read_delivery,
    read_head,
)
from postroad.spool.steer import Steer
from postroad.spool.store import StoreOptions
from postroad.spool.writer import Writer

FREE_LOOK_EVERY: Final = 1.0
"""Seconds between two looks at the free space, while mail comes in."""
REOPEN_FIRST: Final = 0.2
REOPEN_LONGEST: Final = 10.0
"""Seconds between attempts to open the store again after trouble; doubling."""
REPORTS_READ: Final = 20_000


class ShardSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the configuration says of a shard."""

    min_free: int
    """Octets; less on the disk: puts are refused (FULL)."""
    store: StoreOptions = StoreOptions()


class Shard(Steer):
    """Implements face.Spool. Made by ``take``."""

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
        super().__init__(Agenda())
        self._clock = clock
        self._directory = directory
        self._outlet = outlet
        self._disk = disk
        self._threads = threads
        self._settings = settings
        self._owner = owner
        self._lane = f"spool-{number}"
        self._ids = IdMaker(number, floor=found.totals.last_id)
        self._listener: Callable[[QueuedMessage], bool] | None = None
        self._is_full = False
        self._free_looked_at = -FREE_LOOK_EVERY
        self._free_look: asyncio.Future[int] | None = None
        self._trouble = ""
        self._reopening: asyncio.Task[None] | None = None
        self._background: set[asyncio.Future[Any]] = set()
        self._is_closed = False
        self._messages = self._octets = 0
        self._oldest: float | None = None
        self._oldest_looked_at = 0.0
        self.writer = Writer(
            found.store,
            threads,
            clock,
            lane=self._lane,
            on_begun=self._on_begun,
            on_committed=self._on_committed,
            on_failed=self._on_failed,
        )
        self._learn(found)

    @classmethod
    async def take(
        cls,
        directory: str,
        *,
        number: int,
        clock: Clock,
        outlet: Outlet,
        disk: Disk,
        threads: Threads,
        settings: ShardSettings,
        owner: Owner | None = None,
    ) -> Shard:
        """Take the shard in ``directory``, which is made if need be.

        Raises:
            ShardOwned: another process has it.
            OSError, StoreTrouble, StoreTooNew: it cannot be opened; the text says why.
        """
        owner = owner or LockOwner(directory)
        lane = f"spool-{number}"
        try:
            await threads.run_blocking(disk.make_directories, f"{directory}/{BODIES}", lane=lane)
            found = await threads.run_blocking(
                reopen, directory, settings.store, disk, (), clock.now(), REPORTS_READ, lane=lane
            )
            await threads.run_blocking(collect_orphans, directory, disk, found.store, lane=lane)
            shard = cls(
                directory,
                number=number,
                clock=clock,
                outlet=outlet,
                disk=disk,
                threads=threads,
                settings=settings,
                owner=owner,
                found=found,
            )
        except BaseException:
            owner.release()
            raise
        shard._note_free(await threads.run_blocking(disk.free, directory))
        return shard

    # --- in ---

    def new_id(self) -> MessageId:
        return MessageId(self._ids.next_id(self._clock.now()))

    def begin_body(self, message: MessageId) -> BodyWriter:
        bodies = f"{self._directory}/{BODIES}"
        return FileBodyWriter(bodies, message, self._disk, self._threads, self.refusing)

    def refusing(self) -> Why | None:
        if self._is_closed:
            return Why.CLOSED
        if self.writer.is_stopped:
            return Why.TROUBLE
        self._look_at_free()
        if self._is_full:
            return Why.FULL
        return Why.BUSY if self.writer.is_full else None

    async def put(self, message: NewMessage, *, replaces: Sequence[tuple[MessageId, Sequence[Ruling]]] = ()) -> None:
        if (why := self.refusing()) is not None:
            await self._drop_body(message)
            raise SpoolRefused(why, self._trouble)
        entries = [self._close_claim(other, rulings) for other, rulings in replaces]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writer.put(PutEntry(message, entries, future))
        try:
            await asyncio.shield(future)
        except SpoolRefused:
            for entry in entries:
                self._reopen_claim(entry)
            await self._drop_body(message)
            raise

    async def _drop_body(self, message: NewMessage) -> None:
        if isinstance(message.content, SpoolFile):
            with suppress(OSError):
                await self._threads.run_blocking(self._disk.unlink, self._body_path(message.id))

    def on_kept(self, listener: Callable[[QueuedMessage], bool]) -> None:
        self._listener = listener

    # --- out ---

    def due_domains(self, now: float, limit: int) -> Sequence[str]:
        return [] if self.writer.is_stopped else self.agenda.due_domains(now, limit)

    def pause(self, domain: str, until: float) -> None:
        self.agenda.pause(domain, until)

    def next_due_at(self) -> float | None:
        return None if self.writer.is_stopped else self.agenda.next_due_at()

    async def claim(self, domain: str, now: float, limit: int) -> Sequence[QueuedMessage]:
        agenda = self.agenda
        watch = agenda.watch()
        try:
            read = await self._read(
                lambda store: store.due(domain, agenda.levels(domain), now, agenda.claimed_of(domain), limit)
            )
            if read is None:
                agenda.pause(domain, now + 1.0)
                return []
            rows, heads, later = read
            messages = await self._claim_rows(rows, heads, watch)
            if later is not None:
                agenda.searched(domain, later, watch)
        finally:
            agenda.unwatch(watch)
        return messages

    async def aged(
        self, after: MessageId, before: MessageId, limit: int, *, unwarned: bool
    ) -> tuple[Sequence[QueuedMessage], MessageId | None]:
        watch = self.agenda.watch()
        try:
            found = await self._scan_old(after, before, limit, unwarned=unwarned)
            if found is None:
                return [], None
            rows, heads, looked_to = found
            return await self._claim_rows(rows, heads, watch), looked_to
        finally:
            self.agenda.unwatch(watch)

    async def _claim_rows(self, rows: list[WaitingRow], heads: list[HeadRow], watch: Any) -> list[QueuedMessage]:
        messages: list[QueuedMessage] = []
        for head, deliveries in await self._check_rows(rows, heads):
            given = [delivery for delivery in deliveries if self.agenda.may_give(delivery, watch)]
            if given:
                messages.append(self._give(head, given))
        return messages

    def _give(self, head: Head, given: Sequence[Delivery]) -> QueuedMessage:
        self.agenda.claim(head.id, head.envelope, head.size, head.in_file, given)
        return queued(head, given)

    async def _check_rows(self, rows: list[WaitingRow], heads: list[HeadRow]) -> list[tuple[Head, list[Delivery]]]:
        """Return messages with those of their deliveries that were read; what is damaged is set aside."""
        by_id = {head.id: head for head in heads}
        grouped: dict[int, list[WaitingRow]] = {}
        for row in rows:
            grouped.setdefault(row.message, []).append(row)
        checked: list[tuple[Head, list[Delivery]]] = []
        for message, own in grouped.items():
            try:
                if message not in by_id:
                    raise RowDamaged("the message of a delivery is missing")
                head = read_head(by_id[message])
                checked.append((head, [read_delivery(row, head.envelope) for row in own]))
            except RowDamaged as damage:
                if message not in self.agenda.arriving:
                    await self._set_aside(MessageId(message), str(damage))
        return checked

    async def _set_aside(self, message: MessageId, why: str) -> None:
        now = self._clock.now()
        try:
            is_there = await self.writer.work(lambda store, batch: store.set_aside(message, why, now))
        except SpoolRefused:
            return
        if is_there:
            self._messages -= 1
        await self._recount()
        self._outlet.emit(facts.Damaged(at=now, what="message", where=f"{self._directory}: {why}", message=message))

    async def _recount(self) -> None:
        """Count anew what a damaged row may have made wrong: the database's index tells."""
        counts = await self._read(lambda store: store.counts())
        if counts is not None:
            self.agenda.load(counts)

    async def open(self, message: MessageId) -> ContentReader:
        read = await self._read(lambda store: (store.message(message)[1], store.content(message)))
        if read is None:
            raise OSError("the spool cannot be read now")
        heads, octets = read
        if not heads:
            raise KeyError(message)
        try:
            head = read_head(heads[0])
            if head.in_file:
                path = self._body_path(message)
                file = await self._threads.run_blocking(open_checked, self._disk, path, head.size, head.content_hash)
                return FileReader(file, head.size, self._threads)
            if octets is None or hash_of(octets) != head.content_hash:
                raise ContentDamaged("the content is not what was written")
            return MemoryReader(octets)
        except (RowDamaged, ContentDamaged) as damage:
            self._release_stale(message)
            await self._set_aside(message, str(damage))
            raise ContentDamaged(str(damage)) from damage

    def _release_stale(self, message: MessageId) -> None:
        claim = self.agenda.claims.get(message)
        if claim is not None:
            claim.stale = True
            for delivery in list(claim.open.values()):
                self.agenda.freed(claim, delivery)

    def record(self, message: MessageId, rulings: Sequence[Ruling]) -> None:
        if rulings:
            self.writer.record(self._close_claim(message, rulings))

    def unclaim(self, message: MessageId, numbers: Sequence[int]) -> None:
        claim = self.agenda.claims.get(message)
        if claim is not None:
            for number in numbers:
                if (delivery := claim.open.get(number)) is not None:
                    self.agenda.unclaim(claim, delivery)

    def _close_claim(self, message: MessageId, rulings: Sequence[Ruling]) -> RecordEntry:
        claim = self.agenda.claims[message]
        pairs: list[tuple[Delivery, Ruling]] = []
        for ruling in rulings:
            delivery = claim.open.pop(ruling.number)
            claim.closing[ruling.number] = delivery
            pairs.append((delivery, ruling))
        return RecordEntry(claim, pairs)

    def _reopen_claim(self, entry: RecordEntry) -> None:
        for delivery, ruling in entry.pairs:
            if entry.claim.closing.pop(ruling.number, None) is not None:
                entry.claim.open[ruling.number] = delivery

    def due_reports(self, limit: int) -> Sequence[MessageId]:
        if self.writer.is_stopped:
            return []
        if not self.agenda.reports and self.agenda.reports_elsewhere:
            self.agenda.reports_elsewhere = False
            self._in_background(self._read_reports())
        return self.agenda.due_reports(limit)

    async def _read_reports(self) -> None:
        for message in await self._read(lambda store: store.reports(REPORTS_READ)) or ():
            self.agenda.report_due(MessageId(message))

    async def claim_report(self, message: MessageId) -> QueuedMessage | None:
        watch = self.agenda.watch()
        try:
            read = await self._read(lambda store: store.message(message))
            if read is None:
                return None
            for head, deliveries in await self._check_rows(*read):
                given = [
                    delivery
                    for delivery in deliveries
                    if delivery.state >= DeliveryState.REPORT_FAILED and self.agenda.may_give(delivery, watch)
                ]
                if given:
                    return self._give(head, given)
            if message not in watch.touched:
                self.agenda.reports.pop(message, None)
            return None
        finally:
            self.agenda.unwatch(watch)

    # --- what a batch teaches memory ---

    def _on_begun(self, batch: Batch) -> None:
        self.agenda.arriving.update(put.id for put in batch.puts)

    def _on_committed(self, batch: Batch, trouble: StoreTrouble | None) -> None:
        agenda = self.agenda
        for entry in batch.all_records():
            self._learn_record(entry.claim, entry.pairs)
        for message, size, in_file in batch.removed:
            self._messages -= 1
            self._octets -= size
            agenda.reports.pop(MessageId(message), None)
            if in_file:
                self._in_background(self._threads.run_blocking(self._disk.unlink, self._body_path(message)))
        for put in batch.puts:
            self._messages += 1
            self._octets += put.row[2]
            agenda.arriving.discard(put.id)
            for delivery in put.deliveries:
                agenda.added(delivery)
            self._offer(put)
        if self._oldest is None and batch.puts:
            self._oldest = batch.puts[0].row[1]
        elif batch.removed:
            self._look_at_oldest()
        if trouble is not None:
            self._tell_trouble(str(trouble))

    def _offer(self, put: PutEntry) -> None:
        """Offer a message that is durable now to whoever delivers; else it waits."""
        message, agenda = put.message, self.agenda
        content = message.content
        is_file = isinstance(content, SpoolFile)
        if self._listener is not None:
            agenda.claim(message.id, message.envelope, put.row[2], is_file, put.deliveries)
            kept = QueuedMessage(
                message.id,
                message.envelope,
                message.received_at,
                put.row[2],
                put.deliveries,
                content if isinstance(content, bytes) else None,
            )
            if self._listener(kept):
                return
            claim = agenda.claims[message.id]
            for delivery in put.deliveries:
                agenda.unclaim(claim, delivery)
            return
        for delivery in put.deliveries:
            agenda.lower(delivery.domain, delivery.due_at)
        agenda.touch(message.id)

    def _learn_record(self, claim: Claim, pairs: Sequence[tuple[Delivery, Ruling]]) -> None:
        agenda = self.agenda
        for delivery, ruling in pairs:
            agenda.freed(claim, delivery)
            if claim.stale:
                continue
            due_at = delivery.due_at if ruling.warned else ruling.due_at
            state = None if ruling.next is None else int(ruling.next)
            agenda.changed(delivery.domain, delivery.priority, int(delivery.state), state, due_at)
            if state is not None and state >= DeliveryState.REPORT_FAILED:
                agenda.report_due(claim.id)

    def _learn(self, found: Found) -> None:
        """Take over what the database holds."""
        self.agenda.load(found.counts)
        self.agenda.reports_elsewhere = len(found.reports) >= REPORTS_READ
        for message in found.reports:
            self.agenda.report_due(MessageId(message))
        self._messages, self._octets = found.totals.messages, found.totals.octets
        self._oldest = found.oldest[1] if found.oldest else None
        if found.damaged_at:
            self._outlet.emit(facts.Damaged(at=self._clock.now(), what="database", where=found.damaged_at))

    def _look_at_oldest(self) -> None:
        now = self._clock.now()
        if abs(now - self._oldest_looked_at) >= FREE_LOOK_EVERY:
            self._oldest_looked_at = now
            with suppress(StoreTrouble):
                oldest = self.writer.store.write.oldest()
                self._oldest = oldest[1] if oldest else None

    # --- trouble, and its end ---

    def _on_failed(self, error: StoreTrouble) -> None:
        self.agenda.arriving.clear()
        self._tell_trouble(str(error))
        if self._reopening is None and not self._is_closed:
            self._reopening = asyncio.get_running_loop().create_task(self._reopen(isinstance(error, StoreDamaged)))

    def _tell_trouble(self, why: str, *, over: bool = False) -> None:
        if over or why != self._trouble:
            self._outlet.emit(facts.Trouble(at=self._clock.now(), what="spool", why=why or self._trouble, over=over))
        self._trouble = "" if over else why

    async def _reopen(self, is_damaged: bool) -> None:
        """Open a fresh store, again and again until the disk works."""
        wait = REOPEN_FIRST
        old = self.writer.store
        async with self.writer.turn:
            await self._threads.run_blocking(lambda: old.close(checkpoint=False), lane=self._lane)
            while not self._is_closed:
                try:
                    found = await self._threads.run_blocking(
                        reopen,
                        self._directory,
                        self._settings.store,
                        self._disk,
                        sorted(self.writer.refused),
                        self._clock.now(),
                        REPORTS_READ,
                        lane=self._lane,
                    )
                    break
                except StoreTrouble as error:
                    self._tell_trouble(str(error))
                    await asyncio.sleep(wait)
                    wait = min(wait * 2.0, REOPEN_LONGEST)
            else:
                return
            if found.damaged_at:
                for claim in list(self.agenda.claims.values()):
                    claim.stale = True
            self._learn(found)
            self._reopening = None
            self.writer.resume(found.store)
        self._tell_trouble("", over=True)

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
                self.writer.is_stopped = True
                self._on_failed(error)
            return None

    # --- free space ---

    def _look_at_free(self) -> None:
        loop = asyncio.get_running_loop()
        if loop.time() - self._free_looked_at < FREE_LOOK_EVERY or self._free_look is not None:
            return
        self._free_looked_at = loop.time()
        self._free_look = self._threads.run_blocking(self._disk.free, self._directory)
        self._free_look.add_done_callback(self._on_free)

    def _on_free(self, look: asyncio.Future[int]) -> None:
        self._free_look = None
        if not look.cancelled() and look.exception() is None:
            self._note_free(look.result())

    def _note_free(self, free: int) -> None:
        is_full = free < self._settings.min_free
        if is_full != self._is_full:
            why = f"{free} octets free in {self._directory}, min_free is {self._settings.min_free}"
            self._outlet.emit(facts.Trouble(at=self._clock.now(), what="disk", why=why, over=not is_full))
        self._is_full = is_full

    # --- counts and life ---

    def _now(self) -> float:
        return self._clock.now()

    def stats(self) -> SpoolStats:
        why = self.refusing()
        return SpoolStats(
            messages=self._messages,
            recipients=self.agenda.recipients,
            held=self.agenda.held,
            reports=self.agenda.report_rows,
            octets=self._octets,
            oldest_at=self._oldest if self._messages else None,
            accepting=why is None,
            trouble=self._trouble or ("" if why is None else why.value),
        )

    async def flush_records(self) -> None:
        if not self.writer.is_stopped:
            await self.writer.settle()

    async def close(self) -> None:
        if self._is_closed:
            return
        await self.flush_records()
        self._is_closed = True
        self.writer.stop()
        if self._reopening is not None:
            self._reopening.cancel()
        if self._background:
            await asyncio.wait(self._background)
        store = self.writer.store
        async with self.writer.turn:
            await self._threads.run_blocking(lambda: store.close(checkpoint=True), lane=self._lane)
        self._owner.release()

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
