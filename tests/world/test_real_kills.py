"""One process after the other is killed under a mixed load: nothing is lost, and what comes twice was in flight.

The small sister of tests/soak/test_real.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.world.mixed import Findings
from tests.world.real_kills import killed_again_and_again

MESSAGES = 1500
KILLS = 6


def test_records_that_are_late_are_seen() -> None:
    """Deliveries before a kill are as old as any: with a record 400 ms late half of those repeated are too old."""

    def found(late: float, doubles: int) -> Findings:
        ages = [late * number / doubles for number in range(doubles)]
        return Findings(taken=1, lost=[], stray=[], spoilt=[], without_cause=[], doubles=doubles, ages=ages)

    found(0.05, 100).assert_doubles_lawful()
    found(0.06, 100).assert_doubles_lawful()
    found(0.1, 10).assert_doubles_lawful()
    for late, doubles, why in ((0.4, 10, "long before a break"), (0.19, 100, "older than promised")):
        with pytest.raises(AssertionError, match=why):
            found(late, doubles).assert_doubles_lawful()


def test_processes_killed_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    found, _ = killed_again_and_again(
        tmp_path, messages=MESSAGES, kills=KILLS, seed=random.SystemRandom().getrandbits(32), say=say
    )
    found.assert_kept()
    found.assert_doubles_lawful()
