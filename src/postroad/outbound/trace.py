"""The story of a message or an address, of all processes: what is stored, what the spool says besides, what comes.

Owns: putting stored facts, durable drop rows and live facts together, without a gap and nothing twice. Does not own:
reading what is stored (observe/stories.py), watching (fleet.py), how a story looks (cli).

Following: the live facts are listened to first, then what is stored is read. A fact is written to disk up to a second
after it happened, so what happened around the beginning is read once more a little later.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final, Protocol

import msgspec

from postroad.core.faces import Clock
from postroad.core.facts import AnyFact, Bounced, Deferred, Delivered, Dropped, Expired, Incomplete, Received
from postroad.core.ids import MessageId, parse_id
from postroad.core.reply import Reply
from postroad.observe.packing import address_key, addresses_of
from postroad.observe.stories import MESSAGES_MAX, Skipped
from postroad.outbound.steering import ControlRefused, DropRow, NotThere, Steering

STORED_AFTER: Final = 2.0
"""Seconds after which a fact is stored, with something to spare (observe writes them each second)."""
OVERLAP: Final = 5.0
"""Seconds before the beginning that are read once more."""
SEEN_MAX: Final = 20_000
"""Facts remembered so as not to be told twice; all of them are of the seconds around the beginning."""
WAITING_MAX: Final = 4_096
"""Live facts that wait while what is stored is read and told."""
ADDRESS_MAX: Final = 1_000
"""Characters of an address that are looked for: also those of addresses that we refused."""
FOLLOWED_MAX: Final = 10_000
"""Messages of one address whose facts are told on."""
LIMIT_MAX: Final = 10_000
"""Messages of one address that may be asked for."""
SEGMENTS_NAMED: Final = 3
DROP_MISSING_AFTER: Final = 60.0
"""Seconds by which a story has gone on past a drop row when the fact of it is taken as lost."""

_REPLY: Final = re.compile(r"(\d{3}) (?:\d\.(\d{1,3})\.(\d{1,3}) )?(.*)", re.DOTALL)


class Stories(Protocol):
    """Reads what is stored: observe/stories.py with its directory and threads filled in."""

    def __call__(
        self,
        wanted: MessageId | str,
        *,
        since: float | None = None,
        limit: int = MESSAGES_MAX,
        skipped: Skipped | None = None,
    ) -> AsyncIterator[AnyFact]:
        """Yield stored facts about a message or an address, in the order of time; from ``since`` on, if given.

        ``limit``: of an address, how many messages, the newest. ``skipped`` is told what is left out.
        """


class About:
    """Which facts are meant: those of one message, of an address and its messages, or all."""

    def __init__(self, wanted: MessageId | str) -> None:
        self._address = address_key(wanted) if isinstance(wanted, str) and wanted else ""
        self._messages: set[int] = set() if isinstance(wanted, str) else {wanted}
        self._is_all = wanted == ""

    def learn(self, fact: AnyFact) -> None:
        """Hear that a fact is about what is meant: so is its message."""
        message = getattr(fact, "message", None)
        if self._address and message is not None and len(self._messages) < FOLLOWED_MAX:
            self._messages.add(message)

    def means(self, fact: AnyFact) -> bool:
        if self._is_all:
            return True
        if {getattr(fact, "message", None), getattr(fact, "report", None)} & self._messages:
            return True
        return bool(self._address) and any(address_key(one) == self._address for one in addresses_of(fact) if one)


class Tracing:
    """Tells stories."""

    def __init__(self, fleet: Steering, stories: Stories, clock: Clock) -> None:
        self._fleet = fleet
        self._stories = stories
        self._clock = clock
        self._limit = MESSAGES_MAX

    async def trace(self, text: str, *, follow: bool, limit: int = MESSAGES_MAX) -> AsyncGenerator[AnyFact, None]:
        """Yield what RelaySteering.trace says."""
        wanted = parse_wanted(text)
        if wanted == "" and not follow:
            raise ControlRefused("Name a message by its id, or an address; or follow everything that happens.", 2)
        self._limit = max(1, min(limit, LIMIT_MAX))
        source = self._follow(wanted) if follow else self._stored(wanted)
        async with aclosing(source) as told:
            async for fact in told:
                yield fact

    async def _stored(self, wanted: MessageId | str) -> AsyncGenerator[AnyFact, None]:
        """Yield what is stored, with the drops that only the spool knows. Raises NotThere for an unknown message."""
        unended = {wanted} if not isinstance(wanted, str) else await self._unended(wanted)
        missing = {(drop[0], drop[1].number): drop for message in unended for drop in await self._drops(message)}
        told, skipped = False, Skipped()
        async with _closing(self._stories(wanted, limit=self._limit, skipped=skipped)) as stored:
            async for fact in stored:
                told = True
                if isinstance(fact, Dropped):
                    missing.pop((fact.message, fact.number), None)
                for lost in _lost(missing, fact.at):
                    yield lost
                yield fact
        for lost in _lost(missing, float("inf")):
            told = True
            yield lost
        for why in _lacks(skipped, self._limit):
            told = True
            yield Incomplete(at=self._clock.now(), why=why)
        if not told and not isinstance(wanted, str):
            await self._need_queued(wanted)

    async def _unended(self, address: str) -> set[MessageId]:
        """Return the messages of a story some of whose recipients have no end in it: the spool may know one."""
        waiting: dict[MessageId, set[int]] = {}
        async with _closing(self._stories(address, limit=self._limit)) as stored:
            async for fact in stored:
                if isinstance(fact, Received):
                    waiting.setdefault(fact.message, set()).update(range(len(fact.recipients)))
                elif isinstance(fact, Deferred):
                    waiting.setdefault(fact.message, set()).add(fact.number)
                elif isinstance(fact, Delivered | Bounced | Expired | Dropped) and fact.message in waiting:
                    waiting[fact.message].discard(fact.number)
        return {message for message, numbers in waiting.items() if numbers}

    async def _drops(self, message: MessageId) -> list[_Lost]:
        return [(message, drop) for drop in await self._fleet.drops(message)]

    async def _need_queued(self, message: MessageId) -> None:
        try:
            await self._fleet.show(message)
        except NotThere as error:
            text = (
                "Nothing is known of it: it is not in the queue, and no fact about it is stored (any more). "
                "A crash costs the facts of its last second."
            )
            raise NotThere(text) from error

    async def _follow(self, wanted: MessageId | str) -> AsyncGenerator[AnyFact, None]:
        about, seen, began = About(wanted), _Seen(), self._clock.now()
        live = _Live(self._fleet, about)
        try:
            if wanted != "":
                async with aclosing(self._before(wanted, about, seen, began)) as before:
                    async for fact in before:
                        yield fact
            async for fact in live.facts():
                if seen.is_new(fact):
                    yield fact
        finally:
            await live.close()

    async def _before(
        self, wanted: MessageId | str, about: About, seen: _Seen, began: float
    ) -> AsyncGenerator[AnyFact, None]:
        """Yield what is stored, then what was stored a little later. All of it is remembered as told."""
        try:
            async with aclosing(self._stored(wanted)) as stored:
                async for fact in stored:
                    about.learn(fact)
                    if fact.at >= began - OVERLAP:
                        seen.is_new(fact)
                    yield fact
        except NotThere:
            pass  # it may have come in this moment: its first fact is not stored yet
        await asyncio.sleep(STORED_AFTER)
        async with _closing(self._stories(wanted, since=began - OVERLAP)) as late:
            async for fact in late:
                about.learn(fact)
                if seen.is_new(fact):
                    yield fact


def _lacks(skipped: Skipped, limit: int) -> list[str]:
    """Return a sentence for each thing that was left out of a story."""
    said = []
    if skipped.messages_left_out:
        said.append(f"These are the newest {limit} messages and refusals; there are more (--limit).")
    if skipped.segments:
        names = sorted(skipped.segments)
        more = f" and {len(names) - SEGMENTS_NAMED} more" if len(names) > SEGMENTS_NAMED else ""
        said.append(f"Facts are missing here: {', '.join(names[:SEGMENTS_NAMED])}{more} cannot be read.")
    if skipped.facts:
        said.append(f"{skipped.facts} facts are of kinds that this version does not know.")
    return said


class _Seen:
    """Remembers the last facts that were told."""

    def __init__(self) -> None:
        self._facts: set[bytes] = set()
        self._order: deque[bytes] = deque()

    def is_new(self, fact: AnyFact) -> bool:
        """True the first time."""
        key = msgspec.msgpack.encode(fact)
        if key in self._facts:
            return False
        self._facts.add(key)
        self._order.append(key)
        if len(self._order) > SEEN_MAX:
            self._facts.discard(self._order.popleft())
        return True


class _Live:
    """Listens from the moment it is made, while its owner still reads what was."""

    def __init__(self, fleet: Steering, about: About) -> None:
        self._waiting: deque[AnyFact] = deque()
        self._arrived = asyncio.Event()
        self._is_behind = False
        self._task = asyncio.create_task(self._listen(fleet, about))

    async def _listen(self, fleet: Steering, about: About) -> None:
        try:
            async with aclosing(fleet.watch(None, everything=True)) as facts:
                async for fact in facts:
                    if not about.means(fact):
                        continue
                    about.learn(fact)
                    if len(self._waiting) >= WAITING_MAX:
                        self._is_behind = True
                        return
                    self._waiting.append(fact)
                    self._arrived.set()
        finally:
            self._arrived.set()

    async def facts(self) -> AsyncGenerator[AnyFact, None]:
        """Yield what was heard, then what comes."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._is_behind:
                raise ControlRefused("You listen too slowly: what happened in between was not kept for you.")
            if self._task.done():
                await self._task  # raises why it ended
                return
            self._arrived.clear()
            await self._arrived.wait()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


