"""A relay with 1,000,000 deferred messages: people look at the queue and steer it, and new mail does not notice.

Needs root (an ext4 on a loop device), 10 GB of disk and half an hour; the figures mean something on a machine that does
nothing else. Prints a table; the budgets are those of docs/testing.md.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.world.crowded import HEADER, LOOKS, crowded, growth

COUNT = 1_000_000
ROUNDS = 3
"""Of each figure the median of so many rounds counts."""
GROWTH_MAX = 50.0
"""Milliseconds by which the p99 of a 250 may grow."""
START_MAX = 10.0
"""Seconds."""
START_PSS_MAX = PSS_MAX = 300
"""MiB of all processes, after the start and at most."""
PROBES_MAX = 40
"""Connections to a next hop that is down, in the minutes after all its mail was made due."""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Give a directory that is emptied whatever happens: pytest would keep 10 GB."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_new_mail_does_not_notice_who_looks_at_a_million(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    with crowded(place, count=COUNT, disk="9G", say=say) as (relay, start):
        say(HEADER)
        relay.quiet("nothing", 60.0)
        for _ in range(ROUNDS):
            for look in LOOKS:
                relay.ask(20.0, *look)
            relay.metrics(20.0)
            relay.quiet("nothing", 20.0)
        relay.ask(0.0, "queue", "list")
        before = relay.attempts()
        relay.ask(0.0, "queue", "flush", "--all", "--yes")
        for _ in range(ROUNDS):
            relay.quiet("nothing, all of it due", 60.0)
            relay.ask(20.0, "queue", "stats")
        probes = relay.attempts() - before
        say(f"{relay.memory()} MiB; {probes} connections to the dead next hop; p99 grows by {growth(relay):.0f} ms")
        relay.settled(COUNT)
    assert start.seconds < START_MAX
    assert start.pss < START_PSS_MAX
    assert max(one.pss for one in relay.rounds) < PSS_MAX
    assert probes < PROBES_MAX
    assert growth(relay) < GROWTH_MAX
