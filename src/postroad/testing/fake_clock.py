"""A Clock that a test sets by hand.

Owns: the time of the day. Does not own: durations, which the event loop's ``time()`` measures. Passes
tests/contracts/test_clock.py.
"""

from __future__ import annotations

from typing import Final

NOON: Final = 1_767_268_800.0
"""2026-01-01 12:00 UTC."""


class FakeClock:
    """Stands still until it is moved."""

    def __init__(self, seconds: float = NOON) -> None:
        self.seconds = seconds

    def now(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Move on; back, if negative, as clocks do that are set right."""
        self.seconds += seconds
