"""What one worker holds, and what it may take while nobody can be asked. Pure; the time is an argument.

Owns: its connections, what is lent of its shares, what is charged to its shares of rates. Does not own: asking
(client.py), what a share is (shares.py).

Without the ledger a worker may take what is left of its share of each limit: the shares of all add up to the limit, and
what others took of ours was told to us before they had it (leases.py, rates.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from postroad.core.faces import Rate
from postroad.ledger import wire
from postroad.ledger.meter import Meters
from postroad.ledger.rates import HELD_MAX, USED_KEYS_MAX
from postroad.ledger.shares import share_of

NO_SHARE_WAIT: Final = 1.0
"""Seconds until somebody asks again who has no share of a rate: until the ledger is back, that is."""


class Held:
    """One worker's own book."""

    def __init__(self, slot: int, workers: int) -> None:
        self._slot = slot
        self._workers = workers
        self._connections: dict[str, list[int]] = {}  # key -> how many, of how many at most
        self._lent: dict[str, int] = {}
        self._lent_before: dict[str, int] = {}  # what an earlier ledger said, until this one has said all
        self._meters = Meters()

    # --- connections ---

    def take(self, key: str, most: int) -> None:
        """Count one more."""
        held = self._connections.setdefault(key, [0, most])
        held[0] += 1
        held[1] = most

    def give(self, key: str) -> None:
        """Count one less. Raises RuntimeError if there is none."""
        held = self._connections.get(key)
        if held is None:
            raise RuntimeError(f"a connection of {key} was given back that nobody had taken")
        held[0] -= 1
        if not held[0]:
            del self._connections[key]

    def has_share(self, key: str, most: int) -> bool:
        """True if one more connection is within our share."""
        held = self._connections.get(key)
        lent = max(self._lent.get(key, 0), self._lent_before.get(key, 0))
        return (held[0] if held else 0) + lent < share_of(key, most, self._slot, self._workers)

    def lent(self, key: str, count: int) -> None:
        """The ledger has told how many connections of our share others hold, as far as it knows by now."""
        if count:
            self._lent[key] = count
        else:
            self._lent.pop(key, None)

    def settled(self) -> None:
        """The ledger has told all that is lent: it has heard all workers."""
        self._lent_before = {}

    # --- rates ---

    def charge(self, key: str, seconds: float, tokens: int, now: float) -> int:
        """Count tokens of our share that are granted to us or lent to others. Returns a number for ``refund``."""
        return self._meters.get(key, seconds, now).charge(tokens, now + HELD_MAX)

    def charged(self, key: str, seconds: float, entries: list[tuple[int, int]], now: float) -> None:
        """Count what an earlier process of this slot has used."""
        self._meters.get(key, seconds, now).add(entries, 0, now, anew=False)

    def refund(self, key: str, number: int, tokens: int) -> None:
        """Take back what was charged and not used."""
        meter = self._meters.find(key)
        if meter is not None:
            meter.refund(number, tokens)

    def take_tokens(self, key: str, rate: Rate, tokens: int, now: float) -> float:
        """Take tokens of our share and return 0.0, or take none and return how long to wait."""
        share = share_of(key, int(rate.count), self._slot, self._workers)
        if tokens > share and not (self._workers == 1 and tokens > rate.count):
            return NO_SHARE_WAIT
        meter = self._meters.get(key, rate.seconds, now)
        wait = meter.wait(share, tokens, now)
        if not wait:
            meter.charge(tokens, now + HELD_MAX)
        return wait

    # --- a new ledger ---

    def announcement(self) -> Iterator[wire.Value]:
        """Yield what a ledger must know of us. What an earlier one has told holds until this one has told all."""
        self._lent_before = {**self._lent_before, **self._lent}
        self._lent = {}
        for key, (count, most) in self._connections.items():
            yield wire.Hold(key, most, count)
        for key, count in self._lent_before.items():
            yield wire.Owed(key, count)
        for key, meter in self._meters.latest(USED_KEYS_MAX):
            if entries := meter.entries():
                yield wire.Used(key, meter.seconds, entries)

    @property
    def connections(self) -> dict[str, int]:
        """How many are held under each key."""
        return {key: held[0] for key, held in self._connections.items()}
