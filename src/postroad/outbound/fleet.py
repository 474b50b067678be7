"""Several queues as one: the workers of a relay, or the shards that nobody runs, behind the face of one queue.

Owns: asking all at once, with bounded waits; putting their answers together (merge.py has the arithmetic); saying which
one did not answer. Does not own: what each does (control.py, or http/control_client.py over a socket), watching
(fleet_watch.py).

One that is away must not take the others with it: it is named in what has a place for that (the trouble of stats and
health); elsewhere the answer is refused with its name. A message that two hold for the moment of a transfer is one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import msgspec

from postroad.core.facts import AnyFact
from postroad.core.ids import MessageId, format_id
from postroad.outbound.fleet_watch import Watched, watch_all
from postroad.outbound.merge import (
    merge_changed,
    merge_counters,
    merge_drops,
    merge_healths,
    merge_pages,
    merge_stats,
    stats_limit,
)
from postroad.outbound.relay import WorkerCounter
from postroad.outbound.steering import (
    PAGE_MAX,
    WHAT_IS_UNSURE,
    Change,
    ControlRefused,
    Counter,
    DropRow,
    Health,
    MessagePage,
    MessageRow,
    NotThere,
    QueueStats,
    Steering,
    Unanswered,
)
from postroad.spool.errors import StoreTrouble
from postroad.spool.face import Changed, Selection, SpoolRefused

QUICK_TIMEOUT: Final = 3.0
"""Seconds for what a part answers from memory, or with one look into its database."""
STATS_TIMEOUT: Final = 5.0
"""Seconds for the counts: a part looks for the oldest mail of each domain for 2 s (control.py)."""

SILENCE_KEPT: Final = 10.0
"""Seconds for which a part that did not answer in time is not asked again where nobody wants to wait."""

T = TypeVar("T")
Call = Callable[[Steering], Awaitable[T]]


class Answers(msgspec.Struct, Generic[T]):
    """What all parts said."""

    given: dict[str, T]
    refused: dict[str, ControlRefused]
    """Those that did not do it, with the reason."""


class Silent(Unanswered):
    """A part accepts questions and does not answer in time: it hangs."""


class Silences:
    """Which parts hung lately. One for all the fleets of a process, so that each finds it out only once."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def note(self, name: str, said: object) -> None:
        """Remember whether a part has answered."""
        if isinstance(said, Silent):
            self._until.setdefault(name, asyncio.get_running_loop().time() + SILENCE_KEPT)
        elif not isinstance(said, Unanswered):
            self._until.pop(name, None)

    def is_silent(self, name: str) -> bool:
        if self._until.get(name, 0.0) > asyncio.get_running_loop().time():
            return True
        self._until.pop(name, None)
        return False


