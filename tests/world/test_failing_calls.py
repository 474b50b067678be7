"""Syncs and writes of a worker fail, or are its last act, then the power is cut: what got its 250 arrives.

The small sister of tests/soak/test_real.py.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.world.failing_calls import KINDS, Fault, fail


def test_a_call_fails_and_the_power_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    dice = random.SystemRandom()
    faults = [Fault(kind, dice.randint(1, 4)) for kind in KINDS]
    done, _, happened = fail(tmp_path, faults, seed=dice.getrandbits(32), say=say)
    assert happened == dict.fromkeys(KINDS, 1)
    assert not done.lost, done.lost[:20]
    assert done.findings is not None
    done.findings.assert_kept()
