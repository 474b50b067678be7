"""The Clock face on the machine's clock.

Owns: reading it. Does not own: durations, which the event loop's ``time()`` measures. The fake that tests set by
hand stands in postroad.testing.
"""

from __future__ import annotations

import time


class WallClock:
    """``Clock``: what the machine says the time is."""

    def now(self) -> float:
        return time.time()
