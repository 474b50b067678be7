"""Takes facts and hands them on in batches: the Outlet face.

Owns: when facts are handed on, and to whom. Does not own: what becomes of them (each subscriber: the log, metrics,
stored facts). ``emit`` is on the hot path: it appends to a list, and one timer serves a whole batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol, runtime_checkable

from postroad.core.faces import Outlet
from postroad.core.facts import AnyFact

FLUSH_AFTER: Final = 0.02
"""Seconds that a fact waits for others at most."""
BATCH_MAX: Final = 1000
"""Facts after which a batch does not wait."""


class Subscriber(Protocol):
    """Somebody who looks at facts. Never blocks the event loop."""

    def take(self, facts: Sequence[AnyFact]) -> None:
        """Take facts, in the order in which they happened."""

    async def close(self) -> None:
        """No more come: finish what is under way, within a second or two. Never raises."""


@runtime_checkable
class TellingSubscriber(Protocol):
    """A subscriber that has facts of its own to tell: how storing goes."""

    def attach(self, outlet: Outlet) -> None:
        """Emit them there."""


class FactOutlet:
    """The Outlet of a process. All calls from the loop's thread."""

    def __init__(self, *subscribers: Subscriber) -> None:
        self._loop = asyncio.get_running_loop()
        self._subscribers: list[Subscriber] = []
        self._facts: list[AnyFact] = []
        self._timer: asyncio.TimerHandle | None = None
        for subscriber in subscribers:
            self.subscribe(subscriber)

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Add a subscriber from the next batch on; returns what takes it away again."""
        self._subscribers.append(subscriber)
        if isinstance(subscriber, TellingSubscriber):
            subscriber.attach(self)
        return lambda: self._subscribers.remove(subscriber)

    def emit(self, fact: AnyFact) -> None:
        self._facts.append(fact)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_AFTER, self.flush)
        elif len(self._facts) >= BATCH_MAX:
            self.flush()

    def flush(self) -> None:
        """Hand on now what has come."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        facts, self._facts = self._facts, []
        for subscriber in self._subscribers if facts else ():
            # Each in a call of its own: one that breaks is reported by the loop, and the others get theirs.
            self._loop.call_soon(subscriber.take, facts)

    async def close(self) -> None:
        """Hand on the last facts and wait for all subscribers. Facts emitted later go nowhere."""
        self.flush()
        await asyncio.sleep(0)  # the calls above come first
        subscribers, self._subscribers = self._subscribers, []
        for subscriber in subscribers:
            await subscriber.close()
