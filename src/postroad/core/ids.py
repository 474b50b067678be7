"""Names of messages and sessions: short, sortable, one alphabet.

Owns: how an id is built, written and read. Does not own: which shard is ours
(the house says so) or what time it is (an argument).

An id is a positive 63-bit integer, so that SQLite can use it as a row id:

    bits 62-22  milliseconds since 2020-01-01 UTC (41 bits, until 2089)
    bits 21-14  the shard that took the message (0 to 255)
    bits 13-0   counts within one millisecond

Ids of one maker only ever grow, whatever the wall clock does. A message keeps
its id when another shard adopts it, so an id names it over its whole life.
"""

from __future__ import annotations

from typing import Final, NewType

MessageId = NewType("MessageId", int)
SessionId = NewType("SessionId", int)

EPOCH: Final = 1_577_836_800.0
"""Seconds since the Unix epoch at which ids begin: 2020-01-01 00:00 UTC."""
SHARDS_MAX: Final = 256
_COUNT_BITS: Final = 14
_SHARD_BITS: Final = 8
_COUNT_MASK: Final = (1 << _COUNT_BITS) - 1
_TIME_SHIFT: Final = _COUNT_BITS + _SHARD_BITS

# Crockford's base 32: no i, l, o, u, so that an id can be read out over the telephone.
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS: Final = 13  # 13 x 5 bits hold 63
_VALUES: Final = {digit: value for value, digit in enumerate(_ALPHABET)} | {"o": 0, "i": 1, "l": 1}
_PAIRS: Final = tuple(high + low for high in _ALPHABET for low in _ALPHABET)


class IdMaker:
    """Makes ids for one shard. Not shared between threads.

    ``floor`` is the largest id known to exist (the spool's, at start): new ids are
    larger even when the wall clock has been set back since.
    """

    def __init__(self, shard: int, *, floor: int = 0) -> None:
        if not 0 <= shard < SHARDS_MAX:
            raise ValueError(f"shard {shard} is not between 0 and {SHARDS_MAX - 1}")
        self._shard = shard << _COUNT_BITS
        self._tick = ((floor >> _TIME_SHIFT) + 1) << _COUNT_BITS if floor else 0

    def next_id(self, now: float) -> int:
        """Return a new id for ``now`` (seconds since the epoch, UTC)."""
        tick = int((now - EPOCH) * 1000.0) << _COUNT_BITS
        # A clock that stands still or goes back, or 16,384 ids in a millisecond: borrow from the future.
        self._tick = tick if tick > self._tick else self._tick + 1
        return (self._tick >> _COUNT_BITS) << _TIME_SHIFT | self._shard | (self._tick & _COUNT_MASK)


def time_of(identifier: int) -> float:
    """Return when the id was made, in seconds since the epoch, UTC (to the millisecond)."""
    return EPOCH + (identifier >> _TIME_SHIFT) / 1000.0


def shard_of(identifier: int) -> int:
    """Return the shard that first took the message."""
    return (identifier >> _COUNT_BITS) & (SHARDS_MAX - 1)


def format_id(identifier: int) -> str:
    """Return the id as 13 characters whose order is the order of the ids."""
    pairs = _PAIRS
    return (
        _ALPHABET[identifier >> 60]
        + pairs[identifier >> 50 & 1023]
        + pairs[identifier >> 40 & 1023]
        + pairs[identifier >> 30 & 1023]
        + pairs[identifier >> 20 & 1023]
        + pairs[identifier >> 10 & 1023]
        + pairs[identifier & 1023]
    )


def parse_id(text: str) -> int:
    """Return the id that ``text`` names, upper or lower case.

    Raises:
        ValueError: not 13 characters of our alphabet, or past 63 bits.
    """
    folded = text.strip().lower()
    if len(folded) != _DIGITS or any(digit not in _VALUES for digit in folded):
        raise ValueError(f"{text!r} is not an id: it has {_DIGITS} characters of {_ALPHABET}")
    value = 0
    for digit in folded:
        value = value << 5 | _VALUES[digit]
    if value >> 63:
        raise ValueError(f"{text!r} is not an id: it is too large")
    return value
