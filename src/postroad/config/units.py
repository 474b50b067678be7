"""How people write time, size and speed: "5m", "10MiB", "600/min".

Owns: parsing and printing of durations (seconds), sizes (octets) and rates,
each as a pair parse_x/format_x that undo one another. Does not own: the
units as constants (core/units.py), which setting takes which (config/*.py).
If you add a unit, tests/laws/test_config_units.py must still hold.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

from postroad.core.units import DAY, GIB, HOUR, KIB, MIB, MINUTE, SECOND

NEVER: Final = math.inf
"""The duration that does not end, written "never"."""

DURATION_MAX: Final = 36_500 * DAY
"""Seconds: a hundred years. What is longer is a slip of the finger."""
SIZE_MAX: Final = 2**50
"""Octets: 1 PiB."""
RATE_COUNT_MAX: Final = 1_000_000_000
"""Events in one unit of time."""

_DURATION: Final = re.compile(r"(\d{1,15}) ?(ms|s|m|h|d)", re.ASCII)
_MILLISECONDS: Final = {"ms": 1, "s": 1000, "m": int(MINUTE) * 1000, "h": int(HOUR) * 1000, "d": int(DAY) * 1000}

_SIZE: Final = re.compile(r"(\d{1,16}) ?(B|KiB|MiB|GiB|TiB)", re.ASCII)
_OCTETS: Final = {"B": 1, "KiB": KIB, "MiB": MIB, "GiB": GIB, "TiB": 1024 * GIB}

_RATE: Final = re.compile(r"(\d{1,12}) ?/ ?(s|min|hour|day)", re.ASCII)
_SECONDS: Final = {"s": int(SECOND), "min": int(MINUTE), "hour": int(HOUR), "day": int(DAY)}
_RATE_UNITS: Final = {seconds: unit for unit, seconds in _SECONDS.items()}


@dataclass(frozen=True, slots=True, order=True)
class Rate:
    """At most ``count`` events in ``seconds``: one of 1, 60, 3,600 and 86,400."""

    count: int
    seconds: int

    @property
    def per_second(self) -> float:
        return self.count / self.seconds

    def __str__(self) -> str:
        return format_rate(self)


def parse_duration(text: str, *, never: bool = False) -> float:
    """Return the seconds that ``text`` names: "500ms", "30s", "5m", "4h", "5d".

    ``never`` allows the word "never", which is ``NEVER``.

    Raises:
        ValueError: no such duration; the text says how one is written.
    """
    if text == "never":
        if never:
            return NEVER
        raise ValueError('"never" is not allowed here. Write a duration such as "30s", "5m", "4h" or "5d".')
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f'{_quoted(text)} is not a duration. Write a whole number and s, m, h or d, such as "5m".')
    seconds = int(match[1]) * _MILLISECONDS[match[2]] / 1000
    if seconds > DURATION_MAX:
        raise ValueError(f'{_quoted(text)} is too long. The longest duration is "{format_duration(DURATION_MAX)}".')
    return seconds


def format_duration(seconds: float) -> str:
    """Return the shortest way to write ``seconds`` exactly, in the largest unit that divides it.

    Raises:
        ValueError: negative, not a number, or finer than a millisecond.
    """
    if seconds == NEVER:
        return "never"
    if not seconds >= 0:
        raise ValueError(f"{seconds} is not a duration")
    milliseconds = round(seconds * 1000)
    if abs(milliseconds - seconds * 1000) > 1e-3:
        raise ValueError(f"{seconds} seconds cannot be written: it is finer than a millisecond")
    if milliseconds == 0:
        return "0s"
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if milliseconds % _MILLISECONDS[unit] == 0)
    return f"{milliseconds // _MILLISECONDS[unit]}{unit}"


def parse_size(text: str) -> int:
    """Return the octets that ``text`` names: "512B", "64KiB", "10MiB", "1GiB", "2TiB".

    Raises:
        ValueError: no such size; the text says how one is written.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"{_quoted(text)} is not a size. {_size_advice(text)}")
    octets = int(match[1]) * _OCTETS[match[2]]
    if octets > SIZE_MAX:
        raise ValueError(f'{_quoted(text)} is too large. The largest size is "{format_size(SIZE_MAX)}".')
    return octets


def format_size(octets: int) -> str:
    """Return the shortest way to write ``octets`` exactly, in the largest unit that divides it.

    Raises:
        ValueError: negative.
    """
    if octets < 0:
        raise ValueError(f"{octets} is not a size")
    if octets == 0:
        return "0B"
    unit = next(unit for unit in ("TiB", "GiB", "MiB", "KiB", "B") if octets % _OCTETS[unit] == 0)
    return f"{octets // _OCTETS[unit]}{unit}"


def parse_rate(text: str) -> Rate:
    """Return the rate that ``text`` names: "20/s", "600/min", "1000/hour", "5000/day".

    Raises:
        ValueError: no such rate, or one of nothing; the text says how one is written.
    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f'{_quoted(text)} is not a rate. Write a number per s, min, hour or day, such as "600/min".')
    count = int(match[1])
    if not 1 <= count <= RATE_COUNT_MAX:
        raise ValueError(
            f'{_quoted(text)} is not a usable rate. The count is from 1 to {RATE_COUNT_MAX}, as in "20/s".'
        )
    return Rate(count, _SECONDS[match[2]])


def format_rate(rate: Rate) -> str:
    """Return how the rate is written.

    Raises:
        ValueError: not per second, minute, hour or day.
    """
    if rate.seconds not in _RATE_UNITS:
        raise ValueError(f"a rate per {rate.seconds} seconds cannot be written")
    return f"{rate.count}/{_RATE_UNITS[rate.seconds]}"


def _size_advice(text: str) -> str:
    """Say what the writer of "10MB", "10M" or "10 mib" most likely meant."""
    loose = re.fullmatch(r"(\d{1,16}) ?([kmgt])i?b?", text, re.IGNORECASE | re.ASCII)
    if loose:
        return f'Write "{loose[1]}{loose[2].upper()}iB".'
    return 'Write a whole number and B, KiB, MiB, GiB or TiB, such as "10MiB".'


def _quoted(text: str) -> str:
    return f'"{text[:60]}"'
