"""What the disk cannot have known, as the judge sees it: who died, who stopped, and when a shard could record nothing.

Owns: spans in which a shard may have been unable to record, and, from those and from crashes and stops, whether what
was done may have been forgotten, kept against its 451, never told, or left in two shards. Does not own: laws
(judge.py, judge_copies.py, judge_facts.py).

A failure of a shard's database shows by its path. A piece of work that was slow does not say whose it was, so it counts
for every shard.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from typing import Any, Final, NamedTuple

from postroad.testing.sim.book import Book, Crash, Sent
from postroad.testing.sim.judge_ids import shard_of, shard_of_path
from postroad.testing.sim.kernel import START
from postroad.testing.sim.story import Plan

RECORD_MAX: Final = 0.05
"""Seconds until what was delivered is durable: what docs/durability.md promises."""
COMMIT_MAX: Final = 0.05
"""Seconds that a few batches, reads and syncs of a disk that works take besides, in this world."""
DRAIN_MAX: Final = 40.0
"""Seconds that a stop in order may take: what waits, and the records."""
TOLD_AFTER: Final = 1.0
"""Seconds after which what was committed is told, if its worker lives and the disk works."""
REOPENED_AFTER: Final = 11.0
"""Seconds from a failure until a shard is open again, unless trying fails or takes long, which shows: tries are at most
REOPEN_LONGEST (spool/ground.py) apart."""
ADOPTED_AFTER: Final = 31.0
"""Seconds from a failure until what moves from a shard into another is taken up again: tries are at most RETRY_LONGEST
(service/shards.py) apart."""
_SHARD_OF_WORKER: Final = re.compile(r"worker-(\d+)#")


class Span(NamedTuple):
    """A time in which a shard may have been unable to record, or to read."""

    begin: float
    end: float


class Deed(NamedTuple):
    """What was done with a recipient of a message, and by which shard."""

    at: float
    shard: int


class Move(NamedTuple):
    """When a message came from one shard into another."""

    at: float
    source: int
    target: int


class Disk:
    """What befell the machine of one story."""

    def __init__(self, plan: Plan, book: Book, troubles: list[tuple[float, str]], transfers: list[Any]) -> None:
        self._plan = plan
        self._book = book
        self._transfers = transfers
        """When they were told, and facts Transferred."""
        self._troubles = sorted(troubles)
        self._spans: dict[tuple[int, float], list[Span]] = {}
        self._started = {name: at for at, name in book.starts}

    # --- trouble ---

    def is_troubled(self, begin: float, end: float) -> bool:
        """True if an operation failed, or was under way for long, in that span, whosever it was."""
        return any(at <= end and at + seconds_of(why) >= begin for at, why in self._troubles)

    def has_failed(self, shard: int, begin: float, end: float) -> bool:
        """True if an operation on a shard's database failed in that span."""
        return any(begin <= at <= end and _is_of_database(shard, why) for at, why in self._troubles)

    def spans(self, shard: int, patience: float = REOPENED_AFTER) -> list[Span]:
        """Return when a shard may have been unable to record.

        Each begins with a failure of its database, or with work that was slow, and lasts as long as that, and as long
        as tries to open it again fail, or are slow, without more time in between than there is between two tries.
        """
        key = shard, patience
        if key not in self._spans:
            found: list[Span] = []
            for at, why in self._troubles:
                seconds = seconds_of(why)
                if not seconds and not _is_of_database(shard, why):
                    continue
                over = at + (seconds + RECORD_MAX + COMMIT_MAX if seconds else patience)
                if found and at <= found[-1].end:
                    found[-1] = Span(found[-1].begin, max(found[-1].end, over))
                else:
                    found.append(Span(at, over))
            self._spans[key] = found
        return self._spans[key]

    def unable(self, shard: int, begin: float, end: float, patience: float = REOPENED_AFTER) -> Iterator[Span]:
        """Return the spans in which a shard may have been unable to record something that was due in that time."""
        return (one for one in self.spans(shard, patience) if one.begin <= end and one.end >= begin)

    # --- what follows ---

    def why_forgotten(self, at: float, before: float = math.inf, worker: str = "") -> str:
        """Return why what was done at ``at`` may not have come to the disk by then; empty: it must have.

        ``worker``: who did it; empty: any may have that was there.
        """
        due = at + RECORD_MAX + COMMIT_MAX
        for one in self._book.crashes:
            if not at <= one.at <= before:
                continue
            for name in self._of(one, at, worker):
                if one.at <= due:
                    return "crash between delivery and record"
                if any(one.at <= span.end for span in self.unable(shard_of_worker(name), at, due)):
                    return "crash while the disk was in trouble"
        for one in self._book.stops:
            if one.at > before or self.stopped_at(one) < at:
                continue
            for name in self._of(one, at, worker):
                if any(one.at <= span.end for span in self.unable(shard_of_worker(name), at, due)):
                    return "stop in order while the disk was in trouble"
        return ""

    def _of(self, end: Crash, at: float, worker: str) -> list[str]:
        """Return whose end it was, of those that had started by then, or of one."""
        return [one for one in end.workers if one == worker or (not worker and self._started.get(one, 0.0) <= at)]

    def stopped_at(self, stop: Crash) -> float:
        """Return when a stop in order was over at the latest: what follows starts only then."""
        return min((at for at, _ in self._book.starts if at >= stop.at), default=stop.at + DRAIN_MAX)

    def is_kept_by_a_failed_sync(self, sent: Sent) -> bool:
        """True if the disk failed when the client was refused, and its worker ended before the disk was well again.

        A stop in order ends some time between its begin and the next start: it may have begun before the refusal.
        """
        shard = shard_of_worker(sent.worker)
        if sent.code != 451 or not self.has_failed(shard, sent.dot_at, sent.told_at):
            return False
        last = max(span.end for span in self.unable(shard, sent.dot_at, sent.told_at))
        ends = [(one, one.at) for one in self._book.crashes]
        ends += [(one, self.stopped_at(one)) for one in self._book.stops]
        return any(sent.worker in one.workers and one.at <= last and over >= sent.told_at - 0.1 for one, over in ends)

    def is_untold(self, begin: float, end: float, shard: int | None = None) -> bool:
        """True if a worker may have died after a commit in that span, or in one that was begun then, and told nobody.

        A stop in order lets everything be told, unless the disk is in trouble. ``shard``: whose commit; None:
        anybody's.
        """
        ends = [(one, one.at, one.at <= end + TOLD_AFTER) for one in self._book.crashes]
        ends += [(one, self.stopped_at(one), False) for one in self._book.stops]
        for one, over, is_soon in ends:
            for worker in one.workers if over >= begin else ():
                of = shard_of_worker(worker)
                if shard not in (None, of) or self._started.get(worker, 0.0) > end:
                    continue
                spans = self.unable(of, begin, end + RECORD_MAX + COMMIT_MAX)
                if is_soon or any(one.at <= span.end for span in spans):
                    return True
        return False

    # --- two shards ---

    def is_between_shards(self, message: int, one: Deed, other: Deed) -> bool:
        """True if a message was in two shards, each of which did one of these: that parcel may come twice.

        docs/durability.md: two faults at once, a crash or trouble between the commit of the target and that of the
        source, and then another number of workers, so that somebody else has the source.
        """
        moves = [Move(at, fact.from_shard, fact.to_shard) for at, fact in self._transfers if fact.message == message]
        broken_off = [move for move in moves if self._broke_off(move)]
        broken_off += [move for deed in (one, other) for move in self._untold(message, moves, deed)]
        for move in broken_off:
            for left, right in ((one, other), (other, one)):
                is_resized = any(move.at <= at <= left.at for at in self._resized())
                is_of_source = left.shard in _holders(move.source, moves, move.at, left.at, but=move)
                is_of_target = right.at >= move.at and right.shard in _holders(move.target, moves, move.at, right.at)
                if is_resized and is_of_source and is_of_target and left.shard != right.shard:
                    return True
        return False

    def _resized(self) -> list[float]:
        """Return when another number of workers began: as planned, or, after a stop that took long, with the start.

        Parcels still move while the relay stops for it.
        """
        if not self._plan.resizes:
            return []
        return [START + when for when, _ in self._plan.resizes] + [self.stopped_at(one) for one in self._book.stops]

    def may_have_been_in(self, shards: Collection[int], message: int, until: float) -> bool:
        """True if a message can have been in one of these shards, or on its way into or out of one, by then."""
        moves = [Move(at, fact.from_shard, fact.to_shard) for at, fact in self._transfers if fact.message == message]
        holders = _holders(shard_of(message), moves, 0.0, until)
        # Where a move was committed and not told of, nobody can say where it was.
        return not holders.isdisjoint(shards) or any(self._broke_off(move) for move in moves)

    def _untold(self, message: int, moves: list[Move], deed: Deed) -> list[Move]:
        """Return moves that nobody may have told of: into a shard that cannot have the message by those that were told.

        Its worker ended right after its commit, or before it knew what a failed one had kept.
        """
        first = shard_of(message)
        if deed.shard in _holders(first, moves, 0.0, deed.at):
            return []
        found = []
        for end in (*self._book.crashes, *self._book.stops):
            is_its = any(shard_of_worker(name) == deed.shard for name in end.workers) and end.at <= deed.at
            if is_its and end in self._book.stops:
                is_its = any(self.unable(deed.shard, end.at, self.stopped_at(end)))
            if is_its:
                found += [Move(end.at, source, deed.shard) for source in _holders(first, moves, 0.0, end.at)]
        return found

    def _broke_off(self, move: Move) -> bool:
        """True if what a target had committed may not have been removed from its source when its worker ended."""
        due = move.at + RECORD_MAX + COMMIT_MAX
        spans = list(self.unable(move.source, move.at, due, ADOPTED_AFTER))
        ends = [(one, one.at, one.at <= due) for one in self._book.crashes]
        ends += [(one, self.stopped_at(one), False) for one in self._book.stops]
        for one, over, is_soon in ends:
            is_its = over >= move.at and any(shard_of_worker(name) == move.target for name in one.workers)
            if is_its and (is_soon or any(one.at <= span.end for span in spans)):
                return True
        return False


def _holders(shard: int, moves: list[Move], since: float, until: float, but: Move | None = None) -> set[int]:
    """Return which shards can have had by then what was in one, by way of further moves; ``but``: not by that one."""
    found = {shard}
    for move in sorted(moves):
        if since <= move.at <= until and move.source in found and move != but:
            found.add(move.target)
    return found


def seconds_of(trouble: str) -> float:
    """Return how long an operation took that was slow; 0.0 for one that failed."""
    before, found, seconds = trouble.partition("slow for ")
    return float(seconds.split()[0]) if found and not before else 0.0


def _is_of(shard: int, trouble: str) -> bool:
    return shard_of_path(trouble) == shard


def _is_of_database(shard: int, trouble: str) -> bool:
    """True if an operation failed on a database or its directory: a content file is one message's affair."""
    return _is_of(shard, trouble) and "/bodies" not in trouble


def shard_of_worker(worker: str) -> int:
    """Return the shard of a worker; -1 for none."""
    found = _SHARD_OF_WORKER.match(worker)
    return int(found[1]) if found else -1
