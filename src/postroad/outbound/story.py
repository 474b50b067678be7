"""What has lately happened to messages, and what happens now: for people who follow one.

Owns: the last facts in memory, and following a message from them into the present without a gap. Does not own: facts
that outlive the process (the log; the stored facts are another package's work), what a fact says (core/facts.py).

Memory is bounded twice: ``RECENT_MAX`` facts are remembered, and one who watches but does not listen loses his place
after ``BEHIND_MAX`` facts, so that he blocks nobody.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final, Protocol

from postroad.core.facts import (
    AnyFact,
    Attempted,
    Bounced,
    Deferred,
    Delivered,
    Dropped,
    Expired,
    Held,
    Received,
    Released,
    Reported,
)
from postroad.core.ids import MessageId
from postroad.observe.outlet import Subscriber
from postroad.outbound.steering import ControlRefused

RECENT_MAX: Final = 4096
"""Facts about messages that are remembered: some seconds of a busy relay, 2 MiB at most."""
BEHIND_MAX: Final = 4096
"""Facts that wait for one who watches."""

StoryFact = Received | Attempted | Delivered | Deferred | Bounced | Expired | Dropped | Reported | Held | Released
_STORY: Final = StoryFact.__args__
_ENDINGS: Final = (Delivered, Bounced, Expired, Dropped)


class FactStream(Protocol):
    """Facts as they are emitted, in batches: observe/outlet.py."""

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Hand facts to ``subscriber`` from now on; return what ends that."""

    def flush(self) -> None:
        """Hand on what has been emitted so far, before the loop does anything else."""


class Recent:
    """Remembers the last facts about messages, and passes new ones on. A subscriber of the outlet."""

    def __init__(self, facts: FactStream) -> None:
        self._facts: deque[StoryFact] = deque(maxlen=RECENT_MAX)
        self._watchers: set[Watcher] = set()
        self._stream = facts
        self._unsubscribe = facts.subscribe(self)
        self._is_closed = False

    def take(self, facts: Sequence[AnyFact]) -> None:
        """Remember facts, and tell those who watch."""
        told = [fact for fact in facts if isinstance(fact, _STORY)]
        self._facts += told
        for watcher in self._watchers:
            watcher.take(facts if watcher.everything else told)

    async def close(self) -> None:
        """Hear from the outlet that it hands on no more."""
        self._is_closed = True
        self._end()

    def leave(self) -> None:
        """Listen no more."""
        if not self._is_closed:
            self._is_closed = True
            self._unsubscribe()
        self._end()

    def _end(self) -> None:
        for watcher in self._watchers:
            watcher.end()

    async def catch_up(self) -> None:
        """Return when everything that has happened by now has been heard."""
        self._stream.flush()
        await asyncio.sleep(0)

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        """Yield what comes of a message, or of all, without end."""
        watcher = self.watcher(message, everything=everything)
        try:
            async for fact in follow(watcher, None):
                yield fact
        finally:
            watcher.close()

    def watcher(self, message: MessageId | None, *, everything: bool = False) -> Watcher:
        """Return one that has heard what is remembered of ``message`` and hears what comes; of all: what comes.

        ``everything``, where no message is named: also what is about no message.
        """
        remembered = [] if message is None else [fact for fact in self._facts if fact.message == message]
        watcher = Watcher(message, remembered, self._watchers.discard, everything=everything and message is None)
        self._watchers.add(watcher)
        return watcher


class Watcher:
    """One who watches. Leave it by ``close``, or it is fed until it is full."""

    def __init__(
        self,
        message: MessageId | None,
        remembered: Sequence[AnyFact],
        on_close: Callable[[Watcher], None],
        *,
        everything: bool = False,
    ) -> None:
        self.everything = everything
        self._message = message
        self._waiting: deque[AnyFact] = deque(remembered)
        self._arrived = asyncio.Event()
        self._on_close = on_close
        self._is_behind = False
        self._is_ended = False

    @property
    def has_more(self) -> bool:
        """True if something has been heard that was not asked for yet."""
        return bool(self._waiting)

    def take(self, facts: Sequence[AnyFact]) -> None:
        """Hear of what has happened."""
        heard = [fact for fact in facts if self._message is None or getattr(fact, "message", None) == self._message]
        if len(self._waiting) + len(heard) > BEHIND_MAX:
            self._is_behind = True
        else:
            self._waiting += heard
        self._arrived.set()

    def end(self) -> None:
        """Hear that nothing more will come."""
        self._is_ended = True
        self._arrived.set()

    def close(self) -> None:
        """Stop listening."""
        self._on_close(self)

    async def next_fact(self) -> AnyFact | None:
        """Return the next one; None when the stream has ended. Refuses one who fell behind."""
        while not self._waiting:
            if self._is_behind:
                raise ControlRefused("You listen too slowly: what happened in between was not kept for you.")
            if self._is_ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        return self._waiting.popleft()


async def follow(watcher: Watcher, left: set[int] | None) -> AsyncGenerator[AnyFact, None]:
    """Yield what the watcher hears until the recipients with the numbers in ``left`` have ended; None: without end."""
    while left is None or left or watcher.has_more:
        fact = await watcher.next_fact()
        if fact is None:
            return
        if left is not None and isinstance(fact, _ENDINGS):
            left.discard(fact.number)
        yield fact
