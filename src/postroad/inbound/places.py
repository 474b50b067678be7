"""How many connections this worker may have open of what the whole relay may, leased in blocks.

Owns: what is leased and not used, when to ask for more and when to give back. Does not own: the count over all workers
(core/faces.py Limits, under KEY), what is said to who is turned away (server.py).

A large limit is leased ahead, so that connections wait for no answer. What a worker has to spare another cannot use: a
block is a thousandth of the limit at most, and goes back when somebody waits for it. Connections end and come in
bursts, those that waited for one commit together: what they give back is kept for the next burst, a hundredth of the
limit at most, and goes back when it was not needed for KEEP_FOR. A small limit is exact: nothing is leased ahead.
"""

from __future__ import annotations

import asyncio
from typing import Final

from postroad.core.faces import Limits
from postroad.core.units import SECOND

KEY: Final = "in:connections"
"""Like that of a client, who waits for our greeting (ledger/client.py)."""
BLOCK_SHARE: Final = 1000
"""A block is the limit divided by this."""
BLOCK_MAX: Final = 32
"""Connections in a block."""
AHEAD: Final = 2
"""Blocks that are leased ahead."""
KEPT: Final = 10
"""Blocks that are kept, those leased ahead among them, of what is given back."""
KEEP_FOR: Final = 0.5 * SECOND
"""Seconds between two looks at what was spare all the time."""


class Places:
    """``take`` one for a connection, ``give`` it back when that has ended."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._most = 0
        self._spare = 0  # leased, and nobody sits there
        self._waiting = 0  # connections that wait for an answer
        self._asking: asyncio.Task[int] | None = None
        self._least_spare = 0  # since the last look
        self._looking: asyncio.TimerHandle | None = None
        limits.on_wanted(self._on_wanted)

    async def take(self, most: int) -> bool:
        """Take a place, or return False if there are ``most`` connections over all workers already."""
        if most != self._most:
            self._most = most
            self._return_above(0)  # they were leased of another limit
        self._waiting += 1
        try:
            while not self._spare:
                gained = await asyncio.shield(self._ask_for_more())
                if not gained and not self._spare:  # one may have been given back meanwhile, and kept for us
                    return False
            self._spare -= 1
            self._least_spare = min(self._least_spare, self._spare)
        finally:
            self._waiting -= 1
            self._return_idle()
        if self._spare < self._block // 2:
            self._ask_for_more()
        return True

    def give(self) -> None:
        """Give one back. Every place taken is given back exactly once."""
        self._spare += 1
        self._return_idle()

    def close(self) -> None:
        """Have nothing to spare. What an answer under way still brings ends with the process."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._return_above(0)

    @property
    def spare(self) -> int:
        """Places leased in which nobody sits."""
        return self._spare

    @property
    def _block(self) -> int:
        return max(1, min(BLOCK_MAX, self._most // BLOCK_SHARE))

    def _ask_for_more(self) -> asyncio.Task[int]:
        """Ask for a block, unless that is under way. The result: how many places there are more."""
        if self._asking is None or self._asking.done():
            count = max(self._block, min(self._waiting, BLOCK_MAX))
            self._asking = asyncio.get_running_loop().create_task(self._lease(count, self._most))
        return self._asking

    async def _lease(self, count: int, most: int) -> int:
        """Lease up to so many, all questions in one turn of the loop."""
        taken = await asyncio.gather(*(self._limits.take_connection(KEY, most) for _ in range(count)))
        gained = sum(taken)
        self._spare += gained
        self._return_idle()  # whoever asked may be gone
        return gained

    def _return_idle(self) -> None:
        """Return what is neither waited for nor kept; see that what is kept longer than it is needed goes back too."""
        self._return_above(max(self._waiting, self._blocks(KEPT)))
        if self._looking is None and self._spare > self._blocks(AHEAD):
            self._least_spare = self._spare
            self._looking = asyncio.get_running_loop().call_later(KEEP_FOR, self._look)

    def _look(self) -> None:
        """Return what was spare since the last look, but what is leased ahead."""
        self._looking = None
        unused = max(0, self._least_spare - self._blocks(AHEAD))
        self._return_above(max(self._waiting, self._spare - unused))
        self._return_idle()

    def _blocks(self, count: int) -> int:
        """Return how many places so many blocks are; none, where the limit is exact."""
        return count * self._block if self._block > 1 else 0

    def _return_above(self, count: int) -> None:
        while self._spare > count:
            self._spare -= 1
            self._limits.give_connection(KEY)
        self._least_spare = min(self._least_spare, self._spare)

    def _on_wanted(self, key: str) -> None:
        if key == KEY:
            self._return_above(self._waiting)


class Seat:
    """One of the connections that a client may have, by its address; given back once, also before its end."""

    __slots__ = ("_is_taken", "_key", "_limits")

    def __init__(self, limits: Limits, key: str) -> None:
        self._limits = limits
        self._key = key
        self._is_taken = False

    async def take(self, most: int) -> bool:
        """Take it, or return False if the client has ``most`` already."""
        self._is_taken = await self._limits.take_connection(self._key, most)
        return self._is_taken

    def give(self) -> None:
        """Give it back, if it is taken: at the end, and when the client has logged in, who is not counted then."""
        if self._is_taken:
            self._is_taken = False
            self._limits.give_connection(self._key)
