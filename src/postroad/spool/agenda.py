"""What waits, counted in memory: per domain how many, how urgent, and which are claimed. Pure.

Owns: counts by domain, priority and state, kept as rows change; the earliest time at which a domain may have
something due (a lower bound, made exact by the next claim); claims; pauses; what changed while a
read was on its way (``Watch``). Does not own: rows (store_*.py); the agenda holds none but claimed ones, so that
a million messages behind one domain cost it nothing.

The one rule: a delivery is given out if and only if it is not claimed, not being changed, not arriving and was not
touched since the read that found it began.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf
from operator import attrgetter
from typing import Final

from postroad.core.envelope import Envelope
from postroad.core.ids import MessageId
from postroad.core.outcome import DeliveryState
from postroad.spool.face import Delivery, DomainStats

REPORTS_MAX: Final = 20_000
"""Messages with a report due that are held in memory. The rest is read when these are done."""
FEW_ROWS: Final = 4_000
_HEAP_SLACK: Final = 1_000

_DUE: Final = DeliveryState.DUE
_HELD: Final = DeliveryState.HELD
Key = tuple[int, int]
"""(message id, number)."""


class DomainQueue:
    """Counts of one recipient domain."""

    __slots__ = ("bound", "claimed", "due", "held", "levels", "name", "paused_until", "reports", "waiting")

    def __init__(self, name: str) -> None:
        self.name = name
        self.due = 0
        self.held = 0
        self.reports = 0
        self.waiting = 0
        """All of these."""
        self.levels: dict[int, int] | None = None
        """Rows DUE by priority; None: all have priority 0, and very many domains have no dict each."""
        self.claimed: set[Key] | None = None
        """Claimed rows in state DUE."""
        self.bound = inf
        """No unclaimed row is due before this."""
        self.paused_until = 0.0

    @property
    def wakes_at(self) -> float:
        return self.bound if self.bound > self.paused_until else self.paused_until


_waiting: Final = attrgetter("waiting")


class Claim:
    """One message in somebody's hands, with those of its deliveries that are."""

    __slots__ = ("closing", "envelope", "id", "in_file", "open", "size", "stale")

    def __init__(self, message: MessageId, envelope: Envelope, size: int, in_file: bool) -> None:
        self.id = message
        self.envelope = envelope
        self.size = size
        self.in_file = in_file
        self.open: dict[int, Delivery] = {}
        """Claimed, nothing recorded."""
        self.closing: dict[int, Delivery] = {}
        """Recorded, not durable yet."""
        self.stale = False
        """True if the database that held it has been set aside as damaged."""


class Watch:
    """A read on its way: what was touched in memory meanwhile is not to be taken from its result."""

    __slots__ = ("earliest", "touched")

    def __init__(self) -> None:
        self.touched: set[int] = set()
        """Messages."""
        self.earliest: dict[str, float] = {}
        """Lower bounds set meanwhile, by domain."""


