"""The answers of several queues as the answer of one: arithmetic. Pure.

Owns: paging over several listings, sums, what stands for several (the oldest, the worst, one reason). Does not own:
asking (fleet.py), the meaning of the values (steering.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import msgspec

from postroad.core.ids import MessageId, parse_id
from postroad.outbound.rows import page_of
from postroad.outbound.steering import (
    DOMAINS_MAX,
    Counter,
    DestinationRow,
    DropRow,
    Health,
    MessagePage,
    MessageRow,
    QueueStats,
)
from postroad.spool.face import Changed

STATUS_RANKS: Final = ("", "open", "slow", "probing", "down", "suspended")
"""What a destination may be to a worker, the best first; a word that is not here is worse than all."""

Named = Callable[[str], str]


def merge_pages(pages: Sequence[MessagePage], limit: int) -> MessagePage:
    """Return the first ``limit`` messages of all pages, each of which goes on from the same place.

    A part that has more than it gave bounds the page: what others have past its last message comes later.
    """
    horizons = [page.after for page in pages if page.after is not None]
    horizon = min(horizons, default=None)
    rows: dict[int, MessageRow] = {}
    for page in pages:
        for row in page.messages:
            rows.setdefault(parse_id(row.id), row)
    within = [one for one in sorted(rows) if horizon is None or one <= horizon]
    if len(within) > limit:
        horizon = MessageId(within[limit - 1])
        within = within[:limit]
    return page_of([rows[one] for one in within], horizon)


def stats_limit(limit: int) -> int:
    """Return how many domains to ask each part for, so that the first ``limit`` of the sums are right.

    A domain that has few in each part and many in all may be missed, where parts differ widely in what they hold.
    """
    return min(DOMAINS_MAX, max(1, limit) * 2 + 50)


def merge_stats(given: Mapping[str, QueueStats], away: Sequence[str], limit: int, named: Named) -> QueueStats:
    """Return the sums; ``away`` are sentences about parts whose numbers are missing.

    ``accepting`` is of those that answer: one that hangs says nothing of the others.
    """
    every = list(given.values())
    troubles = [f"{named(name)}: {one.trouble}" for name, one in given.items() if one.trouble]
    return QueueStats(
        at=max(one.at for one in every),
        messages=sum(one.messages for one in every),
        recipients=sum(one.recipients for one in every),
        held=sum(one.held for one in every),
        reports=sum(one.reports for one in every),
        octets=sum(one.octets for one in every),
        oldest_at=_least(one.oldest_at for one in every),
        accepting=all(one.accepting for one in every),
        trouble=_joined(every, troubles, away),
        destinations=merge_destinations([row for one in every for row in one.destinations])[: max(1, limit)],
    )


def merge_destinations(rows: Iterable[DestinationRow]) -> tuple[DestinationRow, ...]:
    """Return a row for each domain, those with most waiting first."""
    merged: dict[str, DestinationRow] = {}
    for row in rows:
        other = merged.get(row.domain)
        merged[row.domain] = row if other is None else _both(other, row)
    return tuple(sorted(merged.values(), key=lambda row: -(row.due + row.held + row.reports)))


def _both(one: DestinationRow, other: DestinationRow) -> DestinationRow:
    worse = other if _rank(other.status) > _rank(one.status) else one
    return DestinationRow(
        domain=one.domain,
        destination=worse.destination or one.destination or other.destination,
        status=worse.status,
        due=one.due + other.due,
        held=one.held + other.held,
        reports=one.reports + other.reports,
        oldest_at=_least((one.oldest_at, other.oldest_at)),
        next_at=_least((one.next_at, other.next_at)),
        reason=worse.reason or one.reason or other.reason,
    )


def _rank(status: str) -> int:
    return STATUS_RANKS.index(status) if status in STATUS_RANKS else len(STATUS_RANKS)


def merge_healths(given: Mapping[str, Health], away: Sequence[str], named: Named) -> Health:
    """Return one health; ``away`` are sentences about parts that did not answer."""
    every = list(given.values())
    troubles = [f"{named(name)}: {one.trouble}" for name, one in given.items() if one.trouble]
    return Health(
        version=every[0].version,
        pid=every[0].pid,
        started_at=min(one.started_at for one in every),
        at=max(one.at for one in every),
        listeners=tuple(dict.fromkeys(listener for one in every for listener in one.listeners)),
        accepting=all(one.accepting for one in every),
        trouble=_joined(every, troubles, away),
        messages=sum(one.messages for one in every),
        recipients=sum(one.recipients for one in every),
    )


def _joined(every: Sequence[Health] | Sequence[QueueStats], troubles: Sequence[str], away: Sequence[str]) -> str:
    """Return all troubles in a line: of one part alone as it says it."""
    if len(every) == 1 and not away:
        return every[0].trouble
    return "; ".join([*troubles, *away])


def merge_changed(parts: Sequence[Changed]) -> Changed:
    return Changed(
        recipients=sum(one.recipients for one in parts),
        messages=sum(one.messages for one in parts),
        in_flight=sum(one.in_flight for one in parts),
        unreached=tuple(sorted({number for one in parts for number in one.unreached})),
    )


def merge_drops(parts: Sequence[Sequence[DropRow]]) -> tuple[DropRow, ...]:
    """Return all rows, the oldest first; of one recipient one."""
    rows = {row.number: row for part in parts for row in part}
    return tuple(sorted(rows.values(), key=lambda row: (row.at, row.number)))


def merge_counters(parts: Sequence[Sequence[Counter]]) -> tuple[Counter, ...]:
    """Return the sums of the numbers of one name and the same labels."""
    sums: dict[tuple[str, tuple[tuple[str, str], ...]], Counter] = {}
    for counter in (counter for part in parts for counter in part):
        key = (counter.name, counter.labels)
        other = sums.get(key)
        value = counter.value + (other.value if other is not None else 0.0)
        sums[key] = msgspec.structs.replace(counter, value=value)
    return tuple(sums.values())


def _least(times: Iterable[float | None]) -> float | None:
    return min((at for at in times if at is not None), default=None)
