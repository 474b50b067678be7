"""When to try again, when to warn the sender, when to give up. Arithmetic only.

Owns: the retry schedule of one recipient. Does not own: whether a destination may be tried at all
(window.py), what an attempt's failure means (outbound/trouble.py). Clock and dice are arguments.
"""

from __future__ import annotations

from typing import Final

import msgspec

from postroad.core.units import DAY, HOUR, MINUTE

SPREAD_MAX: Final = 0.25
"""How much longer a gap may get by chance, as a part of itself: what was queued together is not retried together."""
_DOUBLINGS_MAX: Final = 40  # 2**40 first gaps are past every longest; keeps the figure finite after years of attempts


class Schedule(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The settings of [retry], in seconds.

    RFC 5321 section 4.5.4.1 asks for at least 30 minutes between attempts in general, wants two in the
    first hour, and gives up after four to five days; it leaves the strategy to the implementation. Like Postfix we
    begin with five minutes, for the hosts that say "later" to every stranger once, and double up to four hours.
    """

    first: float = 5 * MINUTE
    """Gap after the first attempt."""
    longest: float = 4 * HOUR
    """The gap doubles up to this."""
    expire: float = 5 * DAY
    """From the receipt of the message to giving up."""
    warn: float | None = 4 * HOUR
    """From the receipt to the report "delayed"; None: never."""


def next_attempt(
    schedule: Schedule, *, received_at: float, now: float, attempts: int, spread: float = 0.0
) -> float | None:
    """Return when to try again, or None when the time is up.

    The last attempt falls exactly on the deadline, so that nobody is told "gave up" hours too early.

    Args:
        received_at, now: seconds since the epoch, UTC.
        attempts: attempts made so far, the failed one included; 1 or more.
        spread: 0.0 to 1.0, drawn by the caller; tests pass a constant.
    """
    deadline = received_at + schedule.expire
    if now >= deadline:
        return None
    doublings = min(max(attempts - 1, 0), _DOUBLINGS_MAX)
    gap = min(schedule.first * 2.0**doublings, schedule.longest)
    return min(now + gap * (1.0 + spread * SPREAD_MAX), deadline)


def expires_at(schedule: Schedule, received_at: float) -> float:
    """Return when the time of a message is up: Will-Retry-Until of RFC 3464 section 2.3.9."""
    return received_at + schedule.expire


def is_expired(schedule: Schedule, *, received_at: float, now: float) -> bool:
    """True if the time is up: what fails now fails for good."""
    return now >= received_at + schedule.expire


def warn_at(schedule: Schedule, received_at: float) -> float | None:
    """Return when the sender is to be told of the delay; None: never, also where giving up comes first."""
    if schedule.warn is None or schedule.warn >= schedule.expire:
        return None
    return received_at + schedule.warn


def warn_due(schedule: Schedule, *, received_at: float, now: float) -> bool:
    """True if it is time for the report "delayed", and not yet for the one that says "failed"."""
    at = warn_at(schedule, received_at)
    return at is not None and at <= now < received_at + schedule.expire