class Fleet:
    """``Steering`` over any number of parts, by name. Every call asks all parts at once."""

    def __init__(
        self,
        parts: Mapping[str, Steering],
        *,
        kind: str = "worker",
        here: Watched | None = None,
        silences: Silences | None = None,
    ) -> None:
        """``kind`` and a part's name are what sentences say: ``worker 1``; ``here``: what happens outside them."""
        self._parts = dict(parts)
        self._kind = kind
        self._here = here
        self._silences = silences or Silences()

    async def list_messages(self, selection: Selection, *, after: MessageId | None, limit: int) -> MessagePage:
        size = max(1, min(limit, PAGE_MAX))
        share = -(-size // max(1, len(self._parts)))  # what no part shows is read for nothing: a page may be short
        answers = await self._ask(lambda part: part.list_messages(selection, after=after, limit=share), None)
        self._need_all(answers)
        return merge_pages(list(answers.given.values()), size)

    async def show(self, message: MessageId) -> MessageRow:
        answers = await self._ask(lambda part: part.show(message), QUICK_TIMEOUT)
        for row in answers.given.values():
            return row
        self._need_known(answers)
        raise NotThere(f"{format_id(message)} is not in the queue.")  # a fleet of none

    async def stats(self, limit: int) -> QueueStats:
        asked = stats_limit(limit)
        answers = await self._ask(lambda part: part.stats(asked), STATS_TIMEOUT)
        self._need_one(answers)
        return merge_stats(answers.given, self._away(answers), limit, self.named)

    async def change(self, change: Change, selection: Selection, *, dry_run: bool = False) -> Changed:
        answers = await self._ask(lambda part: part.change(change, selection, dry_run=dry_run), None)
        changed = merge_changed(list(answers.given.values()))
        if selection.ids and changed.messages == len(set(selection.ids)):
            # By name, and all are found: who did not answer has none of them, nor what is not yet moved to a worker.
            return msgspec.structs.replace(changed, unreached=())
        if not answers.refused:
            return changed
        try:
            self._need_all(answers)
        except Unanswered as error:
            if dry_run or not changed.recipients:
                raise
            done = f"The others did it, for {changed.recipients} recipients of {changed.messages} messages."
            raise Unanswered(f"{error.text} {done} Try again for the rest.") from error
        return changed

    async def watch(self, message: MessageId | None, *, everything: bool = False) -> AsyncGenerator[AnyFact, None]:
        parts: dict[str, Watched] = {**self._parts}
        if self._here is not None and everything and message is None:
            parts["here"] = self._here
        async for fact in watch_all(parts, message, everything=everything):
            yield fact

    async def health(self) -> Health:
        answers = await self._ask(lambda part: part.health(), QUICK_TIMEOUT)
        self._need_one(answers)
        return merge_healths(answers.given, self._away(answers), self.named)

    async def own_counters(self) -> tuple[Counter, ...]:
        answers = await self._ask(lambda part: part.own_counters(), QUICK_TIMEOUT)
        self._need_one(answers)
        return merge_counters(list(answers.given.values()))

    async def drops(self, message: MessageId) -> tuple[DropRow, ...]:
        answers = await self._ask(lambda part: part.drops(message), QUICK_TIMEOUT)
        if not any(answers.given.values()):  # a message's rows are where it last was: who has them is enough
            self._need_all(answers)
        return merge_drops(list(answers.given.values()))

    # --- of each ---

    async def worker_counters(self) -> tuple[WorkerCounter, ...]:
        """Return the counters of every part that answers, by its name."""
        answers = await self._ask(lambda part: part.own_counters(), QUICK_TIMEOUT)
        return tuple(
            WorkerCounter(worker=name, counter=counter)
            for name, counters in answers.given.items()
            for counter in counters
        )

    async def healths(self) -> tuple[Mapping[str, Health], tuple[str, ...]]:
        """Return the health of each part that answers, and a sentence for each that does not."""
        answers = await self._ask(lambda part: part.health(), QUICK_TIMEOUT)
        return answers.given, self._away(answers)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._parts)

    # --- asking ---

    async def _ask(self, call: Call[T], seconds: float | None) -> Answers[T]:
        """Ask all parts at once. None: each part's own bound, the silence after which it is given up."""
        said = await asyncio.gather(*(self._said(name, call, part, seconds) for name, part in self._parts.items()))
        answers: Answers[T] = Answers({}, {})
        for name, one in zip(self._parts, said, strict=True):
            if isinstance(one, ControlRefused):
                answers.refused[name] = one
            else:
                answers.given[name] = one
        for refused in answers.refused.values():
            if refused.status == 2:  # what was asked is wrong: all say so
                raise refused
        return answers

    async def _said(self, name: str, call: Call[T], part: Steering, seconds: float | None) -> T | ControlRefused:
        if seconds is not None and self._silences.is_silent(name):
            return Silent("It does not answer. Try again.")
        said = await _said(call, part, seconds)
        self._silences.note(name, said)
        return said

    def named(self, name: str) -> str:
        """Return what sentences call a part: ``worker 1``."""
        return f"{self._kind} {name}".strip()

    def _away(self, answers: Answers[T]) -> tuple[str, ...]:
        """Return a sentence for each part that did not do it."""
        return tuple(
            f"{self.named(name)} does not answer; its mail is not counted"
            if isinstance(refused, Silent)
            else f"{self.named(name)}: {refused.text}"
            for name, refused in answers.refused.items()
        )

    def _reasons(self, answers: Answers[T]) -> tuple[str, ...]:
        """Return a sentence for each part without which the question has no answer."""
        return tuple(f"{self.named(name)}: {refused.text}" for name, refused in answers.refused.items())

    def _need_all(self, answers: Answers[T]) -> None:
        if answers.refused:
            raise _joined(list(answers.refused.values()), self._reasons(answers))

    def _need_one(self, answers: Answers[T]) -> None:
        if not answers.given:
            self._need_all(answers)

    def _need_known(self, answers: Answers[T]) -> None:
        """Raise NotThere if all say that they do not have it; else name those that did not answer."""
        unknown = {name: one for name, one in answers.refused.items() if not isinstance(one, NotThere)}
        self._need_all(Answers(answers.given, unknown))
        for refused in answers.refused.values():
            raise refused


def _joined(refused: Sequence[ControlRefused], sentences: Sequence[str]) -> ControlRefused:
    """Return one refusal for several: what all say in the same words, else the names with their reasons."""
    if len(refused) > 1 and len({one.text for one in refused}) == 1:
        return refused[0]
    return Unanswered(" ".join(sentences))


async def _said(call: Call[T], part: Steering, seconds: float | None) -> T | ControlRefused:
    try:
        async with asyncio.timeout(seconds):
            return await call(part)
    except ControlRefused as refused:
        return refused
    except TimeoutError:
        return Silent(f"It has not answered for {seconds:.0f} seconds. Try again.")
    except (SpoolRefused, StoreTrouble) as error:
        return ControlRefused(f"The {error}. {WHAT_IS_UNSURE}")
