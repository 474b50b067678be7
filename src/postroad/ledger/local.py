"""The Limits face within one process.

Owns: connections and meters by key, and that there are never too many keys. Does not own: how a meter counts
(meter.py). Passes tests/contracts/test_limits.py. Nothing here waits: the face is asynchronous for the ledger process
that a relay of several workers will ask.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from postroad.core.faces import Rate
from postroad.ledger.meter import Meter

KEYS_MAX: Final = 100_000
"""Meters kept, about 400 octets each. Past it the one longest unused is forgotten: its owner may begin anew, which is
better than memory that strangers with many addresses can fill."""


class LocalLimits:
    """Counts for this process. ``time`` never goes back: the event loop's."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._connections: dict[str, int] = {}
        self._meters: OrderedDict[str, Meter] = OrderedDict()  # longest unused first

    async def take_connection(self, key: str, most: int) -> bool:
        taken = self._connections.get(key, 0)
        if taken >= most:
            return False
        self._connections[key] = taken + 1
        return True

    def give_connection(self, key: str) -> None:
        taken = self._connections.pop(key, 0)
        if taken == 0:
            raise RuntimeError(f"a connection of {key} was given back that nobody had taken")
        if taken > 1:
            self._connections[key] = taken - 1

    async def take_tokens(self, key: str, rate: Rate, tokens: int = 1) -> float:
        now = self._time()
        self._prune(now)
        meter = self._meters.get(key)
        if meter is None or meter.seconds != rate.seconds:  # the setting has changed: counted anew
            meter = self._meters[key] = Meter(rate.seconds)
        self._meters.move_to_end(key)
        return meter.take(rate, tokens, now)

    def on_wanted(self, listener: Callable[[str], None]) -> None:
        """Nobody else is there to want anything."""

    def _prune(self, now: float) -> None:
        """Forget up to two meters that are idle: twice as fast as new ones can come, so no sweep is needed."""
        for _ in range(2):
            oldest = next(iter(self._meters.items()), None)
            if oldest is None or not (oldest[1].is_idle(now) or len(self._meters) > KEYS_MAX):
                return
            del self._meters[oldest[0]]
