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
from functools import partial
from typing import Any, Final

from postroad.core import facts
from postroad.core.faces import Clock, Disk, Outlet, Threads
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.core.units import DAY, HOUR
from postroad.spool.batch import PutEntry, RecordEntry
from postroad.spool.content import FileBodyWriter, FileReader, MemoryReader, open_checked
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
    Why,
)
from postroad.spool.ground import REPORTS_READ, ShardSettings, closing_on_failure, whole
from postroad.spool.owner import LockOwner, Owner
from postroad.spool.recovery import BODIES, collect_orphans, damaged_beside, reopen
from postroad.spool.rows import (
    Head,
    HeadRow,
    RowDamaged,
    WaitingRow,
    hash_of,
    queued,
    read_delivery,
    read_head,
)
from postroad.spool.store_read import ReadStore
from postroad.spool.transfer import Moving

DROPS_KEPT: Final = 30 * DAY
"""Seconds that a drop row is kept."""
CHECKED_AT_ONCE: Final = 100
"""Messages whose rows are checked without a look at what else there is to do: about 2 ms."""
PRUNE_EVERY: Final = 1 * HOUR
"""Seconds between two slices of pruning."""


class Shard(Moving):
    """Implements face.Spool. Made by ``take``."""

    _pruned_at = -PRUNE_EVERY

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
            opening = threads.run_blocking(
                reopen, directory, settings.store, disk, (), clock.now(), REPORTS_READ, lane=lane
            )
            async with closing_on_failure(opening, threads, lane) as found:
                left = await threads.run_blocking(collect_orphans, directory, disk, found.store, lane=lane)
                beside = await threads.run_blocking(damaged_beside, directory, disk, lane=lane)
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
        if left:
            outlet.emit(facts.Trouble(at=clock.now(), what="spool", why=left))
        for where in beside:  # at each start: nobody may have lived to tell, and mail waits there for a salvage
            if where != found.damaged_at:
                outlet.emit(facts.Damaged(at=clock.now(), what="database", where=where))
        try:
            await shard._measure_free()
        except BaseException:
            await whole(shard.close())
            raise
        return shard

    # --- in ---

    def new_id(self) -> MessageId:
        return MessageId(self._ids.next_id(self._clock.now()))

    def begin_body(self, message: MessageId) -> BodyWriter:
        bodies = f"{self._directory}/{BODIES}"
        return FileBodyWriter(bodies, message, self._disk, self._threads, self.refusing)

    async def put(
        self,
        message: NewMessage,
        *,
        replaces: Sequence[tuple[MessageId, Sequence[Ruling]]] = (),
        told: Callable[[], None] | None = None,
    ) -> None:
        if (why := self._refusing(replaces)) is not None:
            await self._drop_body(message)
            raise SpoolRefused(why, self._trouble)
        closed = (self._close_claim(other, rulings) for other, rulings in replaces)
        entries = [entry for entry in closed if entry is not None]
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        put = PutEntry(message, entries, future)
        self.writer.put(put)
        try:
            await asyncio.shield(future)
        except SpoolRefused:
            for entry in entries:
                self._reopen_claim(entry)
            if not put.is_doubtful:  # else the reopening takes its content away: not before its row
                await self._drop_body(message)
            elif told is not None:
                self._tell_if_kept(message.id, told)
            raise
        if told is not None:
            told()

    def _refusing(self, replaces: Sequence[tuple[MessageId, Sequence[Ruling]]]) -> Why | None:
        """Return why such a put is refused now.

        A report that takes the place of what it tells of goes in, like a record, while the disk has little room. One
        of a delay ends nothing: a long queue's would eat the room that is kept for the others.
        """
        why = self.refusing()
        if why is Why.FULL and replaces and all(one.next is None for _, rulings in replaces for one in rulings):
            return self._busy()
        return why

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
            levels, claimed = agenda.levels(domain), agenda.claimed_of(domain)
            read = await self._read(lambda store: store.due(domain, levels, now, claimed, limit))
            if read is None:
                agenda.pause(domain, now + 1.0)
                return []
            rows, heads, later = read
            messages = await self._claim_rows(rows, heads, watch)
            # A row that was withheld because its message changed meanwhile may still be due: then look again.
            given = sum(len(message.deliveries) for message in messages)
            if later is not None and given == len(rows):
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
        for count, (message, own) in enumerate(grouped.items()):
            if count % CHECKED_AT_ONCE == CHECKED_AT_ONCE - 1:
                await asyncio.sleep(0)  # whoever called watches what is touched meanwhile
            try:
                if message not in by_id:
                    if not await self._read(partial(ReadStore.is_stray, message=message)):
                        continue  # it ended after its deliveries were read, and before it was itself
                    raise RowDamaged("the message of a delivery is missing")
                head = read_head(by_id[message])
                checked.append((head, [read_delivery(row, head.envelope) for row in own]))
            except RowDamaged as damage:
                if message not in self.agenda.arriving:
                    await whole(self._set_aside(MessageId(message), str(damage)))
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
        async with self.writer.turn:  # nothing may be committed between the count and what is made of it
            if not self.writer.is_stopped:
                lane = self._lane if self._settings.store.exclusive else f"{self._lane}-read"
                self.agenda.load(await self._threads.run_blocking(self.writer.store.read.counts, lane=lane))

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
            await whole(self._set_aside(message, str(damage)))
            raise ContentDamaged(str(damage)) from damage

    def _release_stale(self, message: MessageId) -> None:
        claim = self.agenda.claims.get(message)
        if claim is not None:
            claim.stale = True
            for delivery in list(claim.open.values()):
                self.agenda.freed(claim, delivery)

    def record(self, message: MessageId, rulings: Sequence[Ruling]) -> None:
        if (entry := self._close_claim(message, rulings)) is not None:
            self.writer.record(entry)

    def unclaim(self, message: MessageId, numbers: Sequence[int]) -> None:
        claim = self.agenda.claims.get(message)
        if claim is not None:
            for number in numbers:
                if (delivery := claim.open.get(number)) is not None:
                    self.agenda.unclaim(claim, delivery)

    def _close_claim(self, message: MessageId, rulings: Sequence[Ruling]) -> RecordEntry | None:
        """Take claimed deliveries out of their holder's hands. None if they were set aside as damaged meanwhile."""
        claim = self.agenda.claims.get(message)
        if claim is None:
            return None
        pairs: list[tuple[Delivery, Ruling]] = []
        for ruling in rulings:
            if (delivery := claim.open.pop(ruling.number, None)) is not None:
                claim.closing[ruling.number] = delivery
                pairs.append((delivery, ruling))
        return RecordEntry(claim, pairs) if pairs else None

    def _reopen_claim(self, entry: RecordEntry) -> None:
        for delivery, ruling in entry.pairs:
            if entry.claim.closing.pop(ruling.number, None) is not None:
                entry.claim.open[ruling.number] = delivery

    def due_reports(self, limit: int) -> Sequence[MessageId]:
        if self.writer.is_stopped:
            return []
        if self.agenda.reports_elsewhere and len(self.agenda.reports) < REPORTS_READ // 2:
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

    # --- counts and life ---

    async def prune(self, now: float) -> None:
        if self.writer.is_stopped or abs(now - self._pruned_at) < PRUNE_EVERY:
            return
        self._pruned_at = now
        with suppress(SpoolRefused):
            await self.writer.work(lambda store, batch: store.prune_drops(now - DROPS_KEPT))

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
            await self._end_reads()
            await self._threads.run_blocking(lambda: store.close(checkpoint=True), lane=self._lane)
        self._owner.release()
