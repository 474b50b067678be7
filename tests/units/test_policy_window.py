"""The window of a destination: opening, closing, death and probing, on a clock of the test's own."""

from __future__ import annotations

import pytest

from postroad.policy.window import PROBE_FIRST, START, Phase, Window

NOW = 1000.0


def trouble(window: Window, now: float, times: int = 1) -> float:
    """So many attempts, one after the other, that each begin and break at their own moment."""
    for _ in range(times):
        now += 1.0
        window.on_trouble(now, begun_at=now, why="refused")
    return now


def test_it_starts_small_and_never_above_the_most() -> None:
    assert Window(20).room(NOW, 0) == START
    assert Window(20).room(NOW, 3) == START - 3
    assert Window(20).room(NOW, 9) == 0
    assert Window(2).room(NOW, 0) == 2
    assert Window(0).room(NOW, 0) == 1


def test_success_opens_it_up_to_the_most() -> None:
    window = Window(20)
    for expected in [*range(6, 21), 20, 20]:
        window.on_success(NOW)
        assert window.size == expected


def test_trouble_halves_it_and_then_it_opens_slowly() -> None:
    window = Window(20)
    for _ in range(15):
        window.on_success(NOW)
    trouble(window, NOW)
    assert window.size == 10
    assert window.why == "refused"
    for _ in range(9):
        window.on_success(NOW)
    assert window.size == 10  # a window of successes for one more
    for _ in range(2):
        window.on_success(NOW)
    assert window.size == 11
    for _ in range(500):
        window.on_success(NOW)
    assert (window.size, window.why) == (20, "")


def test_what_breaks_at_one_moment_counts_once() -> None:
    window = Window(20)
    for _ in range(15):
        window.on_success(NOW)
    for _ in range(20):
        window.on_trouble(NOW + 30.0, begun_at=NOW, why="reset")
    assert window.size == 10
    window.on_trouble(NOW + 60.0, begun_at=NOW + 30.0, why="reset")
    assert window.size == 5


def test_below_one_connection_it_is_dead_until_the_probe() -> None:
    window = Window(20)
    now = trouble(window, NOW, 2)
    assert (window.phase(now), window.size) == (Phase.OPEN, 1)
    now = trouble(window, now)
    assert (window.phase(now), window.room(now, 0)) == (Phase.DEAD, 0)
    assert window.probe_at == now + PROBE_FIRST
    assert window.room(now + PROBE_FIRST - 0.1, 0) == 0
    assert window.phase(now + PROBE_FIRST) is Phase.PROBING
    assert window.room(now + PROBE_FIRST, 0) == 1
    assert window.room(now + PROBE_FIRST, 1) == 0


def test_each_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    window = Window(20, longest=300.0)
    now = trouble(window, NOW, 3)
    waits = []
    for _ in range(5):
        assert window.probe_at is not None
        waits.append(window.probe_at - now)
        now = window.probe_at
        window.on_trouble(now, begun_at=now, why="refused")
    assert waits == [60.0, 120.0, 240.0, 300.0, 300.0]


def test_the_settings_bound_the_first_wait_too() -> None:
    window = Window(20, first=1.0, longest=2.0)
    now = trouble(window, NOW, 3)
    assert window.probe_at == now + 1.0
    assert Window(20, longest=2.0)._gap == 2.0


def test_chance_adds_up_to_a_quarter_and_never_passes_the_longest() -> None:
    window = Window(1)
    window.on_trouble(NOW, begun_at=NOW, why="refused", spread=1.0)
    assert window.probe_at == NOW + 1.25 * PROBE_FIRST
    window = Window(1, longest=61.0)
    window.on_trouble(NOW, begun_at=NOW, why="refused", spread=1.0)
    assert window.probe_at == NOW + 61.0


def test_a_probe_that_succeeds_brings_it_back_to_its_start() -> None:
    window = Window(20)
    now = trouble(window, NOW, 4)
    assert window.probe_at is not None
    window.on_success(window.probe_at)
    assert (window.phase(now), window.size, window.probe_at) == (Phase.OPEN, START, None)
    now = trouble(window, now, 3)
    assert window.probe_at == now + PROBE_FIRST  # the wait begins anew


def test_an_answer_revives_and_opens_nothing() -> None:
    window = Window(20)
    window.on_answer(NOW)
    assert window.size == START
    now = trouble(window, NOW, 3)
    window.on_answer(now)
    assert window.phase(now) is Phase.OPEN


def test_late_news_from_before_the_death_do_not_put_the_probe_off() -> None:
    window = Window(1)
    window.on_trouble(NOW, begun_at=NOW - 1, why="refused")
    at = window.probe_at
    window.on_trouble(NOW + 30.0, begun_at=NOW - 10.0, why="timed out")
    assert window.probe_at == at


def test_a_person_may_wake_it() -> None:
    window = Window(1)
    window.wake(NOW)
    assert window.phase(NOW) is Phase.OPEN
    trouble(window, NOW)
    window.wake(NOW + 5.0)
    assert window.room(NOW + 5.0, 0) == 1


@pytest.mark.parametrize(("most", "size"), [(3, 3), (40, 5)])
def test_new_settings_bound_what_was_learnt(most: int, size: int) -> None:
    window = Window(20)
    window.configure(most)
    assert window.size == size
    for _ in range(50):
        window.on_success(NOW)
    assert window.size == most
