"""The Marks face within one process, which is also the ledger's own book of them.

Owns: counts and marks by key, and that there are never too many. Does not own: what they mean (failed logins, bans,
grants, first takers: whoever makes the key). Passes tests/contracts/test_marks.py, as ledger/remote_marks.py does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from postroad.ledger.meter import Meters

MARKS_MAX: Final = 100_000
"""Marks kept, about 250 octets each. Past it the one longest unused is forgotten."""


class LocalMarks:
    """Remembers for this process. ``time`` never goes back: the event loop's."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._counts = Meters()
        self._until: OrderedDict[str, float] = OrderedDict()  # longest unused first

    async def count(self, key: str, seconds: float, add: int = 1) -> int:
        return self.count_now(key, seconds, add)

    async def mark(self, key: str, seconds: float) -> None:
        self.mark_now(key, seconds)

    async def marked(self, key: str) -> float:
        return self.marked_now(key)

    async def claim(self, key: str, seconds: float) -> bool:
        return self.claim_now(key, seconds)

    # --- the same, for who may not wait ---

    def count_now(self, key: str, seconds: float, add: int) -> int:
        now = self._time()
        meter = self._counts.get(key, seconds, now)
        if add > 0:
            meter.charge(add, now)
        return meter.used(now)

    def mark_now(self, key: str, seconds: float) -> float:
        now = self._time()
        self._prune(now)
        if seconds > 0:
            self._until[key] = now + seconds
            self._until.move_to_end(key)
        else:
            self._until.pop(key, None)
        return seconds

    def marked_now(self, key: str) -> float:
        until = self._until.get(key)
        if until is None:
            return 0.0
        left = until - self._time()
        if left <= 0:
            del self._until[key]
            return 0.0
        self._until.move_to_end(key)
        return left

    def claim_now(self, key: str, seconds: float) -> bool:
        if self.marked_now(key):
            return False
        self.mark_now(key, seconds)
        return True

    def marks(self) -> list[tuple[str, float]]:
        """Return what is marked, and for how long still."""
        now = self._time()
        return [(key, until - now) for key, until in self._until.items() if until > now]

    def __len__(self) -> int:
        return len(self._until) + len(self._counts)

    def _prune(self, now: float) -> None:
        """Forget up to two marks that are over: twice as fast as new ones can come."""
        for _ in range(2):
            oldest = next(iter(self._until.items()), None)
            if oldest is None or not (oldest[1] <= now or len(self._until) > MARKS_MAX):
                return
            del self._until[oldest[0]]
