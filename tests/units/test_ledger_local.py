"""Meters hold in every span, and keys are bounded."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from postroad.core.faces import Rate
from postroad.ledger import meter
from postroad.ledger.local import LocalLimits
from postroad.ledger.meter import SLOTS, Meter

steps = st.lists(
    st.tuples(st.sampled_from([0.0, 0.001, 0.4, 1.0, 2.99, 3.0, 7.5, 57.5, 59.0, 60.0]), st.integers(1, 4)), max_size=60
)


@given(steps, st.sampled_from([1, 3, 10]), st.floats(0, 1e6))
def test_no_span_gives_more_than_the_rate(steps, count, start):
    rate, meter, now, given = Rate(count, 60), Meter(60), start, []
    for seconds, tokens in steps:
        now += seconds
        if tokens <= count and meter.take(rate, tokens, now) == 0.0:
            given.append((now, tokens))
    for began, _ in given:
        assert sum(tokens for at, tokens in given if began <= at < began + 60) <= count


@given(steps, st.sampled_from([1, 3, 10]))
def test_after_the_wait_there_is_enough_and_it_is_never_longer_than_the_span(steps, count):
    rate, meter, now = Rate(count, 60), Meter(60), 0.0
    for seconds, tokens in steps:
        now += seconds
        tokens = min(tokens, count)
        wait = meter.take(rate, tokens, now)
        assert 0.0 <= wait <= 60 * (1 + 1 / SLOTS) + 0.001
        if wait:
            now += wait + 1e-6
            assert meter.take(rate, tokens, now) == 0.0


def test_a_rate_that_is_always_used_up_loses_a_twentieth_at_most():
    rate, meter, now, given = Rate(60, 60), Meter(60), 0.0, 0
    while now < 6000:
        wait = meter.take(rate, 1, now)
        given += not wait
        now += wait or 0.01
    assert 0.94 * 6000 < given <= 6060


def test_a_meter_is_idle_when_all_it_gave_has_passed():
    meter = Meter(60)
    assert meter.is_idle(0.0)
    meter.take(Rate(1, 60), 1, 0.0)
    assert not meter.is_idle(59.0)
    assert meter.is_idle(66.1)


def test_idle_keys_are_forgotten_and_busy_ones_kept():
    now = 0.0
    limits = LocalLimits(lambda: now)

    async def work():
        nonlocal now
        for number in range(1000):
            await limits.take_tokens(f"k{number}", Rate(1, 60))
        now = 67.0
        await limits.take_tokens("busy", Rate(1, 60))
        for number in range(600):
            await limits.take_tokens(f"n{number % 10}", Rate(1, 60))
        assert len(limits._meters) == 11
        assert await limits.take_tokens("busy", Rate(1, 60)) > 0

    asyncio.run(work())


def test_keys_are_bounded_whatever_strangers_do(monkeypatch):
    monkeypatch.setattr(meter, "KEYS_MAX", 100)
    limits = LocalLimits(lambda: 0.0)

    async def work():
        for number in range(1000):
            await limits.take_tokens(f"k{number}", Rate(1, 60))
            await limits.take_tokens("regular", Rate(1000, 60))
        assert len(limits._meters) <= 102
        assert await limits.take_tokens("regular", Rate(1000, 60)) > 0  # who is in use is not forgotten

    asyncio.run(work())


def test_connections_given_back_leave_nothing_behind():
    limits = LocalLimits(lambda: 0.0)

    async def work():
        for number in range(100):
            await limits.take_connection(f"k{number}", 1)
        for number in range(100):
            limits.give_connection(f"k{number}")
        assert limits._connections == {}

    asyncio.run(work())


def test_a_changed_setting_counts_anew():
    limits = LocalLimits(lambda: 0.0)

    async def work():
        assert await limits.take_tokens("k", Rate(1, 60)) == 0.0
        assert await limits.take_tokens("k", Rate(1, 60)) > 0
        assert await limits.take_tokens("k", Rate(1, 10)) == 0.0

    asyncio.run(work())
