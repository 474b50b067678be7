"""A Spool wholly in memory, for tests of what stands on the face.

Owns: the way in and out, as the face promises it, at once: what is recorded is "durable" when the call returns. Does
not own: listings and bulk changes (memory_queue.py), durability and what a disk does wrong (the tests of spool/ have
disks that fail). Passes tests/contracts/test_spool.py, as spool/shard.py does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from postroad.core import facts
from postroad.core.faces import Clock, Outlet
from postroad.core.ids import IdMaker, MessageId
from postroad.core.outcome import DeliveryState, Dropped
from postroad.spool import face
from postroad.spool.batch import marks_warned
from postroad.spool.content import MemoryReader
from postroad.spool.rows import body_name, hash_of
from postroad.spool.shard import DROPS_KEPT
from postroad.testing.memory_queue import Kept, MemoryQueue

_DUE, _REPORT = DeliveryState.DUE, DeliveryState.REPORT_FAILED
_replace = msgspec.structs.replace


class _BodyWriter:
    def __init__(self, spool: MemorySpool, message: MessageId) -> None:
        self._spool = spool
        self._name = body_name(message)
        self._octets = bytearray()

    async def write(self, octets: bytes) -> None:
        self._spool.check_accepting()
        self._octets += octets

    async def finish(self) -> face.SpoolFile:
        self._spool.check_accepting()
        octets = bytes(self._octets)
        self._spool.bodies[self._name] = octets
        return face.SpoolFile(self._name, len(octets), hash_of(octets))

    async def discard(self) -> None:
        self._octets.clear()
        self._spool.bodies.pop(self._name, None)


class MemorySpool(MemoryQueue):
    """Implements face.Spool. Set ``refuse`` to have it refuse what comes in."""

    def __init__(self, clock: Clock, outlet: Outlet | None = None) -> None:
        super().__init__(clock)
        self._outlet = outlet
        self._ids = IdMaker(0)
        self._listener: Callable[[face.QueuedMessage], bool] | None = None

    # --- in ---

    def new_id(self) -> MessageId:
        return MessageId(self._ids.next_id(self._clock.now()))

    def begin_body(self, message: MessageId) -> face.BodyWriter:
        return _BodyWriter(self, message)

    def check_accepting(self) -> None:
        """Raise SpoolRefused if a put would be refused now."""
        if (why := self.refusing()) is not None:
            raise face.SpoolRefused(why)

    async def put(
        self,
        message: face.NewMessage,
        *,
        replaces: Sequence[tuple[MessageId, Sequence[face.Ruling]]] = (),
        told: Callable[[], None] | None = None,
    ) -> None:
        content = message.content
        try:
            self.check_accepting()
            if message.id in self._kept:
                raise face.SpoolRefused(face.Why.TROUBLE, "the message is in the spool already")
        except face.SpoolRefused:
            if isinstance(content, face.SpoolFile):
                self.bodies.pop(content.name, None)
            raise
        octets = content if isinstance(content, bytes) else self.bodies[content.name]
        kept = self._keep(message, octets)
        for other, rulings in replaces:
            self.record(other, rulings)
        self._offer(kept, content if isinstance(content, bytes) else None)
        if told is not None:
            told()

    def _offer(self, kept: Kept, content: bytes | None) -> None:
        if self._listener is None:
            return
        rows = list(kept.rows.values())
        try:
            if self._listener(kept.give(rows, content)):
                return
        except Exception as error:  # noqa: BLE001 - boundary: the message is kept, its client gets 250; it waits
            if self._outlet is not None:
                why = f"what was kept could not be handed on: {error!r}"
                self._outlet.emit(facts.Trouble(at=self._clock.now(), what="spool", why=why))
        self.unclaim(kept.message.id, [row.number for row in rows])

    def on_kept(self, listener: Callable[[face.QueuedMessage], bool]) -> None:
        self._listener = listener

    def on_wanted_back(self, listener: face.WantedBack) -> None:
        self._wanted_back = listener

    # --- out ---

    def _wakes(self) -> list[tuple[float, str]]:
        if self._is_closed:
            return []
        return sorted((max(at, self._paused.get(domain, 0.0)), domain) for domain, at in self._bounds().items())

    def due_domains(self, now: float, limit: int) -> Sequence[str]:
        return [domain for at, domain in self._wakes() if at <= now][:limit]

    def pause(self, domain: str, until: float) -> None:
        if self._waiting[domain]:
            self._paused[domain] = until

    def next_due_at(self) -> float | None:
        return next((at for at, _ in self._wakes()), None)

    async def claim(self, domain: str, now: float, limit: int) -> Sequence[face.QueuedMessage]:
        due = [
            row
            for kept in self._kept.values()
            for row in kept.free()
            if row.domain == domain and row.state == _DUE and row.due_at <= now
        ]
        due.sort(key=lambda row: (-row.priority, row.due_at))
        grouped: dict[MessageId, list[face.Delivery]] = {}
        for row in due[:limit]:
            grouped.setdefault(row.message, []).append(row)
        return [self._kept[message].give(rows) for message, rows in grouped.items()]

    async def open(self, message: MessageId) -> face.ContentReader:
        return MemoryReader(self._kept[message].octets)

    def record(self, message: MessageId, rulings: Sequence[face.Ruling]) -> None:
        kept = self._kept.get(message)
        for ruling in rulings:
            if kept is None or ruling.number not in kept.claimed:
                continue
            kept.claimed.discard(ruling.number)
            row = kept.rows[ruling.number]
            if ruling.next is None:
                self._end(row, ruling.outcome.rule if isinstance(ruling.outcome, Dropped) else "")
            elif marks_warned(ruling):
                kept.rows[row.number] = _replace(row, warned=True)
            else:
                due_at = ruling.due_at if ruling.next is _DUE else row.due_at
                new = _replace(row, state=ruling.next, due_at=due_at, last=ruling.outcome, attempts=row.attempts + 1)
                self._change_row(new)

    def unclaim(self, message: MessageId, numbers: Sequence[int]) -> None:
        if (kept := self._kept.get(message)) is not None:
            kept.claimed.difference_update(numbers)

    def _report_rows(self, message: MessageId) -> list[face.Delivery]:
        kept = self._kept.get(message)
        return [row for row in kept.free() if row.state >= _REPORT] if kept is not None else []

    def due_reports(self, limit: int) -> Sequence[MessageId]:
        free = (message for message in self._reports if not self._kept[message].claimed)
        return [] if self._is_closed else [message for message in free if self._report_rows(message)][:limit]

    async def claim_report(self, message: MessageId) -> face.QueuedMessage | None:
        rows = self._report_rows(message)
        return self._kept[message].give(rows) if rows else None

    async def aged(
        self, after: MessageId, before: MessageId, limit: int, *, unwarned: bool
    ) -> tuple[Sequence[face.QueuedMessage], MessageId | None]:
        found = list[face.QueuedMessage]()
        looked = 0
        for message in sorted(self._kept):
            if not after < message < before:
                continue
            kept = self._kept[message]
            wanted = [row for row in kept.rows.values() if row.state == _DUE and not (unwarned and row.warned)]
            free = [row for row in wanted if row.number not in kept.claimed]
            if free:
                found.append(kept.give(free))
            looked += len(wanted)
            if looked >= limit:
                return found, message
        return found, None

    # --- life ---

    async def prune(self, now: float) -> None:
        self.drops = [drop for drop in self.drops if drop.at >= now - DROPS_KEPT]

    async def flush_records(self) -> None:
        """All that was recorded is kept already."""

    async def close(self) -> None:
        self._is_closed = True
