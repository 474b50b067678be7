"""Listings and bulk changes: what a person, or age, asks of many deliveries at once.

Owns: walking through the queue in the order of ids, in slices, each change in the transaction of a batch, so that no
250 waits longer than a slice. Does not own: what of a slice is free (slices.py), one message's way in and out
(shard.py, which is built on this).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState, Outcome
from postroad.spool.batch import Batch
from postroad.spool.face import (
    Changed,
    Delivery,
    DomainStats,
    Drop,
    Page,
    QueuedMessage,
    Selection,
    SpoolRefused,
    Told,
    wants_report,
)
from postroad.spool.ground import Question, whole
from postroad.spool.rows import Head, HeadRow, WaitingRow, queued
from postroad.spool.selection import UNWARNED, WAITING, Filter, Search
from postroad.spool.slices import END, Found, Pairs, Slices, scan
from postroad.spool.store_read import Place, ReadStore, Scanned
from postroad.spool.store_write import WriteStore

SLICE: Final = 100
"""Rows read, looked at and changed at a time: 2 to 4 ms of the loop."""
SLICE_MIN: Final = 10
CHANGE_SECONDS: Final = 0.015
"""Seconds that changing a slice should take, its commit included: a put that comes meanwhile waits as long. Slices of
changes become smaller or larger until they do: where the rows lie far apart, each changes a page of its own."""
COUNTED: Final = 10_000
"""Rows counted at a time, in the reader's thread: about 5 ms, of which the loop notices nothing."""
REST_MAX: Final = 0.05
"""Seconds between two slices at most: as long again as the slice took is left to others."""
DROPS_READ: Final = 10_000
"""Drop rows of one message that are shown: more than an envelope has recipients."""
RANKED_ANEW: Final = 2_000
RANKING_KEPT: Final = 1.0
"""Seconds for which the order of more than so many domains is kept; their counts are as new as ever."""
OLDEST_ROWS: Final = 1_000
"""Recipients that are shown at once of the oldest messages of domains."""
_LAST: Final = 2**31

Rows = tuple[list[WaitingRow], list[HeadRow]]
OldRows = tuple[list[WaitingRow], list[HeadRow], MessageId | None]
Apply = Callable[[WriteStore, Head, Delivery], None]


def _text(octets: str) -> str:
    return bytes.fromhex(octets).decode("utf-8", "replace")


def _next_size(size: int, seconds: float) -> int:
    """Return how many rows to change next, where changing ``size`` took so long."""
    fitting = int(size * CHANGE_SECONDS / max(seconds, 0.001))
    return max(SLICE_MIN, min(SLICE, fitting, 2 * size))


def _by_message(pairs: Pairs) -> Sequence[QueuedMessage]:
    """Return what the pairs, which are in the order of ids, are about."""
    grouped: list[Found] = []
    for head, delivery in pairs:
        if not grouped or grouped[-1][0].id != head.id:
            grouped.append((head, []))
        grouped[-1][1].append(delivery)
    return [queued(head, deliveries) for head, deliveries in grouped]


