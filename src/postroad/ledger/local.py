"""The Limits face within one process.

Owns: connections by key. Does not own: how rates are counted (meter.py). Passes tests/contracts/test_limits.py. Nothing
here waits: the face is asynchronous for the ledger process that a relay of several workers asks (client.py).
"""

from __future__ import annotations

from collections.abc import Callable

from postroad.core.faces import Rate
from postroad.ledger.meter import Meters


class LocalLimits:
    """Counts for this process. ``time`` never goes back: the event loop's."""

    def __init__(self, time: Callable[[], float]) -> None:
        self._time = time
        self._connections: dict[str, int] = {}
        self._meters = Meters()

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
        return self._meters.get(key, rate.seconds, now).take(rate, tokens, now)

    def on_wanted(self, listener: Callable[[str], None]) -> None:
        """Nobody else is there to want anything."""
