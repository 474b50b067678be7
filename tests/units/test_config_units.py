"""Durations, sizes and rates as people write them; what does not parse says what would."""

from __future__ import annotations

import pytest

from postroad.config.units import (
    NEVER,
    Rate,
    format_duration,
    format_rate,
    format_size,
    parse_duration,
    parse_rate,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("500ms", 0.5), ("30s", 30), ("5m", 300), ("4h", 14_400), ("5d", 432_000), ("90 m", 5400)],
)
def test_a_duration(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (60, "1m"), (90, "90s"), (5400, "90m"), (86_400, "1d"), (NEVER, "never")],
)
def test_a_duration_is_printed_in_the_largest_unit(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize("text", ["", "5", "m", "5 minutes", "-5m", "1.5h", "5M", "٥m", "5m ", "1h30m", "5\nm"])
def test_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match='Write a whole number and s, m, h or d, such as "5m"'):
        parse_duration(text)


def test_never_only_where_it_is_allowed() -> None:
    assert parse_duration("never", never=True) == NEVER
    with pytest.raises(ValueError, match='"never" is not allowed here'):
        parse_duration("never")


def test_a_duration_has_an_end() -> None:
    with pytest.raises(ValueError, match='The longest duration is "36500d"'):
        parse_duration("999999999999d")
    assert parse_duration("36500d") == 36_500 * 86_400


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), 0.0005])
def test_what_cannot_be_written(seconds: float) -> None:
    with pytest.raises(ValueError):
        format_duration(seconds)


@pytest.mark.parametrize(
    ("text", "octets"),
    [("0B", 0), ("512B", 512), ("64KiB", 65_536), ("10MiB", 10_485_760), ("1GiB", 2**30), ("2TiB", 2**41)],
)
def test_a_size(text: str, octets: int) -> None:
    assert parse_size(text) == octets
    assert format_size(octets) == text


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("10MB", 'Write "10MiB".'),
        ("10 m", 'Write "10MiB".'),
        ("1g", 'Write "1GiB".'),
        ("10mib", 'Write "10MiB".'),
        ("10", 'such as "10MiB"'),
        ("ten", 'such as "10MiB"'),
        ("1.5GiB", 'such as "10MiB"'),
        ("-1B", 'such as "10MiB"'),
        ("9999999999TiB", 'The largest size is "1024TiB".'),
    ],
)
def test_no_size(text: str, advice: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_size(text)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20/s", Rate(20, 1)),
        ("600/min", Rate(600, 60)),
        ("5 / hour", Rate(5, 3600)),
        ("1000000000/day", Rate(10**9, 86_400)),
    ],
)
def test_a_rate(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate
    assert str(rate) == text.replace(" ", "")


def test_a_rate_per_second() -> None:
    assert parse_rate("600/min").per_second == 10


@pytest.mark.parametrize("text", ["", "600", "600/minute", "/min", "600/m", "-1/s", "1.5/s", "600/60s", "０/s"])
def test_no_rate(text: str) -> None:
    with pytest.raises(ValueError, match='Write a number per s, min, hour or day, such as "600/min"'):
        parse_rate(text)


@pytest.mark.parametrize("text", ["0/s", "1000000001/s"])
def test_a_rate_of_nothing_or_of_everything(text: str) -> None:
    with pytest.raises(ValueError, match="from 1 to 1000000000"):
        parse_rate(text)


def test_what_is_no_value_is_not_printed() -> None:
    with pytest.raises(ValueError):
        format_size(-1)
    with pytest.raises(ValueError):
        format_rate(Rate(1, 7))
