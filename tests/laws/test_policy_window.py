"""Laws of the window: whatever happens in whatever order, it stays within its bounds and never sticks."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from postroad.policy.window import Phase, Window

steps = st.lists(
    st.tuples(
        st.sampled_from(["success", "answer", "trouble", "late trouble", "wake", "fewer", "more", "probe time"]),
        st.floats(0.0, 500.0),
        st.floats(0.0, 1.0),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 50), st.floats(0.5, 20_000.0), steps)
def test_the_window_stays_within_its_bounds(connections, longest, happened):  # type: ignore[no-untyped-def]
    window, now = Window(connections, longest=longest), 0.0
    for what, seconds, spread in happened:
        now += seconds
        match what:
            case "success":
                window.on_success(now)
            case "answer":
                window.on_answer(now)
            case "trouble":
                window.on_trouble(now, begun_at=now, why="x", spread=spread)
            case "late trouble":
                window.on_trouble(now, begun_at=now - 1000.0, why="x", spread=spread)
            case "wake":
                window.wake(now)
            case "fewer":
                connections = max(connections // 2, 1)
                window.configure(connections, longest=longest)
            case "more":
                connections += 3
                window.configure(connections, longest=longest)
            case "probe time":
                now = max(window.probe_at or now, now)
        assert 1 <= window.size <= connections
        assert 0 <= window.room(now, 0) <= connections
        assert window.room(now, connections) == 0
        if window.phase(now) is Phase.OPEN:
            assert window.room(now, 0) == window.size
        else:
            # Never stuck: one probe, after a wait that the settings bound.
            assert window.probe_at is not None
            assert window.probe_at <= now + longest
            assert window.room(window.probe_at, 0) == 1
            assert window.room(now, 0) <= 1
