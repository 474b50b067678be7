"""Real processes, killed again and again, and a disk whose power is cut: nothing is lost that got its 250.

Needs root (ext4 on loop devices, FUSE) and about 20 minutes. Each prints its seed and its figures; SOAK_SEED gives
another run the same choices (the processes themselves are not repeated), the other variables its size.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.world.failing_calls import KINDS, Fault, fail
from tests.world.harness import SOURCES
from tests.world.power_cuts import cut_again_and_again
from tests.world.real_kills import ROLES, killed_again_and_again

MESSAGES = int(os.environ.get("SOAK_MESSAGES", "50_000"))
KILLS = int(os.environ.get("SOAK_KILLS", "100"))
CUTS = int(os.environ.get("SOAK_CUTS", "20"))
FAULTS = int(os.environ.get("SOAK_FAULTS", "8"))
"""Of each kind: at the first call, the second, ..."""
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().getrandbits(32)))

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Give a directory that is emptied whatever happens, but for the logs: pytest would keep gigabytes."""
    yield tmp_path
    for left in tmp_path.iterdir():
        if left.suffix == ".img":
            left.unlink()
        elif left.is_dir() and not left.is_mount():
            shutil.rmtree(left, ignore_errors=True)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    def say(line: str) -> None:
        with capsys.disabled():
            print(f"\n{line}", end="", flush=True)

    return say


def test_real_kills(place: Path, say: Callable[[str], None]) -> None:
    found, killed = killed_again_and_again(place, messages=MESSAGES, kills=KILLS, seed=SEED, say=say)
    found.assert_kept()
    found.assert_doubles_lawful()
    assert found.taken >= MESSAGES
    assert killed.total() >= KILLS
    assert set(killed) == set(ROLES)


def test_power_cuts(place: Path, say: Callable[[str], None]) -> None:
    done = cut_again_and_again(place, cuts=CUTS, seed=SEED, say=say)
    assert not done.lost, done.lost[:20]
    assert done.findings is not None
    done.findings.assert_kept()
    assert len(done.undelivered) == CUTS
    assert sum(bool(owed) for owed in done.undelivered) >= CUTS // 2, "most cuts found nothing that they could lose"
    assert CUTS < 10 or any(done.sectors), "the disk's cache was always empty"


def test_failing_calls(place: Path, say: Callable[[str], None]) -> None:
    faults = [Fault(kind, number) for number in range(1, FAULTS + 1) for kind in KINDS]
    done, generator, happened = fail(place, faults, seed=SEED, say=say)
    assert happened == dict.fromkeys(KINDS, FAULTS)
    assert not done.lost, done.lost[:20]
    assert done.findings is not None
    done.findings.assert_kept()
    assert generator.put_back, "nobody was told 4xx"


@pytest.mark.parametrize("instead", ["synchronous=NORMAL", "synchronous=OFF"])
def test_power_cuts_find_out_who_does_not_sync(place: Path, say: Callable[[str], None], instead: str) -> None:
    """A copy of the product that answers 250 before the disk has it loses mail here: the test can fail."""
    copy = place / "copy"
    shutil.copytree(SOURCES, copy, ignore=shutil.ignore_patterns("__pycache__"))
    store = copy / "postroad" / "spool" / "store.py"
    text = store.read_text()
    assert text.count("synchronous=FULL") == 1
    store.write_text(text.replace("synchronous=FULL", instead))
    done = cut_again_and_again(place, cuts=5, seed=SEED, say=say, sources=copy)
    say(f"{instead}: {len(done.lost)} lost of {done.undelivered[-1]} that were on the disk alone")
    assert done.lost
