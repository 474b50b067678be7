"""When to try again: each sentence of [retry] as a figure."""

from __future__ import annotations

import pytest

from postroad.core.units import DAY, HOUR, MINUTE
from postroad.policy.schedule import Schedule, expires_at, is_expired, next_attempt, warn_at, warn_due

START = 1_000_000.0
SCHEDULE = Schedule(first=5 * MINUTE, longest=4 * HOUR, expire=5 * DAY, warn=4 * HOUR)


@pytest.mark.parametrize(
    ("attempts", "gap"),
    [(1, 5), (2, 10), (3, 20), (4, 40), (5, 80), (6, 160), (7, 240), (8, 240), (10_000, 240)],
)
def test_the_gap_doubles_up_to_the_longest(attempts: int, gap: float) -> None:
    assert next_attempt(SCHEDULE, received_at=START, now=START, attempts=attempts) == START + gap * MINUTE


def test_chance_adds_up_to_a_quarter() -> None:
    assert next_attempt(SCHEDULE, received_at=START, now=START, attempts=1, spread=1.0) == START + 6.25 * MINUTE


def test_the_last_attempt_falls_on_the_deadline() -> None:
    deadline = expires_at(SCHEDULE, START)
    assert deadline == START + 5 * DAY
    assert next_attempt(SCHEDULE, received_at=START, now=deadline - 1.0, attempts=40) == deadline
    assert next_attempt(SCHEDULE, received_at=START, now=deadline, attempts=41) is None
    assert is_expired(SCHEDULE, received_at=START, now=deadline)
    assert not is_expired(SCHEDULE, received_at=START, now=deadline - 0.001)


def test_the_sender_is_warned_between_warn_and_expire() -> None:
    assert warn_at(SCHEDULE, START) == START + 4 * HOUR
    assert not warn_due(SCHEDULE, received_at=START, now=START + 4 * HOUR - 1)
    assert warn_due(SCHEDULE, received_at=START, now=START + 4 * HOUR)
    assert warn_due(SCHEDULE, received_at=START, now=START + 5 * DAY - 1)
    assert not warn_due(SCHEDULE, received_at=START, now=START + 5 * DAY)


@pytest.mark.parametrize("warn", [None, 1 * HOUR, 2 * HOUR])
def test_a_warning_may_be_off_or_too_late(warn: float | None) -> None:
    schedule = Schedule(expire=1 * HOUR, warn=warn)
    assert warn_at(schedule, START) is None
    assert not warn_due(schedule, received_at=START, now=START + 59 * MINUTE)


def test_a_clock_set_back_stops_nothing() -> None:
    at = next_attempt(SCHEDULE, received_at=START, now=START - 1 * DAY, attempts=1)
    assert at == START - 1 * DAY + 5 * MINUTE