class Agenda:
    """See the module's header. Not shared between threads."""

    def __init__(self) -> None:
        self.domains: dict[str, DomainQueue] = {}
        self.claims: dict[MessageId, Claim] = {}
        self.reports: dict[MessageId, None] = {}
        """Messages with a report due, oldest known first."""
        self.reports_elsewhere = False
        """True if there may be more reports due than ``reports`` holds."""
        self.arriving: set[int] = set()
        """Messages whose put is being committed."""
        self.changing: set[Key] = set()
        """Deliveries whose steering is being committed."""
        self.held = 0
        self.report_rows = 0
        self.recipients = 0
        self._heap: list[tuple[float, str]] = []
        self._watches: list[Watch] = []

    # --- counts ---

    def load(self, rows: Iterable[tuple[str, int, int, int, float]]) -> None:
        """Start again from (domain, state, priority, count, earliest due). Claims and pauses stay."""
        paused = {name: queue.paused_until for name, queue in self.domains.items() if queue.paused_until}
        self.domains, self._heap = {}, []
        self.held = self.report_rows = self.recipients = 0
        for name, state, priority, count, earliest in rows:
            queue = self._queue(name)
            self._count(queue, state, priority, count)
            if state == _DUE:
                queue.bound = min(queue.bound, earliest)
        for claim in self.claims.values():
            for delivery in (*claim.open.values(), *claim.closing.values()):
                if delivery.state == _DUE and delivery.domain in self.domains and not claim.stale:
                    self._mark(self.domains[delivery.domain], (claim.id, delivery.number))
        for queue in self.domains.values():
            queue.paused_until = paused.get(queue.name, 0.0)
            self._schedule(queue)

    def added(self, delivery: Delivery) -> None:
        """Count a new row."""
        queue = self._queue(delivery.domain)
        self._count(queue, delivery.state, delivery.priority, 1)

    def changed(self, domain: str, priority: int, old: int, new: int | None, due_at: float = inf) -> None:
        """Count a row that went from one state to another (None: it is gone), and is due then."""
        queue = self._queue(domain)
        if old != new:
            self._count(queue, old, priority, -1)
            if new is not None:
                self._count(queue, new, priority, 1)
        if new == _DUE:
            self.lower(domain, due_at)
        elif not queue.waiting:
            del self.domains[domain]
        elif queue.due == (len(queue.claimed) if queue.claimed else 0):
            queue.bound = inf

    def lower(self, domain: str, due_at: float) -> None:
        """An unclaimed row is due then."""
        queue = self._queue(domain)
        for watch in self._watches:
            watch.earliest[domain] = min(due_at, watch.earliest.get(domain, inf))
        if due_at < queue.bound:
            queue.bound = due_at
            self._schedule(queue)

    def _queue(self, name: str) -> DomainQueue:
        queue = self.domains.get(name)
        if queue is None:
            queue = self.domains[name] = DomainQueue(name)
        return queue

    def _count(self, queue: DomainQueue, state: int, priority: int, count: int) -> None:
        self.recipients += count
        queue.waiting += count
        if state == _DUE:
            if priority or queue.levels is not None:
                self._count_level(queue, priority, count)
            queue.due += count
        elif state == _HELD:
            queue.held += count
            self.held += count
        else:
            queue.reports += count
            self.report_rows += count

    @staticmethod
    def _count_level(queue: DomainQueue, priority: int, count: int) -> None:
        if queue.levels is None:
            queue.levels = {0: queue.due} if queue.due else {}
        level = queue.levels.get(priority, 0) + count
        if level:
            queue.levels[priority] = level
        else:
            queue.levels.pop(priority, None)
        if not queue.levels.keys() - {0}:
            queue.levels = None

    # --- what is due ---

    def due_domains(self, now: float, limit: int) -> list[str]:
        """Return domains that may have something due, the longest due first."""
        heap, found = self._heap, list[tuple[float, str]]()
        while heap and heap[0][0] <= now and len(found) < limit:
            entry = heapq.heappop(heap)
            if self._is_current(entry) and (not found or entry != found[-1]):
                found.append(entry)
        for entry in found:
            heapq.heappush(heap, entry)
        return [name for _, name in found]

    def next_due_at(self) -> float | None:
        """Return the earliest time at which a domain may have something due."""
        while self._heap and not self._is_current(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pause(self, domain: str, until: float) -> None:
        if (queue := self.domains.get(domain)) is not None and queue.paused_until != until:
            queue.paused_until = until
            self._schedule(queue)

    def end_pauses(self, domains: Iterable[str]) -> None:
        for domain in domains:
            self.pause(domain, 0.0)

    def levels(self, domain: str) -> list[int]:
        """Return the priorities in use, most urgent first."""
        queue = self.domains.get(domain)
        if queue is None or not queue.due:
            return []
        return [0] if queue.levels is None else sorted(queue.levels, reverse=True)

    def claimed_keys(self, admits: Callable[[Delivery], bool]) -> list[Key]:
        """Return claimed deliveries that pass, in order."""
        claims = self.claims.values()
        return sorted(
            (claim.id, delivery.number)
            for claim in claims
            for delivery in (*claim.open.values(), *claim.closing.values())
            if admits(delivery)
        )

    def is_few(self, domain: str) -> bool:
        """True if so few wait for the domain that all of them are soon sorted."""
        queue = self.domains.get(domain)
        return queue is None or queue.waiting <= FEW_ROWS

    def claimed_of(self, domain: str) -> Sequence[Key]:
        queue = self.domains.get(domain)
        return tuple(queue.claimed) if queue and queue.claimed else ()

    def searched(self, domain: str, next_due_at: float, watch: Watch) -> None:
        """A claim found nothing more before ``next_due_at``."""
        queue = self.domains.get(domain)
        if queue is not None:
            queue.bound = min(next_due_at, watch.earliest.get(domain, inf))
            self._schedule(queue)

    def _is_current(self, entry: tuple[float, str]) -> bool:
        queue = self.domains.get(entry[1])
        return queue is not None and queue.wakes_at == entry[0]

    def _schedule(self, queue: DomainQueue) -> None:
        if queue.bound < inf:
            heapq.heappush(self._heap, (queue.wakes_at, queue.name))
            if len(self._heap) > 2 * len(self.domains) + _HEAP_SLACK:
                self._heap = [(each.wakes_at, each.name) for each in self.domains.values() if each.bound < inf]
                heapq.heapify(self._heap)

    # --- claims ---

    def is_claimed(self, message: int, number: int) -> bool:
        claim = self.claims.get(MessageId(message))
        return claim is not None and (number in claim.open or number in claim.closing)

    def may_give(self, delivery: Delivery, watch: Watch) -> bool:
        """True if a delivery that a read found may be given out. See the module's header."""
        message = delivery.message
        return not (
            message in watch.touched
            or message in self.arriving
            or (message, delivery.number) in self.changing
            or self.is_claimed(message, delivery.number)
        )

    def claim(
        self, message: MessageId, envelope: Envelope, size: int, in_file: bool, given: Iterable[Delivery]
    ) -> None:
        """Note that these deliveries are in somebody's hands."""
        claim = self.claims.get(message)
        if claim is None:
            claim = self.claims[message] = Claim(message, envelope, size, in_file)
        for delivery in given:
            claim.open[delivery.number] = delivery
            if delivery.state == _DUE:
                self._mark(self._queue(delivery.domain), (message, delivery.number))
        self.touch(message)

    def unclaim(self, claim: Claim, delivery: Delivery) -> None:
        """A delivery goes back as it was."""
        self.freed(claim, delivery)
        if not claim.stale:
            self.waits(delivery.domain, delivery.state, delivery.due_at, claim.id)

    def waits(self, domain: str, state: int, due_at: float, message: MessageId) -> None:
        """An unclaimed row waits: for its time, or for a report."""
        if state == _DUE:
            self.lower(domain, due_at)
        elif state != _HELD:
            self.report_due(message)

    def freed(self, claim: Claim, delivery: Delivery) -> None:
        """The claim on a delivery ends; what becomes of its row is counted by ``changed``."""
        if claim.open.pop(delivery.number, None) is None:
            claim.closing.pop(delivery.number, None)
        if not claim.open and not claim.closing:
            self.claims.pop(claim.id, None)
        queue = self.domains.get(delivery.domain)
        if queue is not None and queue.claimed is not None:
            queue.claimed.discard((claim.id, delivery.number))
            if not queue.claimed:
                queue.claimed = None
        self.touch(claim.id)

    @staticmethod
    def _mark(queue: DomainQueue, key: Key) -> None:
        if queue.claimed is None:
            queue.claimed = {key}
        else:
            queue.claimed.add(key)

    # --- reports ---

    def report_due(self, message: MessageId) -> None:
        if len(self.reports) < REPORTS_MAX:
            self.reports[message] = None
        else:
            self.reports_elsewhere = True

    def due_reports(self, limit: int) -> list[MessageId]:
        found = list[MessageId]()
        for message in self.reports:
            if len(found) == limit:
                break
            if message not in self.claims:
                found.append(message)
        return found

    # --- reads on their way ---

    def watch(self) -> Watch:
        watch = Watch()
        self._watches.append(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        self._watches.remove(watch)

    def touch(self, message: int) -> None:
        """Something of the message changed in memory: reads under way are out of date about it."""
        for watch in self._watches:
            watch.touched.add(message)

    # --- for people ---

    def largest(self, limit: int) -> list[str]:
        """Return the domains with most waiting, most first. Looks at all of them: 6 ms for 50,000."""
        return [queue.name for queue in heapq.nlargest(limit, self.domains.values(), key=_waiting)]

    def stats(self, domains: Iterable[str]) -> Iterator[DomainStats]:
        """Yield the counts of those of the domains that have any."""
        for name in domains:
            if (queue := self.domains.get(name)) is not None:
                next_due_at = queue.bound if queue.bound < inf else None
                yield DomainStats(queue.name, queue.due, queue.held, queue.reports, next_due_at)
