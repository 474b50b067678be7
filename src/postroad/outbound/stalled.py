"""Recipient domains that are left alone for a while: their destination is down, suspended, or they met an error.

Owns: pausing them in the spool, knowing which they are, waking them together, in slices, when what they were paused for
may be over (a suspension lifted, a new configuration). Does not own: why and until when (scheduler.py).

A pause is the spool's to keep: a million messages behind one cost nothing. It is never longer than LOOK_AGAIN, and of
more than STALLED_MAX domains not longer than LOOK_SOON, so that what is not known here wakes by itself.
"""

from __future__ import annotations

from typing import Final

from postroad.core.units import HOUR, MINUTE
from postroad.spool.face import Spool

STALLED_MAX: Final = 100_000
"""Domains remembered, about 100 octets each."""
LOOK_AGAIN: Final = 1 * HOUR
LOOK_SOON: Final = 1 * MINUTE
"""Seconds after which a domain is looked at again in any case."""
SLICE: Final = 1_000
"""Domains woken at a time: about a millisecond."""


class Stalled:
    """See the module's header."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._domains: dict[str, None] = {}
        self._to_wake: list[str] = []

    def __len__(self) -> int:
        return len(self._domains)

    def pause(self, domain: str, until: float, now: float) -> None:
        """Leave a domain alone until then (seconds since the epoch, perhaps without end)."""
        longest = LOOK_AGAIN
        if domain not in self._domains:
            if len(self._domains) < STALLED_MAX:
                self._domains[domain] = None
            else:
                longest = LOOK_SOON
        self._spool.pause(domain, min(until, now + longest))

    def looked_at(self, domain: str) -> None:
        """The domain is awake: by itself, or a person's flush has ended its pause."""
        self._domains.pop(domain, None)

    def wake_all(self) -> None:
        """Have all of them looked at again, soon: ``wake_some`` does it."""
        self._to_wake.extend(self._domains)
        self._domains.clear()

    def wake_some(self, now: float) -> bool:
        """Wake a slice of them; False if there were none."""
        slice_, self._to_wake = self._to_wake[:SLICE], self._to_wake[SLICE:]
        for domain in slice_:
            self._spool.pause(domain, now)
        return bool(slice_)
