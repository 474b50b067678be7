"""How much of a rate has been used: tokens in a span that slides. Pure arithmetic.

Owns: one meter. Does not own: keys, time (an argument).

In no span of ``rate.seconds`` are more than ``rate.count`` tokens given, and all of them may be given at once: what a
person means by "600/min". A token bucket would give nearly twice that in its first minute. Tokens are counted in
SLOTS slots, and a slot counts until all of it has passed, so a rate that is always used up yields a twentieth less.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from postroad.core.faces import Rate

SLOTS: Final = 20


class Meter:
    """Counts what one key has used."""

    __slots__ = ("_slots", "_used", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._slots: deque[tuple[int, int]] = deque()  # number of the slot, tokens given in it; oldest first
        self._used = 0

    def take(self, rate: Rate, tokens: int, now: float) -> float:
        """Take ``tokens`` and return 0.0, or take none and return after how many seconds there may be enough.

        More tokens than ``rate.count`` are given when nothing else is used.
        """
        width = self.seconds / SLOTS
        number = math.floor(now / width)
        self._forget(number)
        if not self._used or self._used + tokens <= rate.count:
            if self._slots and self._slots[-1][0] >= number:
                number, before = self._slots.pop()
                tokens_in_slot = before + tokens
            else:
                tokens_in_slot = tokens
            self._slots.append((number, tokens_in_slot))
            self._used += tokens
            return 0.0
        return self._wait(self._used + tokens - rate.count, now, width)

    def is_idle(self, now: float) -> bool:
        """True if nothing that was given counts any more."""
        return not self._slots or self._slots[-1][0] + SLOTS < math.floor(now / (self.seconds / SLOTS))

    def _forget(self, number: int) -> None:
        while self._slots and self._slots[0][0] + SLOTS < number:
            self._used -= self._slots.popleft()[1]

    def _wait(self, excess: float, now: float, width: float) -> float:
        """Return the seconds until ``excess`` tokens no longer count, or all do not."""
        last = now
        for number, tokens in self._slots:
            excess -= tokens
            last = (number + SLOTS + 1) * width
            if excess <= 0:
                break
        return max(last - now, 0.001)
