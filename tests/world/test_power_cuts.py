"""The power is cut under a mixed load: what got its 250 by then arrives from what the disk held.

The small sister of tests/soak/test_real.py, which also shows that a product that does not sync is found out.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests.world.power_cuts import cut_again_and_again

CUTS = 2


def test_the_power_is_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    done = cut_again_and_again(tmp_path, cuts=CUTS, seed=random.SystemRandom().getrandbits(32), say=say)
    assert len(done.undelivered) == CUTS
    assert not done.lost, done.lost[:20]
    assert done.findings is not None
    done.findings.assert_kept()
