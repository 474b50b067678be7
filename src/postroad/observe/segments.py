"""Facts are stored: in batches of about a second, to a segment per day and writer, in a lane of its own.

Owns: what waits, its bound, when a segment begins and ends, that trouble is told and stops nobody. Does not own: rows
(packing.py), SQL (segment.py), which segments go (segment_files.py), reading them (stories.py).

A crash costs the facts of about the last second, a disk that is full or fails those of that time: mail goes on, one
fact tells of the trouble and one of its end. A damaged segment is set aside and a new one begun. ``[facts] disk_max``
holds within a day too: a part that has a sixteenth of it is ended, the next one begun, and the oldest parts go; so all
together are too large by the last parts of all writers, at most. bench/facts.py measures what storing costs.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import msgspec

from postroad.core.faces import Clock, Outlet, Threads
from postroad.core.facts import AnyFact, Damaged, Received, Reported, Trouble
from postroad.core.units import HOUR, MIB
from postroad.observe.packing import rows_of
from postroad.observe.segment import Segment, SegmentDamaged, SegmentTooNew, SegmentTrouble
from postroad.observe.segment_files import SegmentName, date_of, list_segments, parse_name, prune

BATCH_AFTER: Final = 1.0
"""Seconds that a fact waits at most until it is written: what a crash costs."""
BATCH_MAX: Final = 15_000
"""Facts after which a batch does not wait: 5,000 messages."""
WAITING_MAX: Final = 45_000
"""Facts that wait, beside those being written; a quarter of a recipient counts as one. Some 40 MiB. More are lost."""
PART_MAX: Final = 256 * MIB
PART_MIN: Final = 1 * MIB
PARTS_MIN: Final = 16
"""Parts that [facts] disk_max has room for at least, as long as they are not smaller than PART_MIN."""
PRUNE_EVERY: Final = 1 * HOUR
CLOSE_TIMEOUT: Final = 2.0
"""Seconds that the end waits for a slow disk."""
_LANE: Final = "facts"


class Written(msgspec.Struct):
    """What came of one batch."""

    lost: int = 0
    why: str = ""
    """Why facts were lost; empty: none were."""
    damaged: str = ""
    """Where a damaged segment was set aside."""


class FactStore:
    """A Subscriber that stores facts. All calls from the loop's thread."""

    def __init__(
        self,
        directory: str,
        writer: str,
        *,
        threads: Threads,
        clock: Clock,
        keep: float,
        disk_max: int,
        left_free: int = 0,
    ) -> None:
        """``writer``: the slot of a worker, or ``ledger``, ``front``, ...: two that live at once have different ones.
        ``keep``: seconds; ``disk_max``: octets of all writers together, 0: nothing is stored; ``left_free``: octets of
        the disk that are not taken: whoever is refused again and again, and each refusal is a fact, must not take from
        the queue the room in which it notes what is delivered."""
        name = SegmentName("2026-01-01", 0, writer)
        if parse_name(name.file) != name:  # it would never be found again
            raise ValueError(f"{writer!r} cannot name a writer of facts: lower-case letters and digits")
        self._segments = SegmentWriter(directory, writer, keep=keep, disk_max=disk_max, left_free=left_free)
        self._threads = threads
        self._clock = clock
        self._stores = disk_max > 0
        self._outlet: Outlet | None = None
        self._waiting: list[Sequence[AnyFact]] = []
        self._weight = 0
        self._lost = 0  # for want of room to wait
        self._lost_in_trouble = 0
        self._trouble = ""
        self._timer: asyncio.TimerHandle | None = None
        self._pruning: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[Written] | None = None
        self._is_closed = False

    def attach(self, outlet: Outlet) -> None:
        """Tell of trouble there. The outlet calls it that this is subscribed to."""
        self._outlet = outlet

    def take(self, facts: Sequence[AnyFact]) -> None:
        if not self._stores or self._is_closed:
            return
        if self._pruning is None:
            self._prune()
        weight = len(facts)
        for fact in facts:
            if type(fact) is Received or type(fact) is Reported:
                weight += len(fact.recipients) >> 2
        if self._weight + weight > WAITING_MAX and self._waiting:
            self._lost += len(facts)
            return
        self._waiting.append(facts)
        self._weight += weight
        self._plan()

    async def flush(self) -> None:
        """Return when all that was taken before is written, or lost."""
        while self._waiting or self._writing is not None:
            self._write()
            if self._writing is not None:
                await asyncio.wait([self._writing])

    async def close(self) -> None:
        self._is_closed = True
        for timer in (self._timer, self._pruning):
            if timer is not None:
                timer.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self.flush()
                await self._threads.run_blocking(self._segments.close, lane=_LANE)

    def _plan(self) -> None:
        """Write now or later what waits."""
        if self._writing is not None or not self._waiting:
            return
        if self._weight >= BATCH_MAX:
            self._write()
        elif self._timer is None and not self._is_closed:
            self._timer = asyncio.get_running_loop().call_later(BATCH_AFTER, self._write)

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._writing is not None or not self._waiting:
            return
        batches, self._waiting, self._weight = self._waiting, [], 0
        now = self._clock.now()
        self._writing = self._threads.run_blocking(self._segments.write, batches, now, lane=_LANE)
        self._writing.add_done_callback(self._on_written)

    def _on_written(self, written: asyncio.Future[Written]) -> None:
        self._writing = None
        if not written.cancelled():
            result = written.result()
            if self._lost:
                result.lost += self._lost
                result.why = result.why or "the disk is too slow for all of them"
                self._lost = 0
            self._tell(result)
        self._plan()

    def _tell(self, result: Written) -> None:
        """Emit what there is to tell: damage, the beginning and the end of trouble."""
        now, told = self._clock.now(), list[AnyFact]()
        if result.damaged:
            told.append(Damaged(at=now, what="facts", where=result.damaged))
        self._lost_in_trouble += result.lost
        if result.why and not self._trouble:
            told.append(Trouble(at=now, what="facts", why=f"facts are not stored: {result.why}"))
        elif self._trouble and not result.why:
            lost = f"{self._lost_in_trouble} facts were not stored: {self._trouble}"
            told.append(Trouble(at=now, what="facts", why=lost, over=True))
            self._lost_in_trouble = 0
        self._trouble = result.why
        for fact in told:
            if self._outlet is not None:
                self._outlet.emit(fact)

    def _prune(self) -> None:
        """Delete old segments, now and every hour."""
        self._pruning = asyncio.get_running_loop().call_later(PRUNE_EVERY, self._prune)
        self._threads.run_blocking(self._segments.tidy, self._clock.now(), lane=_LANE)


