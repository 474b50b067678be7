"""What a spool in memory holds, and what a person may ask of it: listings, bulk changes, counts.

Owns: messages, deliveries, claims and drops of MemorySpool. Does not own: a message's way in and out
(memory_spool.py, which is built on this).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf

import msgspec

from postroad.core.envelope import Envelope
from postroad.core.faces import Clock
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState, Dropped, Outcome
from postroad.spool import face
from postroad.spool.rows import body_name, new_deliveries
from postroad.spool.selection import Search

_DUE, _HELD, _REPORT = DeliveryState.DUE, DeliveryState.HELD, DeliveryState.REPORT_FAILED
_replace = msgspec.structs.replace


class Kept:
    """One message."""

    def __init__(self, message: face.NewMessage, octets: bytes) -> None:
        self.message = message
        self.octets = octets
        self.rows = {delivery.number: delivery for delivery in new_deliveries(message)}
        self.claimed: set[int] = set()

    @property
    def envelope(self) -> Envelope:
        return self.message.envelope

    def queued(self, rows: Iterable[face.Delivery], content: bytes | None = None) -> face.QueuedMessage:
        new = self.message
        return face.QueuedMessage(new.id, new.envelope, new.received_at, len(self.octets), tuple(rows), content)

    def give(self, rows: Sequence[face.Delivery], content: bytes | None = None) -> face.QueuedMessage:
        self.claimed.update(row.number for row in rows)
        return self.queued(rows, content)

    def free(self) -> list[face.Delivery]:
        return [row for number, row in self.rows.items() if number not in self.claimed]


class MemoryQueue:
    """The part of a MemorySpool that looks at many deliveries."""

    def __init__(self, clock: Clock) -> None:
        self.refuse: face.Why | None = None
        self.drops: list[face.Drop] = []
        self.bodies: dict[str, bytes] = {}
        """Large contents by name."""
        self._clock = clock
        self._kept: dict[MessageId, Kept] = {}
        self._waiting = Counter[str]()
        """Deliveries by domain."""
        self._paused: dict[str, float] = {}
        self._reports: dict[MessageId, None] = {}
        self._wanted_back: face.WantedBack | None = None
        self._is_closed = False

    def refusing(self) -> face.Why | None:
        return face.Why.CLOSED if self._is_closed else self.refuse

    def _keep(self, message: face.NewMessage, octets: bytes) -> Kept:
        kept = self._kept[message.id] = Kept(message, octets)
        self._waiting.update(row.domain for row in kept.rows.values())
        return kept

    def _change_row(self, row: face.Delivery) -> None:
        self._kept[row.message].rows[row.number] = row
        if row.state >= _REPORT:
            self._reports[row.message] = None

    def _end(self, row: face.Delivery, rule: str = "") -> None:
        kept = self._kept[row.message]
        if rule:
            recipient = str(kept.envelope.recipients[row.number].mailbox)
            reply = "" if row.last is None or isinstance(row.last, Dropped) else str(row.last.reply)
            self.drops.append(face.Drop(row.message, row.number, recipient, rule, reply, self._clock.now()))
        del kept.rows[row.number]
        self._waiting[row.domain] -= 1
        if not self._waiting[row.domain]:  # as in the shard, a pause ends with what it was for
            self._paused.pop(row.domain, None)
        if not kept.rows:
            del self._kept[row.message]
            self._reports.pop(row.message, None)
            self.bodies.pop(body_name(row.message), None)

    def _bounds(self) -> dict[str, float]:
        """Return when each domain with an unclaimed DUE delivery has the first of them due."""
        bounds = dict[str, float]()
        for kept in self._kept.values():
            for row in kept.free():
                if row.state == _DUE:
                    bounds[row.domain] = min(row.due_at, bounds.get(row.domain, inf))
        return bounds

    # --- steering ---

    def _meant(self, selection: face.Selection) -> Iterator[tuple[Kept, list[face.Delivery]]]:
        search = Search(selection)
        for message in sorted(self._kept):
            kept = self._kept[message]
            rows = [row for row in kept.rows.values() if search.admits(row) and search.matches(row, kept.envelope)]
            if rows:
                yield kept, rows

    async def list(self, selection: face.Selection, *, after: MessageId | None, limit: int) -> face.Page:
        found = [kept.queued(rows) for kept, rows in self._meant(selection) if after is None or kept.message.id > after]
        return face.Page(tuple(found[:limit]), found[limit - 1].id if len(found) > limit else None)

    async def oldest(self, domains: Sequence[str]) -> dict[str, face.QueuedMessage]:
        found: dict[str, face.QueuedMessage] = {}
        for message in sorted(self._kept):
            kept = self._kept[message]
            for domain in domains:
                rows = [row for row in kept.rows.values() if row.domain == domain]
                if rows and domain not in found:
                    found[domain] = kept.queued(rows)
        return found

    async def show(self, message: MessageId) -> face.QueuedMessage | None:
        kept = self._kept.get(message)
        return None if kept is None else kept.queued(kept.rows.values())

    async def drops_of(self, message: MessageId) -> Sequence[face.Drop]:
        return [drop for drop in self.drops if drop.message == message]

    def _steer(
        self,
        selection: face.Selection,
        states: Iterable[DeliveryState],
        apply: Callable[[face.Delivery], None],
        *,
        dry_run: bool,
        told: face.Told | None = None,
        wants_back: bool = True,
    ) -> face.Changed:
        recipients = messages = in_flight = 0
        for kept, rows in list(self._meant(selection)):
            meant = [row for row in rows if row.state in states]
            waiting = self._only_waiting(kept, meant, take=wants_back and not dry_run)
            free = [row for row in meant if row.number not in kept.claimed]
            changed = len({row.number for row in free} | waiting)
            in_flight += len(meant) - changed
            recipients += changed
            messages += bool(changed)
            if dry_run or not free:
                continue
            for row in free:
                apply(row)
            if told is not None:
                told([kept.queued(free)])
        return face.Changed(recipients, messages, in_flight)

    def _only_waiting(self, kept: Kept, meant: Sequence[face.Delivery], *, take: bool) -> set[int]:
        """Return the numbers of those whose claims only wait; ``take``: the claims end."""
        wanted = {row.number for row in meant if row.number in kept.claimed}
        if self._wanted_back is None or not wanted:
            return set()
        return {delivery.number for delivery in self._wanted_back({kept.message.id: wanted}, take)}

    def _wake(self, row: face.Delivery, now: float) -> None:
        self._change_row(_replace(row, state=_DUE, due_at=now))
        self._paused.pop(row.domain, None)

    async def flush(self, selection: face.Selection, now: float, *, dry_run: bool = False) -> face.Changed:
        return self._steer(selection, (_DUE,), lambda row: self._wake(row, now), dry_run=dry_run, wants_back=False)

    async def hold(
        self, selection: face.Selection, *, dry_run: bool = False, told: face.Told | None = None
    ) -> face.Changed:
        return self._steer(
            selection, (_DUE,), lambda row: self._change_row(_replace(row, state=_HELD)), dry_run=dry_run, told=told
        )

    async def release(
        self, selection: face.Selection, now: float, *, dry_run: bool = False, told: face.Told | None = None
    ) -> face.Changed:
        return self._steer(selection, (_HELD,), lambda row: self._wake(row, now), dry_run=dry_run, told=told)

    async def drop(
        self, selection: face.Selection, rule: str, *, dry_run: bool = False, told: face.Told | None = None
    ) -> face.Changed:
        states = tuple(DeliveryState)
        return self._steer(selection, states, lambda row: self._end(row, rule), dry_run=dry_run, told=told)

    async def bounce(
        self, selection: face.Selection, outcome: Outcome, *, dry_run: bool = False, told: face.Told | None = None
    ) -> face.Changed:
        def apply(row: face.Delivery) -> None:
            envelope = self._kept[row.message].envelope
            if face.wants_report(envelope, row.number):
                self._change_row(_replace(row, state=_REPORT, last=outcome))
            else:
                self._end(row, "bounced by hand, no report wanted")

        return self._steer(selection, (_DUE, _HELD), apply, dry_run=dry_run, told=told)

    # --- counts and life ---

    def stats(self) -> face.SpoolStats:
        kept = self._kept.values()
        states = [row.state for one in kept for row in one.rows.values()]
        why = self.refusing()
        return face.SpoolStats(
            messages=len(kept),
            recipients=len(states),
            held=states.count(_HELD),
            reports=sum(state >= _REPORT for state in states),
            octets=sum(len(one.octets) for one in kept),
            oldest_at=self._kept[min(self._kept)].message.received_at if kept else None,
            accepting=why is None,
            trouble="" if why is None else why.value,
        )

    def domain_stats(self, limit: int) -> Sequence[face.DomainStats]:
        states: dict[str, list[DeliveryState]] = {}
        for kept in self._kept.values():
            for row in kept.rows.values():
                states.setdefault(row.domain, []).append(row.state)
        bounds = self._bounds()
        most = sorted(states, key=lambda domain: -len(states[domain]))[:limit]
        return tuple(
            face.DomainStats(
                domain,
                states[domain].count(_DUE),
                states[domain].count(_HELD),
                sum(state >= _REPORT for state in states[domain]),
                bounds.get(domain),
            )
            for domain in most
        )
