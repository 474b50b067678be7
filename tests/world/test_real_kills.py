"""One process after the other is killed under a mixed load: nothing is lost, and what comes twice was in flight.

The small sister of tests/soak/test_real.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.world.real_kills import killed_again_and_again

MESSAGES = 1500
KILLS = 6


def test_processes_killed_one_after_the_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    found, _ = killed_again_and_again(
        tmp_path, messages=MESSAGES, kills=KILLS, seed=random.SystemRandom().getrandbits(32), say=say
    )
    found.assert_kept()
    found.assert_doubles_lawful()
