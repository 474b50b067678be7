"""Each worker's share of a limit: what it may take where nobody can be asked. Pure arithmetic.

Owns: the division. Does not own: who has taken what of it (leases.py, held.py). The shares of a limit add up to it
exactly; what does not divide goes to other workers for each key, so that no worker is the poor one everywhere. The
same in every process and after every start: no randomised hash.
"""

from __future__ import annotations

from zlib import crc32


def share_of(key: str, most: int, slot: int, workers: int) -> int:
    """Return how many of ``most`` are the share of the worker ``slot``. Somebody without a slot (-1) has none."""
    if not 0 <= slot < workers:
        return 0
    whole, rest = divmod(max(most, 0), workers)
    if not rest:
        return whole
    return whole + ((slot + crc32(key.encode())) % workers < rest)