class Steer(Slices):
    """The part of a shard that looks at many deliveries."""

    _ranked: tuple[float, int, Sequence[str]] = (0.0, 0, ())
    """Until when the domains with most waiting are known, how many were asked for, which they are."""

    # --- listings ---

    async def list(self, selection: Selection, *, after: MessageId | None, limit: int) -> Page:
        search = Search(selection)
        messages: list[QueuedMessage] = []
        async for head, deliveries in self._walk(search, after, min(SLICE, limit + 1)):
            meant = [delivery for delivery in deliveries if search.matches(delivery, head.envelope)]
            if meant:
                messages.append(queued(head, meant))
                if len(messages) == limit:
                    return Page(tuple(messages), head.id)
        return Page(tuple(messages), None)

    async def show(self, message: MessageId) -> QueuedMessage | None:
        for head, deliveries in await self._check_rows(*await self._answer(lambda store: store.message(message))):
            return queued(head, deliveries)
        return None

    async def drops_of(self, message: MessageId) -> Sequence[Drop]:
        read = await self._answer(lambda store: store.drops(message, DROPS_READ))
        return [
            Drop(message, number, _text(recipient), _text(rule), _text(reply), at)
            for number, recipient, rule, reply, at in read
        ]

    def domain_stats(self, limit: int) -> Sequence[DomainStats]:
        fresh_until, known, names = self._ranked
        if self._time() >= fresh_until or known < limit:
            names = self.agenda.largest(limit)
            is_dear = len(self.agenda.domains) > RANKED_ANEW
            self._ranked = (self._time() + RANKING_KEPT if is_dear else 0.0, limit, names)
        return tuple(self.agenda.stats(names[:limit]))

    async def oldest(self, domains: Sequence[str]) -> dict[str, QueuedMessage]:
        few = [domain for domain in domains if self.agenda.is_few(domain)]
        many = [Filter(domain=domain) for domain in domains if not self.agenda.is_few(domain)]

        def look(store: ReadStore) -> Rows:
            rows, heads = store.oldest_of(few, OLDEST_ROWS)
            for wanted in many:  # the first is soon found where there are many, in the order of ids
                for row in store.scan((0, -1), END, wanted, 1)[0]:
                    own = store.scan((row.message, -1), row.message + 1, wanted, OLDEST_ROWS)
                    rows, heads = [*rows, *own[0]], [*heads, *own[1]]
            return rows, heads

        read: Rows | None = await self._read(look)
        found: dict[str, QueuedMessage] = {}
        for head, deliveries in await self._check_rows(*read) if read is not None else ():
            for domain in dict.fromkeys(delivery.domain for delivery in deliveries):
                own = [delivery for delivery in deliveries if delivery.domain == domain]
                if domain not in found or head.id < found[domain].id:
                    found[domain] = queued(head, own)
        return found

    async def _walk(self, search: Search, after: MessageId | None, rows_max: int) -> AsyncIterator[Found]:
        """Yield messages with those of their deliveries that pass the filter, whole messages, oldest first."""
        at: Place | None = (after, _LAST) if after is not None else (0, -1)
        held: Found | None = None
        while at is not None:
            began = self._time()
            rows, heads, at = await self._answer(scan(at, END, search.filter, rows_max, self._by_domain(search)))
            for head, deliveries in await self._check_rows(rows, heads):
                if held is not None and held[0].id == head.id:
                    held[1].extend(deliveries)
                    continue
                if held is not None:
                    yield held
                held = (head, deliveries)
            if at is not None:
                await self._rest(began)
        if held is not None:
            yield held

    @staticmethod
    def _time() -> float:
        return asyncio.get_running_loop().time()

    async def _rest(self, began: float) -> None:
        """Leave as much time to others as was used since."""
        await asyncio.sleep(min(REST_MAX, self._time() - began))

    async def _scan_old(self, after: MessageId, before: MessageId, limit: int, *, unwarned: bool) -> OldRows | None:
        """Read up to ``limit`` rows of old messages; the last message is whole."""
        wanted = UNWARNED if unwarned else WAITING
        read: Scanned | None = await self._read(scan((after, _LAST), before, wanted, limit))
        if read is None:
            return None
        rows, heads, at = read
        if at is None:
            return rows, heads, None
        last = at[0]
        while at is not None:  # what is left of the last message
            more: Scanned | None = await self._read(scan(at, last + 1, wanted, limit))
            if more is None:
                return None
            rows, heads, at = [*rows, *more[0]], [*heads, *more[1]], more[2]
        return rows, heads, MessageId(last)

    # --- bulk changes ---

    async def flush(self, selection: Selection, now: float, *, dry_run: bool = False) -> Changed:
        def apply(store: WriteStore, head: Head, delivery: Delivery) -> None:
            store.steer(delivery, DeliveryState.DUE, now)

        # What waits in memory is due already, and stays there.
        due = DeliveryState.DUE
        return await self._change(selection, (due,), apply, due, now, dry_run=dry_run, wants_back=False)

    async def hold(self, selection: Selection, *, dry_run: bool = False, told: Told | None = None) -> Changed:
        def apply(store: WriteStore, head: Head, delivery: Delivery) -> None:
            store.steer(delivery, DeliveryState.HELD, delivery.due_at)

        states = (DeliveryState.DUE,)
        return await self._change(selection, states, apply, DeliveryState.HELD, 0.0, dry_run=dry_run, told=told)

    async def release(
        self, selection: Selection, now: float, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        def apply(store: WriteStore, head: Head, delivery: Delivery) -> None:
            store.steer(delivery, DeliveryState.DUE, now)

        states = (DeliveryState.HELD,)
        return await self._change(selection, states, apply, DeliveryState.DUE, now, dry_run=dry_run, told=told)

    async def drop(
        self, selection: Selection, rule: str, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        def apply(store: WriteStore, head: Head, delivery: Delivery) -> None:
            store.drop(head.envelope, delivery, rule, self._now())

        return await self._change(selection, tuple(DeliveryState), apply, None, 0.0, dry_run=dry_run, told=told)

    async def bounce(
        self, selection: Selection, outcome: Outcome, *, dry_run: bool = False, told: Told | None = None
    ) -> Changed:
        def apply(store: WriteStore, head: Head, delivery: Delivery) -> None:
            if self._wants_report(head, delivery):
                store.steer(delivery, DeliveryState.REPORT_FAILED, delivery.due_at, outcome)
            else:
                store.drop(head.envelope, delivery, "bounced by hand, no report wanted", self._now())

        states = (DeliveryState.DUE, DeliveryState.HELD)
        new = DeliveryState.REPORT_FAILED
        return await self._change(selection, states, apply, new, 0.0, dry_run=dry_run, told=told)

    @staticmethod
    def _wants_report(head: Head, delivery: Delivery) -> bool:
        return wants_report(head.envelope, delivery.number)

    async def _change(
        self,
        selection: Selection,
        states: Sequence[DeliveryState],
        apply: Apply,
        new: DeliveryState | None,
        due_at: float,
        *,
        dry_run: bool,
        told: Told | None = None,
        wants_back: bool = True,
    ) -> Changed:
        """Change all that is meant, slice by slice; ``told`` hears of each.

        ``wants_back``: also what only waits in memory; else that counts as changed, and is left as it is. Raises
        SpoolRefused where it cannot go on; the slices before are changed. Cancelled, it ends behind a slice.
        """
        search = Search(selection, states)
        if dry_run and search.is_exact and search.filter.ids is None:
            return await self._count_meant(search)
        recipients = messages = in_flight = 0
        at: Place | None = (0, -1)
        last_message, size = 0, SLICE
        while at is not None:
            began = self._time()
            found = await self._slice(search, at, size, takes=not dry_run, wants_back=wants_back)
            if found.free and not dry_run:
                asked = self._time()
                await whole(self._apply_slice(found.free, apply, new, due_at, told))
                size = _next_size(size, self._time() - asked)
            ids = {head.id for head, _ in (*found.free, *found.waiting)}
            recipients += len(found.free) + len(found.waiting)
            messages += len(ids - {last_message})
            last_message = max(ids, default=last_message)
            in_flight, at = in_flight + found.in_flight, found.at
            if at is not None:
                await self._rest(began)
        return Changed(recipients, messages, in_flight)

    async def _count_meant(self, search: Search) -> Changed:
        """Count what would be changed, where the filter says all: in SQL, no row comes up here."""
        claimed = self.agenda.claimed_keys(search.admits)
        waiting = self._only_waiting(claimed, takes=False)
        claimed = [key for key in claimed if key not in waiting]
        recipients = messages = in_flight = 0
        after = 0
        while after < END:
            began = self._time()
            here = claimed[bisect_right(claimed, (after, _LAST)) :]

            def count(store: ReadStore, after: int = after, here: Sequence[Place] = here) -> tuple[int, ...]:
                up_to = store.bound(after, COUNTED)
                own = here[: bisect_right(here, (up_to, _LAST))]
                return (up_to, *store.count(after, up_to, search.filter, own))

            after, meant, free, whole = await self._answer(count)
            recipients, messages, in_flight = recipients + free, messages + whole, in_flight + meant - free
            await self._rest(began)
        return Changed(recipients, messages, in_flight)

    async def _apply_slice(
        self, pairs: Pairs, apply: Apply, new: DeliveryState | None, due_at: float, told: Told | None
    ) -> None:
        """Change what was taken, in the transaction of a batch. Nobody can have claimed or changed it meanwhile."""

        def work(store: WriteStore, batch: Batch) -> None:
            for head, delivery in pairs:
                apply(store, head, delivery)
            if new is None or new is DeliveryState.REPORT_FAILED:  # else no delivery ends
                store.end_messages(batch, {head.id: None for head, _ in pairs})

        was_open = not self.writer.is_stopped
        try:
            await self.writer.work(work, lambda: self._learn_slice(pairs, new, due_at))
        except SpoolRefused:
            for _, delivery in pairs:  # a read under way does not know what became of them
                self.agenda.touch(delivery.message)
            if was_open and told is not None:
                self._ask_later(pairs, new, told)
            raise
        finally:
            self.agenda.changing.difference_update((delivery.message, delivery.number) for _, delivery in pairs)
        if told is not None:
            told(_by_message(pairs))

    def _ask_later(self, pairs: Pairs, new: DeliveryState | None, told: Told) -> None:
        """Let what a failed commit has changed all the same be told of: nobody else can have changed it since."""
        ids = {delivery.message for _, delivery in pairs}

        def read(store: ReadStore) -> dict[Place, int]:
            return {(row.message, row.number): row.state for one in ids for row in store.message(one)[0]}

        def learn(left: dict[Place, int]) -> None:
            wanted = (None if new is None else int(new), None if new is DeliveryState.REPORT_FAILED else -1)
            if changed := [pair for pair in pairs if left.get((pair[1].message, pair[1].number)) in wanted]:
                told(_by_message(changed))

        self._questions.append(Question(read, learn))

    def _learn_slice(self, changed: Pairs, new: DeliveryState | None, due_at: float) -> None:
        """Count a slice that is durable."""
        agenda = self.agenda
        for head, delivery in changed:
            state = new
            if new is DeliveryState.REPORT_FAILED and not self._wants_report(head, delivery):
                state = None
            agenda.changed(
                delivery.domain,
                delivery.priority,
                int(delivery.state),
                None if state is None else int(state),
                due_at,
            )
            agenda.touch(delivery.message)
            if state is DeliveryState.REPORT_FAILED:
                agenda.report_due(head.id)
        if new is DeliveryState.DUE:
            agenda.end_pauses({delivery.domain for _, delivery in changed})
