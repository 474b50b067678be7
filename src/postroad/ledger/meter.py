"""How much of a rate has been used: tokens in a span that slides. Pure arithmetic.

Owns: a meter, and meters by key, of which there are never too many. Does not own: keys, time (an argument).

In no span of ``rate.seconds`` are more than ``rate.count`` tokens given, and all of them may be given at once: what a
person means by "600/min". A token bucket would give nearly twice that in its first minute. Tokens are counted in
SLOTS slots, and a slot counts until all of it has passed, so a rate that is always used up yields a twentieth less.
Each charge is to somebody's share (``whom``); where there are no shares, to 0.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable
from typing import Final

from postroad.core.faces import Rate

SLOTS: Final = 20
KEYS_MAX: Final = 100_000
"""Meters kept, about 400 octets each. Past it the one longest unused is forgotten: its owner may begin anew, which is
better than memory that strangers with many addresses can fill."""


class Meter:
    """Counts what one key has used."""

    __slots__ = ("_entries", "_used", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._entries: deque[tuple[int, int, int]] = deque()  # number of the slot, whom, tokens; oldest first
        self._used = 0

    def take(self, rate: Rate, tokens: int, now: float) -> float:
        """Take ``tokens`` and return 0.0, or take none and return after how many seconds there may be enough.

        More tokens than ``rate.count`` are given when nothing else is used.
        """
        wait = self.wait(rate.count, tokens, now)
        if not wait:
            self.charge(tokens, now)
        return wait

    def wait(self, most: float, tokens: int, now: float) -> float:
        """Return 0.0 if ``tokens`` can be taken, or after how many seconds there may be enough. Takes none."""
        used = self.used(now)
        if not used or used + tokens <= most:
            return 0.0
        excess, last, width = used + tokens - most, now, self.seconds / SLOTS
        for number, _, given in self._entries:
            excess -= given
            last = (number + SLOTS + 1) * width
            if excess <= 0:
                break
        return max(last - now, 0.001)

    def used(self, now: float) -> int:
        """Return how many tokens count at ``now``."""
        number = self._number(now)
        while self._entries and self._entries[0][0] + SLOTS < number:
            self._used -= self._entries.popleft()[2]
        return self._used

    def used_by(self, whom: int) -> int:
        """Return how many of those that counted when ``used`` was last asked are charged to ``whom``."""
        return sum(tokens for _, charged, tokens in self._entries if charged == whom)

    def charge(self, tokens: int, at: float, whom: int = 0) -> int:
        """Count ``tokens``, whether there are as many or not. Returns the number of the slot, for ``refund``."""
        number = self._number(at)
        entries = self._entries
        self._used += tokens
        if entries and entries[-1][0] >= number:  # never before what was counted already: it counts longer, not less
            number = entries[-1][0]
            for place in range(len(entries) - 1, -1, -1):
                if entries[place][0] != number:
                    break
                if entries[place][1] == whom:
                    entries[place] = (number, whom, entries[place][2] + tokens)
                    return number
        entries.append((number, whom, tokens))
        return number

    def refund(self, number: int, tokens: int, whom: int = 0) -> None:
        """Take back up to ``tokens`` of what was charged to ``whom`` in that slot."""
        for place in range(len(self._entries) - 1, -1, -1):
            found, charged, given = self._entries[place]
            if found < number:
                return
            if found == number and charged == whom:
                returned = min(given, tokens)
                self._used -= returned
                if returned < given:
                    self._entries[place] = (number, whom, given - returned)
                else:
                    del self._entries[place]
                return

    def entries(self, whom: int = 0) -> list[tuple[int, int]]:
        """Return what is charged to ``whom``: number of the slot and tokens, oldest first."""
        return [(number, tokens) for number, charged, tokens in self._entries if charged == whom]

    def add(self, entries: Iterable[tuple[int, int]], whom: int, now: float, *, anew: bool) -> None:
        """Count the ``entries`` of another meter that has the same clock; ``anew``: instead of what is known."""
        latest = self._number(now) + SLOTS  # nothing honest lies further ahead, and it must not count for ever
        kept = [entry for entry in self._entries if not (anew and entry[1] == whom)]
        kept += [(min(number, latest), whom, tokens) for number, tokens in entries if tokens > 0]
        kept.sort(key=lambda entry: entry[0])
        self._entries = deque(kept)
        self._used = sum(tokens for _, _, tokens in kept)

    def is_idle(self, now: float) -> bool:
        """True if nothing that was given counts any more."""
        return not self._entries or self._entries[-1][0] + SLOTS < self._number(now)

    def _number(self, at: float) -> int:
        return math.floor(at / (self.seconds / SLOTS))


class Meters:
    """Meters by key, so many and no more."""

    def __init__(self) -> None:
        self._meters: OrderedDict[str, Meter] = OrderedDict()  # longest unused first

    def get(self, key: str, seconds: float, now: float) -> Meter:
        """Return the meter of a key; a new one where the setting has changed: counted anew."""
        self._prune(now)
        meter = self._meters.get(key)
        if meter is None or meter.seconds != seconds:
            meter = self._meters[key] = Meter(seconds)
        self._meters.move_to_end(key)
        return meter

    def find(self, key: str) -> Meter | None:
        """Return the meter of a key, if there is one."""
        return self._meters.get(key)

    def latest(self, most: int) -> list[tuple[str, Meter]]:
        """Return up to ``most`` keys and meters, the one last used first."""
        return [item for item, _ in zip(reversed(self._meters.items()), range(most), strict=False)]

    def __len__(self) -> int:
        return len(self._meters)

    def _prune(self, now: float) -> None:
        """Forget up to two meters that are idle: twice as fast as new ones can come, so no sweep is needed."""
        for _ in range(2):
            oldest = next(iter(self._meters.items()), None)
            if oldest is None or not (oldest[1].is_idle(now) or len(self._meters) > KEYS_MAX):
                return
            del self._meters[oldest[0]]
