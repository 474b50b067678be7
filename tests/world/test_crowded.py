"""A relay with 100,000 deferred messages: people look at the queue and steer it, and new mail does not notice.

The small sister of tests/soak/test_million.py. Prints what each command does to the 250; fails where that is absurd.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.world.crowded import HEADER, LOOKS, crowded, growth

COUNT = 100_000
GROWTH_MAX = 500.0
"""Milliseconds by which the p99 of a 250 may grow: ten times the budget, since this machine may do other things."""
START_MAX = 20.0
"""Seconds."""


def test_new_mail_does_not_notice_who_looks_at_a_crowd(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    with crowded(tmp_path, count=COUNT, disk="2G", say=say) as (relay, start):
        say(HEADER)
        relay.quiet("nothing", 5.0)
        for look in LOOKS:
            relay.ask(1.0, *look)
        relay.metrics(1.0)
        relay.ask(0.0, "queue", "list", "--limit", "10000")
        relay.ask(0.0, "queue", "flush", "--all", "--yes")
        relay.quiet("nothing, all of it due", 4.0)
        say(f"{relay.memory()} MiB; p99 grows by {growth(relay):.0f} ms at most")
        relay.settled(COUNT)
    assert start.seconds < START_MAX
    assert growth(relay) < GROWTH_MAX
