"""Seeing and steering the queue: what http and cli may do to the mail that waits, and nothing more.

Owns: checking what a person asked, doing it on the spool, the fact that says who did it, waking the scheduler,
following the story of a message (outbound/story.py remembers). Does not own: who may ask (the control server looks at
the peer's credentials), how it travels (http), how deliveries end (the spool).

Works on any ``Spool``: in a worker with the scheduler as ``Destinations``, on a spool that nobody runs with
``NO_DESTINATIONS``. Every call is bounded: pages, slices of the spool, a row limit, seconds of waiting for shards that
are moved here (outbound/adopting.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from postroad.config.patterns import parse_pattern
from postroad.core import reply
from postroad.core.address import AddressError, parse_domain, to_ascii
from postroad.core.faces import Clock, Outlet
from postroad.core.facts import AnyFact, Steered
from postroad.core.ids import MessageId, format_id
from postroad.core.outcome import DeliveryState, Failed, Stage
from postroad.outbound.adopting import NO_ADOPTIONS, PATIENCE, Adopting, uncounted
from postroad.outbound.changed import delete_rule, facts_of
from postroad.outbound.rows import DestinationState as DestinationState
from postroad.outbound.rows import destination_row, drop_row, message_row, page_of
from postroad.outbound.steering import (
    DOMAINS_MAX,
    PAGE_MAX,
    STATES,
    Change,
    ControlRefused,
    Counter,
    DestinationRow,
    DropRow,
    Health,
    MessagePage,
    MessageRow,
    NotThere,
    QueueStats,
    Steering,
)
from postroad.outbound.story import FactStream, Recent, Watcher, follow
from postroad.spool.face import Changed, DomainStats, QueuedMessage, Selection, Spool, Told

IDS_MAX: Final = 10_000
"""Ids in one selection."""
OLDEST_SECONDS: Final = 2.0
"""How long ``stats`` looks for the oldest mail of each domain, seconds; if that was not enough, all say none."""
SELECTION_SHOWN_MAX: Final = 300
"""Characters of a selection in a fact."""


class Destinations(Protocol):
    """What steering needs of the scheduler."""

    def wake(self) -> None:
        """Look at the queue now: deliveries have become due."""

    def describe(self, domain: str) -> DestinationState | None:
        """Return what is known of the destination of a domain; None if nothing is. From memory."""


class NoDestinations:
    """``Destinations`` where no relay runs."""

    def wake(self) -> None:
        """Nobody sleeps."""

    def describe(self, domain: str) -> DestinationState | None:
        return None


NO_DESTINATIONS: Final = NoDestinations()


@dataclass(frozen=True, slots=True)
class About:
    """Which relay this is, for ``health``."""

    version: str
    pid: int
    started_at: float
    listeners: tuple[str, ...]


class Control:
    """Steering for anybody; ``on_behalf_of`` makes the face that one person gets. Lives on the event loop."""

    def __init__(
        self,
        spool: Spool,
        clock: Clock,
        outlet: Outlet,
        facts: FactStream | None,
        destinations: Destinations,
        about: About,
        counters: Callable[[], Sequence[Counter]] = tuple,
        adopting: Adopting = NO_ADOPTIONS,
    ) -> None:
        self._spool = spool
        self._clock = clock
        self._outlet = outlet
        self._destinations = destinations
        self._about = about
        self._counters = counters
        self._adopting = adopting
        self._recent = Recent(facts) if facts is not None else None

    def on_behalf_of(self, who: str) -> Steering:
        """Return the face for a person by name. Whoever calls this has made sure of the name."""
        return _Person(self, who)

    def close(self) -> None:
        """Stop listening to facts. Those who watch hear no more."""
        if self._recent is not None:
            self._recent.leave()

    async def list_messages(self, selection: Selection, after: MessageId | None, limit: int) -> MessagePage:
        page = await self._spool.list(checked(selection), after=after, limit=max(1, min(limit, PAGE_MAX)))
        return page_of([message_row(one) for one in page.messages], page.after)

    async def show(self, message: MessageId) -> MessageRow:
        found = await self._spool.show(message)
        if found is None:
            raise NotThere(f"{format_id(message)} is not in the queue. {_LOOK}")
        return message_row(found)

    async def stats(self, limit: int) -> QueueStats:
        totals = self._spool.stats()
        rows = self._spool.domain_stats(max(1, min(limit, DOMAINS_MAX)))
        return QueueStats(
            at=self._clock.now(),
            messages=totals.messages,
            recipients=totals.recipients,
            held=totals.held,
            reports=totals.reports,
            octets=totals.octets,
            oldest_at=totals.oldest_at,
            accepting=totals.accepting,
            trouble="; ".join(filter(None, (totals.trouble, uncounted(self._adopting.missing())))),
            destinations=await self._destination_rows(rows),
        )

    async def flush(self, selection: Selection, who: str, *, dry_run: bool = False) -> Changed:
        """Make deliveries due now."""
        return await self._steer(
            Change.FLUSH,
            selection,
            who,
            dry_run,
            lambda meant: self._spool.flush(meant, self._clock.now(), dry_run=dry_run),
        )

    async def hold(self, selection: Selection, who: str, *, dry_run: bool = False) -> Changed:
        """Keep deliveries until they are released."""
        told = self._teller(Change.HOLD, who)
        return await self._steer(
            Change.HOLD, selection, who, dry_run, lambda meant: self._spool.hold(meant, dry_run=dry_run, told=told)
        )

    async def release(self, selection: Selection, who: str, *, dry_run: bool = False) -> Changed:
        """Make held deliveries due now."""
        told = self._teller(Change.RELEASE, who)
        return await self._steer(
            Change.RELEASE,
            selection,
            who,
            dry_run,
            lambda meant: self._spool.release(meant, self._clock.now(), dry_run=dry_run, told=told),
        )

    async def delete(self, selection: Selection, who: str, *, dry_run: bool = False) -> Changed:
        """End deliveries without a report: a drop by a person, whom the spool's drop row names."""
        told = self._teller(Change.DELETE, who)
        return await self._steer(
            Change.DELETE,
            selection,
            who,
            dry_run,
            lambda meant: self._spool.drop(meant, delete_rule(who), dry_run=dry_run, told=told),
        )

    async def bounce(self, selection: Selection, who: str, *, dry_run: bool = False) -> Changed:
        """End deliveries as failed: their senders get a report."""
        outcome = Failed(reply.RETURNED_BY_HAND, stage=Stage.ROUTE)
        told = self._teller(Change.BOUNCE, who)
        return await self._steer(
            Change.BOUNCE,
            selection,
            who,
            dry_run,
            lambda meant: self._spool.bounce(meant, outcome, dry_run=dry_run, told=told),
        )

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        """Yield the recent facts of the message, then those that come, as Steering.watch says."""
        if self._recent is None:
            raise ControlRefused("No relay runs, so nothing happens to the message. Start one: postroad serve")
        watcher = self._recent.watcher(
            message, everything=everything
        )  # before the queue is asked: nothing may happen in between unheard
        try:
            left = None if message is None else await self._left(self._recent, watcher, message)
            async for fact in follow(watcher, left):
                yield fact
        finally:
            watcher.close()

    async def _left(self, recent: Recent, watcher: Watcher, message: MessageId) -> set[int]:
        """Return the numbers of those recipients of the message that have not ended."""
        queued = await self._spool.show(message)
        await recent.catch_up()  # what has left the queue has left a fact, perhaps just now
        if queued is None and not watcher.has_more:
            raise NotThere(f"{format_id(message)} is not in the queue, and nothing of it is remembered. {_LOOK}")
        deliveries = queued.deliveries if queued else ()
        return {delivery.number for delivery in deliveries if delivery.state in _UNENDED}

    async def health(self) -> Health:
        totals = self._spool.stats()
        about = self._about
        return Health(
            version=about.version,
            pid=about.pid,
            started_at=about.started_at,
            at=self._clock.now(),
            listeners=about.listeners,
            accepting=totals.accepting,
            trouble=totals.trouble,
            messages=totals.messages,
            recipients=totals.recipients,
        )

    def counters(self) -> tuple[Counter, ...]:
        return tuple(self._counters())

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        return tuple(map(drop_row, await self._spool.drops_of(message)))

    async def _steer(
        self,
        change: Change,
        selection: Selection,
        who: str,
        dry_run: bool,
        act: Callable[[Selection], Awaitable[Changed]],
    ) -> Changed:
        """Change what is here, after waiting a while for what is on its way, a dry run too; say what has not come."""
        meant = checked(selection)
        await self._adopting.wait(PATIENCE)
        missing = self._adopting.missing()  # before the change: what comes in the middle of it may be passed over
        changed = await act(meant)
        if missing:
            changed = msgspec.structs.replace(changed, unreached=missing)
        if dry_run:
            return changed
        if changed.recipients:
            self._outlet.emit(
                Steered(
                    at=self._clock.now(),
                    who=who,
                    verb=change.value,
                    recipients=changed.recipients,
                    selection=format_selection(meant),
                )
            )
        self._destinations.wake()
        return changed

    def _teller(self, change: Change, who: str) -> Told:
        """Return what tells of each recipient that is changed, slice by slice."""

        def told(changed: Sequence[QueuedMessage]) -> None:
            now = self._clock.now()
            for message in changed:
                for fact in facts_of(change, who, message, now):
                    self._outlet.emit(fact)

        return told

    async def _destination_rows(self, stats: Sequence[DomainStats]) -> tuple[DestinationRow, ...]:
        """Add to the counts what the scheduler knows, and a look at the oldest message of each, while there is time."""
        oldest: dict[str, QueuedMessage] = {}
        with suppress(TimeoutError):
            async with asyncio.timeout(OLDEST_SECONDS):
                oldest = await self._spool.oldest([row.domain for row in stats])
        return tuple(
            destination_row(row, oldest.get(row.domain), self._destinations.describe(row.domain)) for row in stats
        )


