"""How many connections a destination may have now: opens on success, closes on trouble, probes the dead.

Owns: the number of one destination, and when a dead one is tried again. Does not own: counting over
all workers (Limits), what a 4xx means (classify.py), when one recipient is tried again (schedule.py). In memory
only: after a start every destination begins anew.

The arithmetic is TCP's: plus one for each success until the first trouble, then plus one for each window
of successes; half at each trouble. Trouble of attempts begun before the last closing does not count again: twenty
connections that break at one moment are one piece of news. Below one connection the destination is dead.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from postroad.core.units import HOUR, MINUTE

START: Final = 5
"""Connections to a destination we know nothing of: Postfix's initial_destination_concurrency."""
PROBE_FIRST: Final = 1 * MINUTE
"""Seconds from death to the first probe; doubles with each probe that fails. Postfix waits as long as a
deferred queue scan, 300 s; one connection a minute hurts nobody and finds a restarted host soon."""
PROBE_SPREAD: Final = 0.25
"""How much longer a wait may get by chance, as a part of itself."""


class Phase(StrEnum):
    """What a destination is in. Bounded, so it can label a metric."""

    OPEN = "open"
    DEAD = "dead"  # nothing until the probe
    PROBING = "probing"  # one connection, to see


class Window:
    """The window of one destination. All times: seconds of one clock that only grows (the event loop's).

    Args:
        connections: the most there may be ([[destination]] connections), 1 or more.
        first, longest: bounds of the wait between probes, seconds ([retry] first and longest; the first wait is
            never longer than PROBE_FIRST).
    """

    __slots__ = ("_closed_at", "_connections", "_first", "_gap", "_growing", "_longest", "_probe_at", "_size", "_why")

    def __init__(self, connections: int, *, first: float = PROBE_FIRST, longest: float = 4 * HOUR) -> None:
        self._connections = max(connections, 1)
        self._first = min(first, longest, PROBE_FIRST)
        self._longest = longest
        self._size = self._start
        self._growing = True  # no trouble yet: one more for each success
        self._closed_at = float("-inf")
        self._probe_at: float | None = None  # not None: dead
        self._gap = self._first
        self._why = ""

    def phase(self, now: float) -> Phase:
        """Return what the destination is in at ``now``."""
        if self._probe_at is None:
            return Phase.OPEN
        return Phase.DEAD if now < self._probe_at else Phase.PROBING

    def room(self, now: float, in_use: int) -> int:
        """Return how many more connections may be opened at ``now``; ``in_use`` are there, or being made."""
        match self.phase(now):
            case Phase.OPEN:
                return max(self.size - in_use, 0)
            case Phase.PROBING:
                return max(1 - in_use, 0)
            case Phase.DEAD:
                return 0

    @property
    def _start(self) -> float:
        return float(min(START, self._connections))

    @property
    def size(self) -> int:
        """Connections while open: 1 to the most there may be."""
        return min(max(int(self._size), 1), self._connections)

    @property
    def probe_at(self) -> float | None:
        """When a dead destination is tried again; None: it is not dead."""
        return self._probe_at

    @property
    def why(self) -> str:
        """What closed the window last, for people; empty if nothing did, or it is long over."""
        return self._why

    @property
    def has_learned(self) -> bool:
        """True if a new window in its place would do something else."""
        return self._probe_at is not None or bool(self._why) or not self._growing or self._size != self._start

    def on_success(self, now: float) -> None:
        """A message, or a recipient of one, was taken."""
        if self._probe_at is not None:
            self._revive()
        elif self._growing:
            self._size = min(self._size + 1.0, self._connections)
        else:
            self._size = min(self._size + 1.0 / self._size, self._connections)
        if self._size >= self._connections:
            self._why = ""

    def on_answer(self, now: float) -> None:
        """The destination answered, neither well nor with trouble of its own: a full mailbox, a 5yz.

        It lives; how much it bears, this does not tell.
        """
        if self._probe_at is not None:
            self._revive()

    def on_trouble(self, now: float, *, begun_at: float, why: str, spread: float = 0.0) -> None:
        """No connection was to be had, or the destination asked for less (classify.Kind.closes_window).

        Args:
            begun_at: when the attempt began that met the trouble.
            why: for people, short.
            spread: 0.0 to 1.0, drawn by the caller: probes of many destinations are not made together.
        """
        if begun_at < self._closed_at:
            return
        self._closed_at = now
        self._why = why
        self._growing = False
        if self._probe_at is not None:
            self._gap = min(self._gap * 2.0, self._longest)
            self._probe_at = self._wait(now, spread)
            return
        self._size /= 2.0
        if self._size < 1.0:
            self._probe_at = self._wait(now, spread)

    def configure(self, connections: int, *, first: float = PROBE_FIRST, longest: float = 4 * HOUR) -> None:
        """Take new settings over, after a reload; what was learnt stays."""
        self._connections = max(connections, 1)
        self._first = min(first, longest, PROBE_FIRST)
        self._longest = longest
        self._size = min(self._size, float(self._connections))
        self._gap = min(self._gap, longest)

    def wake(self, now: float) -> None:
        """Probe a dead destination now: a person asked for it (queue flush), or it called us (ETRN)."""
        if self._probe_at is not None:
            self._probe_at = min(self._probe_at, now)

    def _revive(self) -> None:
        self._probe_at = None
        self._gap = self._first
        self._size = self._start
        self._growing = True

    def _wait(self, now: float, spread: float) -> float:
        return now + min(self._gap * (1.0 + spread * PROBE_SPREAD), self._longest)
