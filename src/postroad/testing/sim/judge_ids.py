"""Ids of the relay, as the judge reads them in what went over the wire, in rows and paths.

Owns: their number, when and by which shard one was made. Does not own: making them (core/ids.py, with which this is to
be kept in step: the judge takes nothing of the product).
"""

from __future__ import annotations

import re
from typing import Final

_BEGIN: Final = 1_577_836_800.0
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_SHARD_OF_PATH: Final = re.compile(r"/shard-(\d+)(?=[/.:])")


def time_of(identifier: int) -> float:
    """Return when an id was made, by the wall clock: it begins with the milliseconds since 2020."""
    return _BEGIN + (identifier >> 22) / 1_000.0


def shard_of(identifier: int) -> int:
    """Return the shard that made an id; -1 for none."""
    return identifier >> 14 & 255 if identifier >= 0 else -1


def shard_of_path(text: str) -> int:
    """Return the shard that a path is of, or a text that names one; -1 for none."""
    found = _SHARD_OF_PATH.search(text)
    return int(found[1]) if found else -1


def number_of(name: str) -> int:
    """Return the number that an id of 13 characters stands for (Crockford's base 32); -1 for none."""
    if len(name) != 13 or any(one not in _ALPHABET for one in name):
        return -1
    number = 0
    for one in name:
        number = number * 32 + _ALPHABET.index(one)
    return number


def names_of(numbers: set[int]) -> set[str]:
    """Return the ids of 13 characters of numbers."""
    return {"".join(_ALPHABET[number >> shift & 31] for shift in range(60, -1, -5)) for number in numbers}


def id_of(message_id: str) -> str:
    """Return the id in a Message-ID that the relay gave to a report."""
    return message_id.strip("<>").partition("@")[0]