@asynccontextmanager
async def _closing(facts: AsyncIterator[AnyFact]) -> AsyncIterator[AsyncIterator[AnyFact]]:
    """Close what reads files as soon as nobody asks for more, where it can be closed."""
    try:
        yield facts
    finally:
        if isinstance(facts, AsyncGenerator):
            await facts.aclose()


def parse_wanted(text: str) -> MessageId | str:
    """Return what a trace is about: an id, an address as it is written, or "" for everything.

    Raises:
        ControlRefused: neither.
    """
    if not text:
        return ""
    if "@" in text or text.lower() == "postmaster":
        return text.removeprefix("<").removesuffix(">")[:ADDRESS_MAX]
    try:
        return MessageId(parse_id(text))
    except ValueError:
        raise ControlRefused(f'"{text[:60]}" is neither the id of a message nor an address.', 2) from None


_Lost = tuple[MessageId, DropRow]


def _lost(missing: dict[tuple[MessageId, int], _Lost], now: float) -> list[Dropped]:
    """Take out and return the drops that a story at ``now`` has gone past, the oldest first."""
    past = sorted(
        (lost for lost in missing.values() if lost[1].at + DROP_MISSING_AFTER < now), key=lambda lost: lost[1].at
    )
    for message, drop in past:
        del missing[message, drop.number]
    return [_drop_fact(message, drop) for message, drop in past]


def _drop_fact(message: MessageId, drop: DropRow) -> Dropped:
    return Dropped(
        at=drop.at,
        message=message,
        number=drop.number,
        recipient=drop.recipient,
        rule=drop.rule,
        reply=_parse_reply(drop.reply),
    )


def _parse_reply(text: str) -> Reply | None:
    """Return the reply that a row shows; None for none."""
    if (match := _REPLY.fullmatch(text)) is None:
        return None
    detail = None if match[2] is None else (int(match[2]), int(match[3]))
    return Reply(int(match[1]), detail, match[4].replace(" / ", "\n"))
