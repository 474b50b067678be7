"""The ledger's book of rates: who has used how much of which. Pure; the time is an argument.

Owns: whose share tokens are charged to. Does not own: how a meter counts (meter.py), connections (leases.py).

As with connections, tokens above a worker's share are charged to others' shares, and those are told: what each worker
knows to be charged to its own share is what it may go by while the ledger is away.
"""

from __future__ import annotations

from typing import Final

from postroad.core.faces import Rate
from postroad.core.units import SECOND
from postroad.ledger.leases import Tell
from postroad.ledger.meter import Meter, Meters
from postroad.ledger.shares import share_of
from postroad.ledger.wire import Charged, LentTokens

USED_KEYS_MAX: Final = 10_000
"""Meters announced to a new ledger, or told to a new worker, the last used first: about 150 octets each."""
HELD_MAX: Final = 0.05 * SECOND
"""Seconds for which a worker may keep the tokens of a block before it uses them: they are charged so much later than
they are granted."""
ANSWER_HELD: Final = 0.025 * SECOND
"""The same for tokens that were asked for one by one: as long as an answer may be under way on a busy machine. With
0.05 a rate of 20/s that is always used up came down to 14 in some seconds; with less, mail that was held up on its
way arrived with what followed it."""


class Rates:
    """All rates of the relay."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._meters = Meters()
        self.workers = 1
        self.absent: frozenset[int] = frozenset()
        """Workers of whom it is not known what they have used: all of their share, it must be supposed."""

    def take(self, slot: int, key: str, rate: Rate, least: int, best: int, now: float) -> tuple[int, int, int, float]:
        """Return tokens, how many of them are charged to the asker's own share, in which slot, and 0.0.

        Or 0, 0, 0 and after how many seconds there may be enough.
        """
        meter = self._meters.get(key, rate.seconds, now)
        most = rate.count - self._reserved(key, rate, meter, now)
        wait = meter.wait(most, least, now) if most > 0 else 1.0
        if wait:
            return 0, 0, 0, wait
        tokens = max(least, min(best, int(most) - meter.used(now)))
        at = now + (HELD_MAX if best > least else ANSWER_HELD)
        if self.workers == 1:
            return tokens, tokens, meter.charge(tokens, at, slot), 0.0
        shares = [share_of(key, int(rate.count), whom, self.workers) for whom in range(self.workers)]
        own = min(tokens, max(0, shares[slot] - meter.used_by(slot))) if 0 <= slot < self.workers else 0
        over = tokens - own
        for whom, share in enumerate(shares):
            if (
                over
                and whom != slot
                and whom not in self.absent
                and (room := min(over, share - meter.used_by(whom))) > 0
            ):
                over -= room
                meter.charge(room, at, whom)
                self._tell(whom, LentTokens(key, rate.seconds, room))
        own += over  # more than there ever is: nobody's share has it
        return tokens, own, meter.charge(own, at, slot) if own else 0, 0.0

    def give(self, slot: int, key: str, number: int, tokens: int) -> None:
        """Take back what was charged to the worker's own share and not used."""
        meter = self._meters.find(key)
        if meter is not None and tokens > 0:
            meter.refund(number, tokens, slot)

    def announced(
        self, slot: int, key: str, seconds: float, entries: list[tuple[int, int]], now: float, *, anew: bool
    ) -> None:
        """Count what a worker says it has used; ``anew``: it is what we knew of it, and what came since."""
        self._meters.get(key, seconds, now).add(entries, slot, now, anew=anew)

    def charged(self, slot: int) -> list[Charged]:
        """Return what is charged to a worker's shares: what a new process of that slot must know."""
        return [
            Charged(key, meter.seconds, entries)
            for key, meter in self._meters.latest(USED_KEYS_MAX)
            if (entries := meter.entries(slot))
        ]

    def __len__(self) -> int:
        return len(self._meters)

    def _reserved(self, key: str, rate: Rate, meter: Meter, now: float) -> int:
        if not self.absent:
            return 0
        meter.used(now)  # forgets what is past
        shares = {whom: share_of(key, int(rate.count), whom, self.workers) for whom in self.absent}
        return sum(max(0, share - meter.used_by(whom)) for whom, share in shares.items())
