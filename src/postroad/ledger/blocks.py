"""Tokens in hand: a block of a rate that was granted at once, so that not every message asks. Pure.

Owns: how large a block is, what is left of it, how much of that can be given back. Does not own: asking for one, giving
it back in time (client.py).
"""

from __future__ import annotations

from asyncio import TimerHandle
from typing import Final

from postroad.core.faces import Rate
from postroad.core.units import SECOND

BLOCK_SPAN: Final = 0.1 * SECOND
"""Seconds of the rate that a block is worth."""
BLOCK_LEAST: Final = 4
"""Tokens; where a block would be smaller, exactly what is needed is asked for."""


def best_of(rate: Rate, tokens: int) -> int:
    """Return how many tokens to ask for where ``tokens`` are needed."""
    block = int(rate.per_second * BLOCK_SPAN)
    return max(tokens, block) if block >= BLOCK_LEAST else tokens


class Block:
    """What is left of a grant."""

    __slots__ = ("_left", "number", "own", "own_number", "rate", "timer")

    timer: TimerHandle
    """Ends the block."""

    def __init__(self, rate: Rate, left: int, own: int, number: int, own_number: int) -> None:
        self.rate = rate
        self._left = left
        self.own = own
        """How many of the grant are charged to our own share; only those can be given back."""
        self.number = number
        """Of the slot they are charged in, in the ledger's book."""
        self.own_number = own_number
        """The same in ours."""

    def take(self, tokens: int) -> bool:
        """Take so many, or none."""
        if tokens > self._left:
            return False
        self._left -= tokens
        return True

    def end(self) -> int:
        """Return how many can be given back. Nothing is left."""
        left, self._left = self._left, 0
        return min(left, self.own)
