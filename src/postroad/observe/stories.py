"""The story of a message, or of an address, read back from the segments of all writers.

Owns: which segments and rows belong to a story, their order. Does not own: SQL (segment.py), what facts say to people
(telling.py). Reads only, in slices in a lane of its own, also while others write: the front, or the command line when
no relay runs.

Facts come in the order of time; of one time, by writer and row. Within what one writer wrote the order is that of their
happening, as long as the wall clock did not go back. Memory is bounded by the rows of a story, not by its facts.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncGenerator, Generator, Iterator, Sequence
from contextlib import closing
from itertools import groupby, islice
from typing import Final, NamedTuple

import msgspec

from postroad.core.faces import Threads
from postroad.core.facts import AnyFact, Reported
from postroad.core.ids import MessageId, parse_id, time_of
from postroad.core.units import DAY
from postroad.observe.packing import address_hash, address_key, addresses_of, unpack
from postroad.observe.segment import LAST_ROW, SegmentDamaged, SegmentReader, SegmentTooNew, SegmentTrouble
from postroad.observe.segment_files import SegmentName, list_segments

MESSAGES_MAX: Final = 100
"""Messages and refusals of an address that are told of, the newest."""
SLICE: Final = 200
"""Facts read in one go."""
ROWS: Final = 50
"""Rows fetched in one go."""
FOUND_AT_ONCE: Final = 500
"""Rows of an address that are looked at in one go."""
SLACK: Final = 1 * DAY
"""Seconds by which clocks may have jumped, or a batch may have been written late."""
_LANE: Final = "stories"
_UNREADABLE: Final = (SegmentTrouble, SegmentDamaged, SegmentTooNew)

_Entry = tuple[float, str, str, int, int, int, AnyFact]
"""Time, writer, date, part, row, place in the row: these tell any two apart; then the fact."""


class Skipped(msgspec.Struct):
    """What could not be read."""

    facts: int = 0
    """Of kinds that this version does not know."""
    segments: set[str] = set()
    """Files that are damaged, of another version, or may not be read."""
    messages_left_out: bool = False
    """True if an address has more messages than were told of."""


class Selection(msgspec.Struct, frozen=True):
    """What is read: all facts of messages, and rows of their own (refusals) by segment."""

    messages: tuple[int, ...] = ()
    rows: dict[SegmentName, list[int]] = {}

    def may_be_in(self, name: SegmentName) -> bool:
        """True if a segment may hold some of it: none is older than the messages."""
        ends_at = name.begins_at + DAY + SLACK
        return name in self.rows or any(time_of(message) <= ends_at for message in self.messages)


class _Hit(NamedTuple):
    """A message, or a row of its own, to which an address leads."""

    at: float
    message: int | None
    name: SegmentName
    row: int

    @property
    def what(self) -> object:
        return self.message if self.message is not None else (self.name, self.row)


def parse_wanted(text: str) -> MessageId | str:
    """Return the id that ``text`` is, or else ``text`` as an address."""
    try:
        return MessageId(parse_id(text))
    except ValueError:
        return text


async def read_story(
    directory: str,
    wanted: MessageId | str,
    threads: Threads,
    *,
    since: float | None = None,
    limit: int = MESSAGES_MAX,
    skipped: Skipped | None = None,
) -> AsyncGenerator[AnyFact, None]:
    """Yield all stored facts of a message and of its reports; or of the newest messages from or to an address.

    Args:
        directory: where the segments are; if there is none, there are no facts.
        wanted: an id, or an address.
        threads: where it is read.
        since: what happened before is left out, seconds since the epoch, UTC.
        limit: for an address, how many messages and refusals.
        skipped: is told what could not be read.
    """
    skipped = skipped if skipped is not None else Skipped()
    if isinstance(wanted, str):
        selection = await _select(directory, wanted, threads, since or 0.0, limit, skipped)
    else:
        reports = set()
        async for fact in _stream(directory, Selection((wanted,)), threads, Skipped()):
            if isinstance(fact, Reported):
                reports.add(fact.report)
        selection = Selection((wanted, *sorted(reports)))
    async for fact in _stream(directory, selection, threads, skipped):
        if since is None or fact.at >= since:
            yield fact


async def _select(
    directory: str, address: str, threads: Threads, since: float, limit: int, skipped: Skipped
) -> Selection:
    """Find the newest messages and refusals of an address, day by day backwards."""
    found: dict[object, _Hit] = {}
    is_more = False
    names = await threads.run_blocking(list_segments, directory, lane=_LANE)
    for _, of_day in groupby(reversed(names), key=lambda name: name.date):
        hits: list[_Hit] = []
        for name in of_day:
            if name.begins_at + DAY + SLACK >= since:
                hits += await threads.run_blocking(_find, directory, name, address, limit + 1, skipped, lane=_LANE)
        for hit in sorted(hits, reverse=True, key=lambda hit: hit.at):
            if len(found) < limit or hit.what in found:
                found.setdefault(hit.what, hit)
            else:
                is_more = True
        if is_more:
            skipped.messages_left_out = True
            break
    rows: dict[SegmentName, list[int]] = {}
    for hit in found.values():
        if hit.message is None:
            rows.setdefault(hit.name, []).append(hit.row)
    return Selection(tuple(hit.message for hit in found.values() if hit.message is not None), rows)


async def _stream(
    directory: str, selection: Selection, threads: Threads, skipped: Skipped
) -> AsyncGenerator[AnyFact, None]:
    facts = _facts(directory, selection, skipped)
    try:
        while taken := await threads.run_blocking(_take, facts, lane=_LANE):
            for fact in taken:
                yield fact
    finally:
        threads.run_blocking(facts.close, lane=_LANE)  # behind what the lane may be doing for us


# --- in the lane ---------------------------------------------------------------------------------------


def _take(facts: Iterator[AnyFact]) -> list[AnyFact]:
    return list(islice(facts, SLICE))


def _find(directory: str, name: SegmentName, address: str, limit: int, skipped: Skipped) -> list[_Hit]:
    """Return the newest messages and rows of one segment to which an address leads."""
    wanted, found = address_key(address), dict[object, _Hit]()
    try:
        with closing(SegmentReader(f"{directory}/{name.file}")) as reader:
            before = LAST_ROW
            while len(found) < limit:
                rows, before = reader.rows_by(address_hash(address), before, FOUND_AT_ONCE)
                if not rows:
                    break
                for row, message, at, octets in reversed(reader.fetch(rows)):
                    facts, _ = unpack(octets)
                    if any(one and address_key(one) == wanted for fact in facts for one in addresses_of(fact)):
                        hit = _Hit(at, message, name, row)
                        found.setdefault(hit.what, hit)
    except _UNREADABLE:
        skipped.segments.add(name.file)
    return list(found.values())[:limit]


def _facts(directory: str, selection: Selection, skipped: Skipped) -> Generator[AnyFact, None, None]:
    """Yield the facts of all writers in the order of time."""
    names = [name for name in list_segments(directory) if selection.may_be_in(name)]
    by_writer = groupby(sorted(names, key=lambda name: (name.writer, name)), key=lambda name: name.writer)
    streams = [_of_writer(directory, list(mine), selection, skipped) for _, mine in by_writer]
    for entry in heapq.merge(*streams):
        yield entry[-1]


def _of_writer(
    directory: str, names: Sequence[SegmentName], selection: Selection, skipped: Skipped
) -> Iterator[_Entry]:
    """Yield what one writer has written in the order of time.

    Rows stand in the order of their first facts; what a row holds may lie between the facts of those behind it. A fact
    is given when the first fact of a later row is as late.
    """
    held: list[_Entry] = []
    for name in names:
        for row, at, octets in _rows(directory, name, selection, skipped):
            while held and held[0][0] <= at:
                yield heapq.heappop(held)
            facts, unknown = unpack(octets)
            skipped.facts += unknown
            for place, fact in enumerate(facts):
                heapq.heappush(held, (fact.at, name.writer, name.date, name.part, row, place, fact))
    while held:
        yield heapq.heappop(held)


def _rows(
    directory: str, name: SegmentName, selection: Selection, skipped: Skipped
) -> Iterator[tuple[int, float, bytes]]:
    """Yield row, time and facts of what is selected in one segment, in the order of writing."""
    try:
        with closing(SegmentReader(f"{directory}/{name.file}")) as reader:
            rows = sorted({*reader.rows_of(selection.messages), *selection.rows.get(name, ())})
            for start in range(0, len(rows), ROWS):
                for row, _, at, octets in reader.fetch(rows[start : start + ROWS]):
                    yield row, at, octets
    except _UNREADABLE:
        skipped.segments.add(name.file)
