"""The simulation, a quick set of it: fixed seeds hold every law, the same seed plays the same story, bugs are seen.

Each test runs the command in a process of its own, as people do: it fixes the order of sets of text. The long runs are
``make sim``; docs/testing.md has their figures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from postroad.testing.sim.mutant_list import HARMLESS, MUTANTS
from postroad.testing.sim.mutants import PATCHES, SOURCE, Hunt, all_mutants, apply, hunt_all, patch, what_came
from postroad.testing.sim.places import MOMENTS, PLACES
from postroad.testing.sim.shrink import shrink
from postroad.testing.sim.story import Plan
from postroad.testing.sim.summary import SEEDS_MIN, Summary, version_of
from postroad.testing.sim.teller import tell

ROOT = Path(__file__).resolve().parents[2]
QUICK = [f"{first}-{first + 14}" for first in (1, 16, 31, 46)]
SEEN = (
    "reply-before-sync",
    "content-directory-not-synced",
    "content-file-stays-open",
    "shard-that-cannot-be-taken-stays-open",
)
KEPT = sorted((Path(__file__).parent / "stories").glob("*.json"))


def sim(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, "-m", "postroad.testing.sim", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize("seeds", QUICK)
def test_no_law_is_broken(seeds):
    done = sim("run", seeds, "--brief")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 lost" in done.stdout
    assert "not in the list of places" not in done.stdout


@pytest.mark.parametrize("story", KEPT, ids=lambda one: one.stem)
def test_what_was_found_once_stays_mended(story):
    done = sim("replay", "--plan", str(story))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_the_same_seed_is_the_same_story_octet_for_octet():
    once, again = sim("run", "7-9", "--trace", "--brief"), sim("run", "7-9", "--trace", "--brief")
    traces = [line for line in once.stdout.splitlines() if " trace " in line]
    assert len(set(traces)) == 3
    assert traces == [line for line in again.stdout.splitlines() if " trace " in line]


def test_processes_side_by_side_come_to_the_same_and_a_sum_goes_on_where_it_ended(tmp_path):
    alone, together = tmp_path / "alone", tmp_path / "together"
    sim("run", "1-6", "--letters", "20", "--sum", str(alone))
    sim("run", "1-3", "--letters", "20", "--jobs", "2", "--sum", str(together))
    done = sim("run", "1-6", "--letters", "20", "--jobs", "2", "--sum", str(together))
    assert "3 seeds are in the sum already, 3 are left to play" in done.stdout
    sums = [msgspec.json.decode(path.read_bytes(), type=Summary) for path in (alone, together)]
    assert sums[0].played == [(1, 6)]
    for one in sums:
        one.seconds = 0.0
    assert sums[0] == sums[1]
    longer = sim("run", "1-6", "--letters", "30", "--sum", str(alone))
    assert longer.returncode == 2
    assert longer.stderr.startswith("the sum is of stories with 20 letters, not 30")


def test_a_sum_of_another_version_of_the_product_is_not_gone_on_with(tmp_path):
    product, kept = tmp_path / "product", tmp_path / "sum"
    (product / "__pycache__").mkdir(parents=True)
    (product / "a.py").write_text("1")
    first = version_of(product)
    (product / "__pycache__" / "a.pyc").write_text("whatever")
    assert version_of(product) == first
    one = Summary(seeds=1, letters=20, version=first)
    one.write(kept)
    assert f"version {first} of the product" in "\n".join(Summary.read(kept).lines(places=False))
    (product / "a.py").write_text("2")
    one.begin(20, first)
    with pytest.raises(ValueError, match=f"the sum is of version {first} of the product.*: name another file"):
        one.begin(20, version_of(product))
    done = sim("run", "1-2", "--letters", "20", "--sum", str(kept))
    assert (done.returncode, done.stdout) == (2, "")
    assert "name another file, or remove that one" in done.stderr
    (product / "a.py").rename(product / "b.py")
    (product / "b.py").write_text("1")
    assert version_of(product) != first


def test_a_place_that_is_not_in_the_list_is_told_and_a_seldom_one_counted():
    one = Summary(passed={"write WAL in Nobody.knows": 1}, seeds=SEEDS_MIN)
    assert "not in the list of places: write WAL in Nobody.knows" in one.lines(places=False)
    assert one.lines()[-2] == f"places: {len(PLACES)}, of them under 100 in a moment: {len(PLACES)}"
    one.fell = {f"{moment}|{name}": 100 for name in PLACES for moment in MOMENTS}
    assert one.lines()[-2].endswith("under 100 in a moment: 0")
    few = Summary(passed=one.passed, seeds=50).lines()
    assert few[-2].startswith(f"places: {len(PLACES)}; which are seldom is told from 5,000 seeds on")
    assert not any("*" in line for line in few)


def test_messages_are_those_that_were_accepted():
    one = Summary(seeds=1, seconds=2.0, kept={"accepted": 80, "refused": 12, "unknown": 8})
    one.add_sum(Summary(seeds=1, seconds=2.0, kept={"accepted": 20, "refused": 1}))
    lines = one.lines(places=False)
    assert lines[0] == "2 seeds, 100 messages accepted, 0 crashes, 0 lost"
    assert "a second: 25 messages accepted, 0.0 crashes" in lines
    assert "messages begun: 121, of them 100 accepted, 13 refused, 8 unknown" in lines


def test_a_timeline_can_be_read():
    done = sim("replay", "5")
    assert "CRASH (" in done.stdout
    assert "hears 250" in done.stdout
    assert " takes " in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("name", SEEN)
def test_a_bug_is_seen(name):
    done = sim("mutants", name, "--seeds", "20")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "found with seed" in done.stdout


def test_a_bug_is_looked_for_where_and_with_as_many_processes_as_wanted():
    done = sim("mutants", "reply-before-sync", "--from", "31", "--seeds", "20", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert 31 <= int(done.stdout.partition("found with seed")[2].split()[0]) <= 50
    none = sim("mutants", "reply-before-sync", "--from", "31", "--seeds", "0", "--jobs", "2")
    assert "NOT FOUND in seeds 31-30," in none.stdout
    how = Hunt(seeds=20, letters=9, first=31, jobs=2)
    assert how.arguments == ["run", "31-50", "--stop", "--brief", "--letters", "9", "--jobs", "2"]


def test_a_bug_that_can_do_no_harm_is_named_and_not_looked_for():
    said = []
    name, reason = next(iter(HARMLESS.items()))
    assert set(HARMLESS) <= set(all_mutants())
    assert hunt_all([name], Hunt(seeds=1_000_000, letters=100), say=said.append) == 0
    assert said == [f"{name:36} DOES NO HARM: {reason}"]


def test_what_the_simulation_cannot_play_is_not_found():
    law = "seed 3 broke: LOST: s1n3 for a@b"
    own = "seed 2 broke: error of ours: the simulation itself: Exception in callback: KeyError('x')"
    raised = "seed 3 broke: the simulation itself: Traceback (most recent call last):\n  File x\nTypeError: no such\n"
    found = what_came("one", f"seed 3 broke 1 laws; LOST\n{law}\n", "", 1, 1.0)
    assert (found.seed, found.law, found.trouble) == (3, "LOST: s1n3 for a@b", "")
    assert what_came("one", f"{own}\n{law}\n", "", 1, 1.0).seed == 3
    for said, last in ((raised, "TypeError: no such"), (own, "KeyError('x')")):
        found = what_came("one", said, "", 1, 1.0)
        assert found.seed == 0
        assert found.trouble.startswith("the simulation itself: ")
        assert found.trouble.endswith(last)
    assert what_came("one", "", "x\nImportError: y\n", 1, 1.0).trouble == "ImportError: y"


def _copied(paths, source):
    for path in paths:
        target = source / "postroad" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / "postroad" / path, target)


def _compiles(source):
    for path in source.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_each_mutant_still_applies(mutant, tmp_path):
    _copied({path for path, _, _ in mutant.edits}, tmp_path)
    assert apply(mutant, tmp_path) == ""
    _compiles(tmp_path)


@pytest.mark.skipif(not shutil.which("patch"), reason="needs patch")
@pytest.mark.parametrize("file", sorted(PATCHES.glob("*.patch")), ids=lambda one: one.stem)
def test_each_patch_still_applies(file, tmp_path):
    paths = set(re.findall(r"^\+\+\+ b/src/postroad/(\S+)", file.read_text(), re.MULTILINE))
    assert paths
    _copied(paths, tmp_path)
    assert patch(file, tmp_path) == ""
    _compiles(tmp_path)


def test_a_story_is_made_shorter_as_long_as_it_breaks():
    def breaks(plan: Plan) -> bool:
        tokens = {letter.token for sender in plan.senders for letter in sender.letters}
        return "s1n3" in tokens and any(blow.how == "power" for blow in plan.blows)

    plan = tell(5)
    assert breaks(plan)
    shorter = shrink(plan, breaks, tries=1_000)
    assert shorter.letters == 1
    assert len(shorter.blows) == 1
    assert breaks(shorter)
    assert msgspec.json.decode(msgspec.json.encode(shorter), type=Plan) == shorter
