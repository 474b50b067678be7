"""What memory learns of each batch, once it is durable: counts, claims that end, what is offered to the scheduler.

Owns: the agenda's agreement with the database; it changes in ``_on_committed`` only, so that memory never runs ahead
of what is durable. Does not own: the agenda's own rules (agenda.py), when batches are written (writer.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from postroad.core import facts
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.spool.agenda import Claim
from postroad.spool.batch import Batch, PutEntry
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import Delivery, QueuedMessage, Ruling, SpoolFile, SpoolStats
from postroad.spool.ground import FREE_LOOK_EVERY, REOPEN_FIRST, REPORTS_READ, Ground
from postroad.spool.recovery import Found


class Counting(Ground):
    """A ground that knows what it holds."""

    def __init__(self, *parts: Any, found: Found, **more: Any) -> None:
        super().__init__(*parts, found=found, **more)
        self._listener: Callable[[QueuedMessage], bool] | None = None
        self._messages = self._octets = 0
        self._oldest: float | None = None
        self._oldest_looked_at = 0.0
        self._learn(found)

    def _on_committed(self, batch: Batch, trouble: StoreTrouble | None) -> None:
        agenda = self.agenda
        self._reopen_wait = REOPEN_FIRST
        if self._is_full:
            self._look_at_free()  # what is noted while no mail is asked about makes the WAL grow
        for entry in batch.all_records():
            self._learn_record(entry.claim, entry.pairs)
            for delivery, _ in entry.applied:
                agenda.freed(entry.claim, delivery)
        for gone in batch.orphaned:
            self._in_background(self._unlink_if_there(gone))
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
        elif self._trouble:
            self._tell_trouble("", over=True)

    async def _unlink_if_there(self, message: int) -> None:
        """Unlink the content of a message that ended in a batch nobody was sure of: the reopening may have done it."""
        with suppress(FileNotFoundError):
            await self._threads.run_blocking(self._disk.unlink, self._body_path(message))

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
            try:
                if self._listener(kept):
                    return
            except Exception as error:  # noqa: BLE001 - boundary: the message is durable, its client gets 250; it waits
                why = f"what was kept could not be handed on: {error!r}"
                self._outlet.emit(facts.Trouble(at=self._clock.now(), what="spool", why=why))
            claim = agenda.claims.get(message.id)
            if claim is not None:
                for delivery in [one for one in put.deliveries if one.number in claim.open]:
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
