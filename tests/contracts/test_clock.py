"""The contract of core.faces.Clock, for the machine's clock and the shipped fake."""

from __future__ import annotations

import time

import pytest

from postroad.service.wall_clock import WallClock
from postroad.testing.fake_clock import FakeClock


@pytest.mark.parametrize("make", [WallClock, FakeClock])
def test_it_tells_seconds_since_the_epoch(make):
    now = make().now()
    assert isinstance(now, float)
    assert 1_735_689_600 < now < 4_102_444_800  # 2025 to 2100


def test_the_machines_clock_is_the_machines():
    before = time.time()
    assert before <= WallClock().now() <= time.time()


def test_the_fake_moves_when_told_to():
    clock = FakeClock(100.0)
    assert [clock.now(), clock.now()] == [100.0, 100.0]
    clock.advance(5)
    clock.advance(-20.5)
    assert clock.now() == 84.5
