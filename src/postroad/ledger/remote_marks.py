"""The Marks face over processes: asks the ledger, and goes by what this process knows while that is away.

Owns: this process's own copy of what it has marked, which a ledger that comes back is told. Does not own: the book of
all (marks.py, in the ledger).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from postroad.core.units import SECOND
from postroad.ledger import wire
from postroad.ledger.link import Link
from postroad.ledger.marks import LocalMarks

ANSWER_MAX: Final = 1 * SECOND
"""Seconds that anybody waits for an answer, and for the ledger to be back."""


class RemoteMarks:
    """Marks by way of the ledger. Passes tests/contracts/test_marks.py."""

    def __init__(self, link: Link, time: Callable[[], float]) -> None:
        self._link = link
        self._own = LocalMarks(time)

    async def count(self, key: str, seconds: float, add: int = 1) -> int:
        here = self._own.count_now(key, seconds, add)
        answer = await self._ask(lambda number: wire.Count(number, key, seconds, add))
        return here if answer is None else int(answer)

    async def mark(self, key: str, seconds: float) -> None:
        self._own.mark_now(key, seconds)
        await self._ask(lambda number: wire.Mark(number, key, seconds))

    async def marked(self, key: str) -> float:
        answer = await self._ask(lambda number: wire.Marked(number, key))
        return self._own.marked_now(key) if answer is None else answer

    async def claim(self, key: str, seconds: float) -> bool:
        answer = await self._ask(lambda number: wire.Claim(number, key, seconds))
        if answer is None:
            return self._own.claim_now(key, seconds)
        if answer:
            self._own.mark_now(key, seconds)
        return bool(answer)

    def announce(self) -> None:
        """Tell a ledger that has come what this process has marked: it may be a new one that knows nothing."""
        for key, left in self._own.marks():
            self._link.say(wire.Claim(0, key, left))  # not over what somebody else has marked since

    async def _ask(self, make: Callable[[int], wire.Question]) -> float | None:
        """Return the answer, or None if the ledger is away and stays away."""
        await self._link.wait_there(ANSWER_MAX - self._link.away_for)
        answer = await self._link.ask(make, ANSWER_MAX)
        return answer.value if isinstance(answer, wire.Done) else None
