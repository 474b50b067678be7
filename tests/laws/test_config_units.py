"""Law: what is printed parses back, and what parses is printed in a form that means the same."""

from __future__ import annotations

import re
from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from postroad.config.units import (
    DURATION_MAX,
    RATE_COUNT_MAX,
    SIZE_MAX,
    Rate,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)

# Multiples of units and their neighbours, where the choice of the unit can go wrong.
STEPS = (1, 59, 60, 61, 999, 1000, 1001, 1023, 1024, 1025, 3600, 86_400, 1024**2, 1024**3 - 1, 1024**4)
milliseconds = st.builds(lambda step, times: step * times, st.sampled_from(STEPS), st.integers(0, 10_000))
numbers = st.sampled_from(
    ["0", "00", "1", "59", "60", "999", "1000", "1024", "5", "999999999999", "9" * 20, "", "-1", "٥"]
)
units = st.sampled_from(
    ["ms", "s", "m", "h", "d", "B", "KiB", "MiB", "GiB", "TiB", "MB", "/s", "/min", "/hour", "/day", "/"]
)
texts = st.builds(lambda number, gap, unit: number + gap + unit, numbers, st.sampled_from(["", " ", "  ", "\n"]), units)


@given(milliseconds.filter(lambda value: value / 1000 <= DURATION_MAX))
@example(int(DURATION_MAX) * 1000)
def test_a_duration_comes_back(value: int) -> None:
    assert parse_duration(format_duration(value / 1000)) == value / 1000


@given(milliseconds.filter(lambda value: value <= SIZE_MAX))
@example(SIZE_MAX)
def test_a_size_comes_back(octets: int) -> None:
    assert parse_size(format_size(octets)) == octets


@given(st.integers(1, RATE_COUNT_MAX), st.sampled_from([1, 60, 3600, 86_400]))
def test_a_rate_comes_back(count: int, seconds: int) -> None:
    assert parse_rate(format_rate(Rate(count, seconds))) == Rate(count, seconds)


@given(texts)
def test_what_parses_prints_as_the_same_and_no_longer(text: str) -> None:
    """Nothing but ValueError comes out of a parser; a printed value is a fixed point."""
    for parse, show in ((parse_duration, format_duration), (parse_size, format_size), (parse_rate, format_rate)):
        with suppress(ValueError):
            value = parse(text)  # type: ignore[operator]
            printed = show(value)  # type: ignore[operator]
            assert parse(printed) == value  # type: ignore[operator]
            assert len(printed) <= len(text) or re.match("0+[A-Za-z]", text)