class _Person:
    """The face of one person: Steering with the name filled in."""

    def __init__(self, control: Control, who: str) -> None:
        self._control = control
        self._who = who

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        return await self._control.list_messages(selection, after, limit)

    async def show(self, message: MessageId) -> MessageRow:
        return await self._control.show(message)

    async def stats(self, limit: int) -> QueueStats:
        return await self._control.stats(limit)

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        acts = {
            Change.FLUSH: self._control.flush,
            Change.HOLD: self._control.hold,
            Change.RELEASE: self._control.release,
            Change.DELETE: self._control.delete,
            Change.BOUNCE: self._control.bounce,
        }
        return await acts[change](selection, self._who, dry_run=dry_run)

    def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        return self._control.watch(message, everything=everything)

    async def health(self) -> Health:
        return await self._control.health()

    async def own_counters(self) -> tuple[Counter, ...]:
        return self._control.counters()

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        return await self._control.drops(message)


_UNENDED: Final = (DeliveryState.DUE, DeliveryState.HELD)
_LOOK: Final = "It was delivered, returned or deleted, or never was here: the log has its story."


def checked(selection: Selection) -> Selection:
    """Return the selection with its domain in normal form.

    Raises:
        ControlRefused: a condition cannot be understood; the text says what would be right.
    """
    if len(selection.ids) > IDS_MAX:
        raise ControlRefused(f"{len(selection.ids)} ids are too many at once: name at most {IDS_MAX}.", 2)
    if selection.state and selection.state not in STATES:
        raise ControlRefused(f'"{selection.state}" is not a state. There are {", ".join(STATES)}.', 2)
    for pattern in (selection.to, selection.sender):
        try:
            parse_pattern(pattern or "*")
        except ValueError as error:
            raise ControlRefused(str(error), 2) from error
    if not selection.domain:
        return selection
    try:
        return msgspec.structs.replace(selection, domain=to_ascii(parse_domain(selection.domain.removesuffix("."))))
    except AddressError as error:
        text = f'"{selection.domain}" is not a domain. Write one such as "example.org".'
        raise ControlRefused(text, 2) from error


def format_selection(selection: Selection) -> str:
    """Return what was meant, in a line: ``domain=example.org state=held``, ``all``."""
    parts = [format_id(message) for message in selection.ids[:10]]
    if len(selection.ids) > len(parts):
        parts.append(f"and {len(selection.ids) - len(parts)} more")
    named = (
        ("to", selection.to),
        ("from", selection.sender),
        ("domain", selection.domain),
        ("state", selection.state),
    )
    parts += [f"{name}={value}" for name, value in named if value]
    return " ".join(parts)[:SELECTION_SHOWN_MAX] or "all"