class SegmentWriter:
    """Writes rows to the segment of the day. Blocking; all calls from one thread at a time."""

    def __init__(self, directory: str, writer: str, *, keep: float, disk_max: int, left_free: int = 0) -> None:
        self._directory = directory
        self._writer = writer
        self._keep = keep
        self._disk_max = disk_max
        self._left_free = left_free
        self._part_max = max(PART_MIN, min(PART_MAX, disk_max // PARTS_MIN))
        self._segment: Segment | None = None
        self._date = ""

    def write(self, batches: Sequence[Sequence[AnyFact]], now: float) -> Written:
        """Store facts. Never raises for what the disk does."""
        rows = rows_of(batches)
        written = Written()
        try:
            if rows:
                self._look_at_free()
                try:
                    self._open(now).append(rows)
                except SegmentDamaged:
                    written.damaged = self._set_aside(now)
                    self._open(now).append(rows)
        except (OSError, SegmentTrouble, SegmentDamaged) as error:
            self.close()
            written.lost, written.why = sum(map(len, batches)), str(error)
        else:
            if self._segment is not None and self._segment.size >= self._part_max:
                self.close()
                self.tidy(now)
        return written

    def _look_at_free(self) -> None:
        """Raise SegmentTrouble where the disk has no room left but for the mail."""
        found = os.statvfs(os.path.dirname(self._directory))
        if (free := found.f_bavail * found.f_frsize) < self._left_free:
            raise SegmentTrouble(f"{free} octets are free, {self._left_free} are left to the mail")

    def tidy(self, now: float) -> None:
        """Prune; and let go of a segment whose day is over."""
        if self._segment is not None and self._date != date_of(now):
            self.close()
        is_open = os.path.basename(self._segment.path) if self._segment is not None else ""
        with suppress(OSError):  # no directory yet, or a disk in trouble: in an hour again
            prune(self._directory, now=now, keep=self._keep, disk_max=self._disk_max, is_open=is_open)

    def close(self) -> None:
        """End the segment. The next write continues it, or begins another."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _open(self, now: float) -> Segment:
        """Return the segment to write to: the last part of today, or the next one if that is full."""
        date = date_of(now)
        if self._segment is not None and self._date == date:
            return self._segment
        self.close()
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        names = list_segments(self._directory)
        parts = [name.part for name in names if (name.date, name.writer) == (date, self._writer)]
        part = max(parts, default=0)
        while True:
            segment = self._open_part(SegmentName(date, part, self._writer))
            if segment is not None:
                self._segment, self._date = segment, date
                return segment
            part += 1

    def _open_part(self, name: SegmentName) -> Segment | None:
        """Return the part, or None if it is full, or of another version."""
        path = f"{self._directory}/{name.file}"
        self._path = path
        try:
            segment = Segment(path)
        except SegmentTooNew:
            return None
        if segment.size < self._part_max:
            return segment
        segment.close()
        return None

    def _set_aside(self, now: float) -> str:
        """Rename a damaged segment, with what stands beside it, so that it is written and read no more."""
        self.close()
        to = f"{self._path.removesuffix('.db')}.damaged-{now:.0f}.db"
        for beside in ("-wal", "-shm", "-journal", ""):
            with suppress(FileNotFoundError):
                os.rename(self._path + beside, to + beside)
        return to
